//! Client addresses behind a reverse proxy, which curl plays here: 127.0.0.1 is trusted to say whom it forwards for.
//!
//! ```sh
//! cargo run --example behind_proxy --features axum
//! curl -i -H 'X-Forwarded-For: 203.0.113.7' http://127.0.0.1:3000/
//! # What the client itself claims stands further left, and is not believed: this is 203.0.113.7 again.
//! curl -i -H 'X-Forwarded-For: 198.51.100.1, 203.0.113.7' http://127.0.0.1:3000/
//! ```
#![allow(clippy::print_stdout)]

use axum::{Router, routing::get};
use std::{env, error::Error, net::SocketAddr};
use tidegate::{Limiter, Policy, TrustedProxies};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Refusals are logged at INFO, to standard error here.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();

    // Name the networks that your proxies connect from, and nobody else's.
    let proxies = TrustedProxies::x_forwarded_for(["127.0.0.1", "::1"]);
    let policy = Policy::per_client("5 per 10s".parse()?).trust_proxies(proxies);
    // Addresses are personal data, so logs have fingerprints of them unless told otherwise.
    let limiter = Limiter::builder(policy).plain_addresses().build()?;
    let app = Router::new().route("/", get(|| async { "hello\n" })).layer(limiter.layer());

    let listener = TcpListener::bind(env::var("ADDR").unwrap_or("127.0.0.1:3000".into())).await?;
    println!("curl -i -H 'X-Forwarded-For: 203.0.113.7' http://{}/", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
