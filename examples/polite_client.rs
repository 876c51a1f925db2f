//! A client of a limited API that is never refused: it reads what the API still admits from each answer, and spreads that over
//! time. 10,000 requests go through a limit of 2,000 a second, which the client does not know.
//!
//! ```sh
//! cargo run --release --example polite_client --features pace
//! ```
#![allow(clippy::print_stdout)]

use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use std::{convert::Infallible, error::Error, time::Instant};
use tidegate::{Feedback, Identity, Limit, Limiter, PaceLayer, Pacer, Policy, Quota, Source};
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt, service_fn};

/// Somebody's API: 2,000 requests a second for each client.
async fn serve(listener: TcpListener, limiter: Limiter) -> std::io::Result<()> {
    let answer = |_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) };
    loop {
        let (socket, _) = listener.accept().await?;
        let service = TowerToHyperService::new(limiter.layer().layer(service_fn(answer)));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let policy = Policy::per_client(Quota::per_second(2_000)).identify(Source::header("x-client"));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(serve(listener, Limiter::new(policy)?));

    // No faster than this, whatever the API admits.
    let pacer = Pacer::new([Limit::shared("requests", Quota::per_second(50_000))])?;
    let pacer = pacer.feedback(Feedback::new())?;
    let layer = PaceLayer::new(pacer, |_: &Request<Empty<Bytes>>| Identity::name("api")).judge_answers();
    let client = layer.layer(Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>());

    let (start, mut refused) = (Instant::now(), Vec::new());
    let requests = (0..10_000).map(|_| {
        let request = Request::get(&url).header("x-client", "ann").body(Empty::new());
        let client = client.clone();
        async move {
            let answer = client.oneshot(request?).await?;
            let status = answer.status();
            answer.into_body().collect().await?;
            Ok::<_, Box<dyn Error>>(status)
        }
    });
    let mut answers = stream::iter(requests).buffer_unordered(50);
    while let Some(status) = answers.next().await {
        if !status?.is_success() {
            refused.push(start.elapsed().as_secs());
        }
    }
    let took = start.elapsed().as_secs_f64();
    println!("10000 requests in {took:.1} s, {} refused, in the seconds {refused:?}", refused.len());
    Ok(())
}
