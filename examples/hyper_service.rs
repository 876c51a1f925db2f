//! A hyper service without axum, over HTTP/1.1 and HTTP/2.
//!
//! ```sh
//! cargo run --example hyper_service
//! for i in 1 2 3 4 5 6; do curl -i --http2-prior-knowledge http://127.0.0.1:3000/; done
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)]

use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{convert::Infallible, env, error::Error};
use tidegate::{Limiter, PeerAddr, Policy};
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt, service_fn};

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"hello\n"))))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // One limiter for all connections: what is made from a layer shares its counts.
    let limiter = Limiter::new(Policy::per_client("5 per 10s".parse()?))?;
    let service = limiter.layer().layer(service_fn(hello));

    let listener = TcpListener::bind(env::var("ADDR").unwrap_or("127.0.0.1:3000".into())).await?;
    println!("curl -i --http2-prior-knowledge http://{}/", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept().await?;
        let service = service.clone().map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(PeerAddr(peer));
            request
        });
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            if let Err(error) = connection.await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}
