//! What `serve` does for everybody: requests go through as they are, and refusals do not.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Proxy, Upstream, eventually, limited, settings};

const GET: &str = "GET /a?b=c HTTP/1.1\r\nHost: example.com\r\n\r\n";

#[tokio::test]
async fn a_request_goes_through_and_its_answer_comes_back() {
    let upstream = Upstream::answering(
        "HTTP/1.1 201 Made\r\ncontent-length: 2\r\nx-own: 1\r\nset-cookie: a\r\nset-cookie: b\r\n\r\nok",
    )
    .await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    client
        .send("POST /a?b=c HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\nX-Own: 1\r\n\r\nabc")
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (201, "ok"));
    assert!(answer.head.starts_with("HTTP/1.1 201 Made\r\n"), "{}", answer.head);
    assert!(answer.head.contains("set-cookie: a\r\nset-cookie: b\r\n"), "{}", answer.head);
    assert_eq!(answer.field("x-own"), Some("1"));
    assert_eq!(
        upstream.seen(),
        "POST /a?b=c HTTP/1.1\r\nhost: example.com\r\ncontent-length: 3\r\nx-own: 1\r\n\
         x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: example.com\r\n\
         via: 1.1 tide\r\n\r\nabc"
    );
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let upstream = Upstream::ok().await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    for _ in 0..50 {
        client.send(GET).await;
        assert_eq!(client.answer().await.text(), "ok");
    }
    let mut other = proxy.connect().await;
    other.send(GET).await;
    assert_eq!(other.answer().await.text(), "ok");
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::ok().await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    client.send(GET.repeat(20)).await;
    for _ in 0..20 {
        assert_eq!(client.answer().await.text(), "ok");
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_refusal_does_not_reach_the_upstream_and_is_told_as_the_layer_tells_it() {
    let upstream = Upstream::ok().await;
    let proxy = Proxy::start(&settings(upstream.address), &limited("1/minute"));
    let mut client = proxy.connect().await;
    client.send(GET).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.field("ratelimit")), (200, Some("\"client\";r=0;t=60")));
    client.send(GET).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.field("retry-after")), (429, Some("60")));
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    assert_eq!(answer.field("connection"), None);
    proxy.stop().await;
    assert_eq!(upstream.seen().matches("GET ").count(), 1);
}

#[tokio::test]
async fn a_refusal_costs_no_upload_and_is_read_by_a_client_that_uploads() {
    let upstream = Upstream::ok().await;
    let proxy = Proxy::start(&settings(upstream.address), &limited("1/hour"));
    proxy.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    // With Expect, no 100 is sent.
    let answer =
        proxy.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    // Without, the client is half-way through its body. Bytes that nobody reads would be answered with a reset.
    let mut client = proxy.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 600000\r\n\r\n").await;
    client.send(vec![b'x'; 300_000]).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 429);
    client.send(vec![b'x'; 300_000]).await;
    assert_eq!(client.rest().await, "");
    assert_eq!(upstream.seen().matches("POST").count(), 0);
}

#[tokio::test]
async fn an_upstream_that_is_down_is_a_502_and_serves_again_when_it_is_back() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let proxy = Proxy::open(address);
    let mut client = proxy.connect().await;
    client.send(GET).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.field("content-type")), (502, Some("application/problem+json")));
    assert!(answer.text().contains("\"status\":502"), "{}", answer.text());
    let _back = Upstream::at(address, |mut exchange| async move {
        while exchange.request().await.is_some() {
            exchange.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    })
    .await;
    client.send(GET).await;
    assert_eq!(client.answer().await.status, 204);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_connection_to_the_upstream() {
    let upstream = Upstream::new(|mut exchange| async move {
        exchange.request().await;
        // No answer ever.
        exchange.closed().await;
    })
    .await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    client.send(GET).await;
    eventually("the request is there", || upstream.open() == 1 && upstream.seen().contains("GET")).await;
    drop(client);
    eventually("the upstream is left", || upstream.open() == 0).await;
}

#[tokio::test]
async fn a_large_body_goes_both_ways() {
    let upstream = Upstream::new(|mut exchange| async move {
        while let Some(request) = exchange.request().await {
            let body = request.split_once("\r\n\r\n").unwrap().1.to_owned();
            exchange.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
        }
    })
    .await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    let body: String = (0..200_000u32).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    for _ in 0..3 {
        client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
            .await;
        assert_eq!(client.answer().await.text(), body);
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_port_in_use_is_said() {
    let taken = Proxy::open("127.0.0.1:9".parse().unwrap());
    let mut settings = settings("127.0.0.1:9".parse().unwrap());
    settings.server.listen = vec![taken.address.to_string().parse().unwrap()];
    let error = tidegate_proxy::Server::start(&settings, &common::open().layer()).unwrap_err();
    assert!(error.to_string().contains("is in use"), "{error}");
}
