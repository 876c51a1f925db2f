//! Bytes that count and wait in both directions, and permits that last as long as an upgraded connection.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Proxy, Upstream, eventually, settings};
use std::{
    future::{Future, IntoFuture},
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tidegate::{Bandwidth, Concurrency, Identity, Limit, Limiter, Policy, Quota, Rule};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

fn limiter(rule: Rule) -> Limiter {
    Limiter::builder(Policy::new().rule(rule)).timer(tokio::time::sleep).build().unwrap()
}

/// 200 KB a second and 100 KB at once.
fn limit(bandwidth: Bandwidth) -> Limiter {
    let quota = Quota::per_second(200).burst(100);
    limiter(Rule::new("r").limit(Limit::per_client("bytes", quota).settle(bandwidth)))
}

fn paced(bandwidth: fn(u32) -> Bandwidth) -> Limiter {
    limit(bandwidth(1000).pace(Duration::from_secs(5)))
}

fn post(bytes: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n{}", "x".repeat(bytes))
}

/// What the client owes; in memory the answer is there at once.
fn owed(limiter: &Limiter) -> Duration {
    let client = limiter.client(&Identity::address([127, 0, 0, 1].into()));
    let peek = pin!(client.peek("r").into_future()).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Ok(peek)) = peek else { return Duration::MAX };
    peek.limits().next().unwrap().reading().reset_after()
}

/// Answers each request with as many bytes as it was sent.
async fn mirror() -> Upstream {
    Upstream::new(|mut exchange| async move {
        while let Some(request) = exchange.request().await {
            let body = request.split_once("\r\n\r\n").unwrap().1.to_owned();
            exchange.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
        }
    })
    .await
}

#[tokio::test]
async fn what_an_upload_owes_refuses_the_next_request() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings(upstream.address), &limit(Bandwidth::requests(1000)));
    let mut client = proxy.connect().await;
    client.send(post(180_000)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.len()), (200, 180_000));
    let policy = answer.field("ratelimit-policy");
    assert_eq!(policy, Some("\"bytes\";q=200000;w=1;qu=\"content-bytes\""));
    client.send(post(1)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.field("retry-after")), (429, Some("1")));
}

#[tokio::test]
async fn bodies_wait_in_both_directions_and_arrive_whole() {
    let upstream = mirror().await;
    for bandwidth in [Bandwidth::requests, Bandwidth::responses] {
        let mut settings = settings(upstream.address);
        // Waiting is neither the client's fault nor the upstream's.
        settings.server.timeouts.body = "250ms".parse().unwrap();
        settings.upstreams[0].timeouts.response = "250ms".parse().unwrap();
        settings.upstreams[0].timeouts.body = "250ms".parse().unwrap();
        let proxy = Proxy::start(&settings, &paced(bandwidth));
        let mut client = proxy.connect().await;
        let began = Instant::now();
        client.send(post(300_000)).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.len()), (200, 300_000));
        // 100 KB at once, and a second for the other 200; no later test depends on how much longer it takes.
        assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_client_that_leaves_gives_back_what_was_not_sent() {
    let upstream = mirror().await;
    let quota = Quota::per_minute(60).burst(100);
    let limit =
        Limit::per_client("bytes", quota).settle(Bandwidth::responses(1000).pace(Duration::from_secs(60)));
    let limiter = limiter(Rule::new("r").limit(limit));
    let proxy = Proxy::start(&settings(upstream.address), &limiter);
    let mut client = proxy.connect().await;
    client.send(post(300_000)).await;
    client.take(90_000).await;
    let owed = || owed(&limiter);
    // 100 KB have gone, and 4 more wait.
    eventually("a piece waits", || owed() > Duration::from_secs(101)).await;
    drop(client);
    eventually("it was given back", || owed() <= Duration::from_secs(101)).await;
}

#[tokio::test]
async fn an_upgraded_connection_holds_its_permit_to_its_end() {
    let upstream = Upstream::new(|mut exchange| async move {
        exchange.request().await;
        exchange.send(SWITCH).await;
        exchange.closed().await;
    })
    .await;
    let limiter = limiter(Rule::new("r").concurrency(Concurrency::per_client("streams", 2)));
    let proxy = Proxy::start(&settings(upstream.address), &limiter);
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = proxy.connect().await;
        client.send(ASK).await;
        assert_eq!(client.answer().await.status, 101);
        open.push(client);
    }
    assert!(proxy.ask(ASK.replace("Upgrade\r\nU", "close\r\nU")).await.starts_with("HTTP/1.1 429 "));
    open.pop();
    eventually("a permit is back", || limiter.in_flight() == 1 && upstream.open() == 1).await;
    let mut client = proxy.connect().await;
    client.send(ASK).await;
    assert_eq!(client.answer().await.status, 101);
    drop((client, open));
    eventually("all permits are back", || limiter.in_flight() == 0).await;
}

#[tokio::test]
async fn the_bytes_of_an_upgraded_connection_wait_both_ways() {
    let upstream = Upstream::new(|mut exchange| async move {
        exchange.request().await;
        exchange.send(SWITCH).await;
        while let Some(bytes) = exchange.bytes(1000).await {
            exchange.send(bytes).await;
        }
    })
    .await;
    let proxy = Proxy::start(&settings(upstream.address), &paced(Bandwidth::both));
    let mut client = proxy.connect().await;
    let began = Instant::now();
    client.send(ASK).await;
    client.answer().await;
    client.send(vec![b'x'; 150_000]).await;
    assert_eq!(client.take(150_000).await.len(), 150_000);
    // 300 KB in all.
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
}
