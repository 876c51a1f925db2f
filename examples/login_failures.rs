//! Five wrong passwords a minute for each address. Right ones do not count, but wait like all others once five were wrong.
//!
//! ```sh
//! cargo run --example login_failures --features axum
//! curl -i -d 'open sesame' http://127.0.0.1:3000/login                                   # as often as you like
//! for i in 1 2 3 4 5 6; do curl -i -d 'a guess' http://127.0.0.1:3000/login; done
//! ```
#![allow(clippy::print_stdout)]

use axum::{
    Router,
    http::{Method, StatusCode},
    routing::post,
};
use std::{env, error::Error, net::SocketAddr};
use tidegate::{Limit, Limiter, Policy, Rule, Settle};
use tokio::net::TcpListener;

async fn login(password: String) -> (StatusCode, &'static str) {
    match password.as_str() {
        "open sesame" => (StatusCode::OK, "welcome\n"),
        _ => (StatusCode::UNAUTHORIZED, "wrong password\n"),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Each attempt is charged before the password is looked at and given back if it was right, so that many guesses
    // at the same time get no further than one after another.
    let failures = Limit::per_client("failed logins", "5/minute".parse()?)
        .settle(Settle::count(|status| status == StatusCode::UNAUTHORIZED));
    let policy = Policy::new().rule(Rule::new("login").method(Method::POST).route("/login").limit(failures));
    let limiter = Limiter::new(policy)?;
    let app = Router::new().route("/login", post(login)).layer(limiter.layer());

    let listener = TcpListener::bind(env::var("ADDR").unwrap_or("127.0.0.1:3000".into())).await?;
    println!("curl -i -d 'a guess' http://{}/login", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
