//! A refusal of one's own: a page for browsers, and JSON in the house's style for everybody else.
//!
//! ```sh
//! cargo run --example custom_refusal --features axum
//! for i in 1 2 3; do curl -i http://127.0.0.1:3000/; done
//! curl -i -H 'Accept: text/html' http://127.0.0.1:3000/
//! ```
#![allow(clippy::print_stdout)]

use axum::{
    Router,
    body::Bytes,
    http::{HeaderValue, Response, header},
    routing::get,
};
use std::{env, error::Error, net::SocketAddr};
use tidegate::{Limiter, Policy, Refusal, RequestHead};
use tokio::net::TcpListener;

/// `Retry-After`, `Cache-Control: no-store` and the `RateLimit` fields are added to it.
fn refuse(refusal: &Refusal<'_>, head: RequestHead<'_>) -> Response<Bytes> {
    let wait = refusal.retry_after_secs().unwrap_or_default();
    let accepts_html = head
        .header("accept")
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    let (content_type, body) = if accepts_html {
        ("text/html", format!("<h1>Not so fast</h1><p>Come back in {wait} s.</p>\n"))
    } else {
        ("application/json", format!("{{\"error\":\"slow_down\",\"seconds\":{wait}}}\n"))
    };
    let mut response = Response::new(body.into());
    // Not every refusal is a 429: the policy decides, and says why in `refusal.reason()`.
    *response.status_mut() = refusal.status();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let limiter = Limiter::new(Policy::per_client("2 per 10s".parse()?))?;
    let app = Router::new().route("/", get(|| async { "hello\n" })).layer(limiter.layer().refusal(refuse));

    let listener = TcpListener::bind(env::var("ADDR").unwrap_or("127.0.0.1:3000".into())).await?;
    println!("for i in 1 2 3; do curl -i http://{}/; done", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
