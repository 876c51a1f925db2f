//! Clients by API key, else by address; and a route that refuses whoever has no key.
//!
//! ```sh
//! cargo run --example api_keys --features axum
//! curl -i -H 'x-api-key: ann' http://127.0.0.1:3000/   # five in ten seconds for each key
//! curl -i http://127.0.0.1:3000/                       # and for each address without one
//! curl -i http://127.0.0.1:3000/reports                # 401, which the address pays for
//! ```
#![allow(clippy::print_stdout)]

use axum::{Router, routing::get};
use std::{env, error::Error, net::SocketAddr};
use tidegate::{Limit, Limiter, Policy, Rule, Source};
use tokio::net::TcpListener;

fn policy() -> Result<Policy, tidegate::QuotaError> {
    let api_key = || Source::api_key_header("x-api-key");
    Ok(Policy::new()
        .identify(api_key().or(Source::address()))
        .rule(Rule::new("client").limit(Limit::per_client("client", "5 per 10s".parse()?)))
        // Whoever invents a key gets a fresh quota with it. What all keys at one address may do has an end, too,
        // and so have guesses, which other rules reject.
        .rule(
            Rule::new("address")
                .identify(Source::address())
                .limit(Limit::per_client("address", "12/minute".parse()?)),
        )
        .rule(
            Rule::new("reports")
                .route("/reports")
                .identify(api_key().or_refuse())
                .limit(Limit::per_client("reports", "2/minute".parse()?)),
        ))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let limiter = Limiter::new(policy()?)?;
    let app = Router::new()
        .route("/", get(|| async { "hello\n" }))
        .route("/reports", get(|| async { "a report\n" }))
        .layer(limiter.layer());

    let listener = TcpListener::bind(env::var("ADDR").unwrap_or("127.0.0.1:3000".into())).await?;
    println!("curl -i -H 'x-api-key: ann' http://{}/", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
