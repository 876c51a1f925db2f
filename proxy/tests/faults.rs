//! Upstreams that fail in every way: what the client gets, what it is charged, and that nothing is left behind.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Proxy, Upstream, eventually, open, settings};
use tidegate::{Limit, Limiter, Policy, Quota, Rule, Settle};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// What an upstream sends and what becomes of it: status and body.
const BAD: &[(&str, &str)] = &[
    ("nothing", ""),
    ("garbage", "\x01\x02 garbage\r\n\r\n"),
    ("half a head", "HTTP/1.1 200 OK\r\nX-A: b"),
    ("another protocol", "SSH-2.0-x\r\n\r\n"),
    ("another version", "HTTP/3.0 200 OK\r\n\r\n"),
    ("no status", "HTTP/1.1 OK\r\n\r\n"),
    ("a status too large", "HTTP/1.1 9999 X\r\n\r\n"),
    ("a status too small", "HTTP/1.1 99 X\r\n\r\n"),
    ("both framings", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!"),
    ("two lengths that agree", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"),
    ("a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok"),
    ("a length with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"),
    ("another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok"),
    ("another coding before", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (
        "chunked twice",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("chunks in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("obs-fold", "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok"),
    ("a bare CR", "HTTP/1.1 200 OK\r\nX-A: b\rX-B: c\r\nContent-Length: 2\r\n\r\nok"),
    ("a NUL", "HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 2\r\n\r\nok"),
    ("a name before a space", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"),
];

#[tokio::test]
async fn what_is_no_answer_is_a_502() {
    for (name, answer) in BAD {
        let upstream = Upstream::closing(answer).await;
        let proxy = Proxy::open(upstream.address);
        let mut client = proxy.connect().await;
        client.send(GET).await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.field("content-type")),
            (502, Some("application/problem+json")),
            "{name}"
        );
        assert_eq!(upstream.connections(), 1, "{name}: it was asked again");
        // The client's connection is none the worse.
        client.send(GET).await;
        assert_eq!(client.answer().await.status, 502, "{name}");
        eventually("the upstream is left", || upstream.open() == 0).await;
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_a_502() {
    let upstream = Upstream::new(|mut exchange| async move {
        exchange.request().await;
        exchange.send(format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "b".repeat(1 << 20))).await;
    })
    .await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    client.send(GET).await;
    assert_eq!(client.answer().await.status, 502);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_made_to_look_whole() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        let upstream = Upstream::closing(answer).await;
        let proxy = Proxy::open(upstream.address);
        let mut client = proxy.connect().await;
        client.send(GET).await;
        let all = client.rest().await;
        assert!(all.starts_with("HTTP/1.1 200 OK\r\n"), "{all}");
        assert!(!all.contains("\r\n0\r\n") && !all.ends_with("0\r\n\r\n"), "{all}");
        let body = all.split_once("\r\n\r\n").unwrap().1;
        assert!(["half", "4\r\nhalf\r\n", ""].contains(&body), "{all}");
        eventually("the upstream is left", || upstream.open() == 0).await;
    }
}

#[tokio::test]
async fn a_reset_is_a_502() {
    let upstream = Upstream::new(|mut exchange| async move {
        exchange.request().await;
        exchange.stream.set_zero_linger().unwrap();
    })
    .await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    client.send(GET).await;
    assert_eq!(client.answer().await.status, 502);
}

#[tokio::test]
async fn a_hung_upstream_is_a_504_and_left() {
    let upstream = Upstream::new(|mut exchange| async move { exchange.closed().await }).await;
    let mut settings = settings(upstream.address);
    settings.upstreams[0].timeouts.response = "100ms".parse().unwrap();
    let proxy = Proxy::start(&settings, &open());
    let mut client = proxy.connect().await;
    for request in [GET, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"] {
        client.send(request).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.field("content-type")), (504, Some("application/problem+json")));
    }
    assert_eq!(upstream.connections(), 2);
    eventually("the upstream is left", || upstream.open() == 0).await;
}

#[tokio::test]
async fn a_body_that_stops_coming_is_cut_off() {
    let upstream = Upstream::new(|mut exchange| async move {
        exchange.request().await;
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
        exchange.closed().await;
    })
    .await;
    let mut settings = settings(upstream.address);
    settings.upstreams[0].timeouts.body = "100ms".parse().unwrap();
    let proxy = Proxy::start(&settings, &open());
    let mut client = proxy.connect().await;
    client.send(GET).await;
    assert!(client.rest().await.ends_with("\r\n\r\nhalf"));
    eventually("the upstream is left", || upstream.open() == 0).await;
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_not_seen_by_the_client() {
    // It answers once, and closes when the next request comes.
    let upstream = Upstream::new(|mut exchange| async move {
        exchange.request().await;
        exchange.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        exchange.request().await;
    })
    .await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(client.answer_to(method).await.status, 200, "{method}");
    }
    assert_eq!(upstream.connections(), 5);
    // What may have been done is not done again.
    for request in
        ["POST / HTTP/1.1\r\nHost: a\r\n\r\n", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"]
    {
        let before = upstream.connections();
        client.send(request).await;
        assert_eq!(client.answer().await.status, 502, "{request}");
        assert_eq!(upstream.connections(), before);
        client.send(GET).await;
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_are_nobodys_answer() {
    let evil = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let upstream = Upstream::new(move |mut exchange| async move {
        exchange.request().await;
        exchange.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok{evil}")).await;
        exchange.closed().await;
    })
    .await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    for connections in 1..4 {
        client.send(GET).await;
        assert_eq!(client.answer().await.text(), "ok");
        assert_eq!(upstream.connections(), connections);
    }
    // Nor is a body where there can be none.
    for answer in ["HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nevil", "HTTP/1.1 304 X\r\n\r\nevil"] {
        let upstream = Upstream::answering(answer).await;
        let proxy = Proxy::open(upstream.address);
        let mut client = proxy.connect().await;
        for _ in 0..3 {
            client.send(GET).await;
            let answer = client.answer().await;
            assert!([204, 304].contains(&answer.status), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_what_they_say_of_it() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n").await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.answer_to("HEAD").await.field("content-length"), Some("12"));
    }
    assert_eq!(upstream.connections(), 1);
    // Nothing is said where the upstream says nothing.
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nx-a: b\r\n\r\n").await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = client.answer_to("HEAD").await;
    assert_eq!((answer.field("content-length"), answer.field("x-a")), (None, Some("b")));
    for status in [204, 304] {
        let text =
            if status == 204 { "HTTP/1.1 204 X\r\n\r\n" } else { "HTTP/1.1 304 X\r\netag: \"a\"\r\n\r\n" };
        let upstream = Upstream::answering(text).await;
        let proxy = Proxy::open(upstream.address);
        let mut client = proxy.connect().await;
        for _ in 0..2 {
            client.send(GET).await;
            let answer = client.answer().await;
            assert_eq!((answer.status, answer.field("content-length")), (status, None));
        }
        assert_eq!(upstream.connections(), 1);
    }
}

#[tokio::test]
async fn what_ends_with_its_connection_is_sent_in_chunks_and_whole() {
    for answer in
        ["HTTP/1.1 200 OK\r\n\r\nto the end", "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nto the end"]
    {
        let upstream = Upstream::closing(answer).await;
        let proxy = Proxy::open(upstream.address);
        let mut client = proxy.connect().await;
        for _ in 0..2 {
            client.send(GET).await;
            let answer = client.answer().await;
            assert_eq!((answer.field("transfer-encoding"), answer.text()), (Some("chunked"), "to the end"));
        }
        // HTTP/1.0 has no chunks.
        let answer = proxy.ask("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
        assert!(!answer.contains("chunked") && answer.ends_with("\r\n\r\nto the end"), "{answer}");
    }
}

#[tokio::test]
async fn interim_answers_are_not_taken_for_the_last() {
    let upstream = Upstream::answering(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    for _ in 0..2 {
        client.send(GET).await;
        assert_eq!(client.answer().await.text(), "ok");
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn the_charge_follows_the_policy() {
    let upstream = Upstream::closing("garbage").await;
    let limit = Limit::per_client("good", Quota::per_hour(2))
        .settle(Settle::refund(|status| status.is_server_error()));
    let refunding = Limiter::new(Policy::new().rule(Rule::new("all").limit(limit))).unwrap();
    let proxy = Proxy::start(&settings(upstream.address), &refunding);
    let mut client = proxy.connect().await;
    for _ in 0..5 {
        client.send(GET).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.field("ratelimit")), (502, Some("\"good\";r=2")));
    }
    let proxy = Proxy::start(&settings(upstream.address), &common::limited("2/hour"));
    let mut client = proxy.connect().await;
    for status in [502, 502, 429] {
        client.send(GET).await;
        assert_eq!(client.answer().await.status, status);
    }
}
