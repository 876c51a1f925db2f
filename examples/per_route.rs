//! Rules by method and route. Every rule that matches applies; a request passes all of their limits or is charged to none.
//!
//! ```sh
//! cargo run --example per_route --features axum
//! curl -i http://127.0.0.1:3000/items/7             # four in ten seconds on each route; /items/8 is the same one
//! curl -i -X POST http://127.0.0.1:3000/items       # and two a minute for whoever writes
//! curl -i http://127.0.0.1:3000/search              # and three in ten seconds, shared by all clients
//! curl -i http://127.0.0.1:3000/health              # no limit
//! ```
#![allow(clippy::print_stdout)]

use axum::{Router, http::Method, routing::get};
use std::{env, error::Error, net::SocketAddr};
use tidegate::{Limit, Limiter, Policy, QuotaError, Rule};
use tokio::net::TcpListener;

fn policy() -> Result<Policy, QuotaError> {
    let write = Rule::new("write")
        .method(Method::POST)
        .method(Method::PUT)
        .method(Method::DELETE)
        .limit(Limit::per_client("write", "2/minute".parse()?));
    let search = Rule::new("search").route("/search").limit(Limit::shared("search", "3 per 10s".parse()?));
    let routes = Rule::new("routes").limit(Limit::per_client_and_route("route", "4 per 10s".parse()?));
    Ok(Policy::new()
        // Without limits, and the last word on what it matches: the rules below never see a health check.
        .rule(Rule::new("health").route("/health").only())
        .rule(write)
        .rule(search)
        .rule(routes))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let limiter = Limiter::new(policy()?)?;
    let app = Router::new()
        .route("/health", get(|| async { "well\n" }))
        .route("/items", get(|| async { "items\n" }).post(|| async { "created\n" }))
        .route("/items/{id}", get(|| async { "an item\n" }))
        .route("/search", get(|| async { "found\n" }))
        .layer(limiter.layer());

    let listener = TcpListener::bind(env::var("ADDR").unwrap_or("127.0.0.1:3000".into())).await?;
    println!("curl -i http://{}/items/7", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
