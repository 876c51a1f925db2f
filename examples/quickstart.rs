//! Five requests in ten seconds for each client address.
//!
//! ```sh
//! cargo run --example quickstart
//! for i in 1 2 3 4 5 6; do curl -i http://127.0.0.1:3000/; done
//! ```
#![allow(clippy::print_stdout)]

use axum::{Router, extract::ConnectInfo, extract::Request, middleware::map_request, routing::get};
use std::{env, error::Error, net::SocketAddr};
use tidegate::{Limiter, PeerAddr, Policy};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let limiter = Limiter::new(Policy::per_client("5 per 10s".parse()?))?;
    let app = Router::new()
        .route("/", get(|| async { "hello\n" }))
        .layer(limiter.layer())
        .layer(map_request(tell_peer));

    let listener = TcpListener::bind(env::var("ADDR").unwrap_or("127.0.0.1:3000".into())).await?;
    println!("for i in 1 2 3 4 5 6; do curl -i http://{}/; done", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

/// Tells the limiter who is asking. Leave it out where tidegate has its feature `axum`, as in the other examples:
/// then it looks for axum's `ConnectInfo` itself.
async fn tell_peer(ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request) -> Request {
    request.extensions_mut().insert(PeerAddr(peer));
    request
}
