//! Clients that are slow, on purpose or not.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Proxy, Upstream, eventually, open, settings};
use std::time::{Duration, Instant};
use tidegate_proxy::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn hasty(upstream: &Upstream) -> Settings {
    let mut settings = settings(upstream.address);
    let timeouts = &mut settings.server.timeouts;
    timeouts.head = "300ms".parse().unwrap();
    timeouts.body = "300ms".parse().unwrap();
    timeouts.write = "300ms".parse().unwrap();
    timeouts.idle = "900ms".parse().unwrap();
    settings
}

#[tokio::test]
async fn a_head_that_trickles_ends_its_connection() {
    let upstream = Upstream::ok().await;
    let proxy = Proxy::start(&hasty(&upstream), &open());
    // On a new connection, and behind a request.
    for first in ["", GET] {
        let mut client = proxy.connect().await;
        client.send(first).await;
        if !first.is_empty() {
            client.answer().await;
        }
        let began = Instant::now();
        for byte in "GET / HTTP/1.1\r\nX-Long: ".bytes().chain(std::iter::repeat(b'x')) {
            let sent = tokio::io::AsyncWriteExt::write_all(&mut client.stream, &[byte]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            if sent.is_err() || began.elapsed() > common::PATIENCE {
                break;
            }
        }
        assert!(began.elapsed() >= Duration::from_millis(290) && began.elapsed() < common::PATIENCE);
    }
}

#[tokio::test]
async fn silence_ends_a_connection_and_lasts_longer_behind_a_request() {
    let upstream = Upstream::ok().await;
    let proxy = Proxy::start(&hasty(&upstream), &open());
    let began = Instant::now();
    let mut client = proxy.connect().await;
    assert!(client.is_closed().await);
    assert!((290..890).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    let mut client = proxy.connect().await;
    client.send(GET).await;
    client.answer().await;
    let began = Instant::now();
    assert!(client.is_closed().await);
    assert!((890..5000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_body_that_stops_coming_is_a_408_and_frees_the_upstream() {
    let upstream = Upstream::ok().await;
    let proxy = Proxy::start(&hasty(&upstream), &open());
    for framing in ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let mut client = proxy.connect().await;
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.field("connection")), (408, Some("close")));
        assert_eq!(client.rest().await, "");
    }
    eventually("the upstream is left", || upstream.open() == 0).await;
}

#[tokio::test]
async fn a_body_that_goes_on_may_take_longer_than_an_answer() {
    let upstream = Upstream::ok().await;
    let mut settings = settings(upstream.address);
    settings.upstreams[0].timeouts.response = "100ms".parse().unwrap();
    let proxy = Proxy::start(&settings, &open());
    let mut client = proxy.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n").await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        client.send("x").await;
    }
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test]
async fn a_client_that_does_not_read_ends_its_connection_and_frees_the_upstream() {
    let upstream = Upstream::new(|mut exchange| async move {
        exchange.request().await;
        exchange.send("HTTP/1.1 200 OK\r\n\r\n").await;
        let much = vec![b'x'; 1 << 16];
        while tokio::io::AsyncWriteExt::write_all(&mut exchange.stream, &much).await.is_ok() {}
    })
    .await;
    let proxy = Proxy::start(&hasty(&upstream), &open());
    let mut client = proxy.connect().await;
    client.send(GET).await;
    eventually("the upstream is asked", || upstream.open() == 1).await;
    eventually("the upstream is left", || upstream.open() == 0).await;
}

#[tokio::test]
async fn bounds_on_sizes_hold() {
    let upstream = Upstream::ok().await;
    let mut settings = settings(upstream.address);
    settings.server.max_head = "4KiB".parse().unwrap();
    settings.server.max_fields = 10;
    settings.server.max_body = "1kB".parse().unwrap();
    let proxy = Proxy::start(&settings, &open());
    let large = "x".repeat(5000);
    let many = "X: y\r\n".repeat(11);
    let chunks = "100\r\n".to_owned() + &"x".repeat(256) + "\r\n";
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {large}\r\n\r\n"), "431"),
        (format!("GET /{large} HTTP/1.1\r\nHost: a\r\n\r\n"), "431"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), "431"),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000)), "431"),
        // A head that never ends.
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(1 << 20)), "431"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n".to_owned(), "413"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n".to_owned(),
            "413",
        ),
        (
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunks.repeat(4)),
            "413",
        ),
    ] {
        let answer = proxy.ask(&request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{}: {answer}", &request[..60]);
    }
    assert!(!upstream.seen().contains("\r\n\r\nok"), "{}", upstream.seen());
    let mut client = proxy.connect().await;
    client
        .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{}", "x".repeat(1000)))
        .await;
    assert_eq!(client.answer().await.text(), "ok");
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(3900))).await;
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test]
async fn an_answer_before_the_body_is_all_there_goes_on_with_it() {
    let upstream = Upstream::new(|mut exchange| async move {
        exchange.head().await;
        exchange.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        // Each byte comes back before the next is sent.
        for _ in 0..3 {
            let byte = String::from_utf8(exchange.bytes(1).await.unwrap()).unwrap();
            exchange.send(format!("1\r\n{byte}\r\n")).await;
        }
        exchange.send("0\r\n\r\n").await;
        exchange.closed().await;
    })
    .await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n").await;
    client.until("\r\n\r\n").await;
    for byte in ["a", "b", "c"] {
        client.send(byte).await;
        assert_eq!(client.until(&format!("1\r\n{byte}\r\n")).await, format!("1\r\n{byte}\r\n"));
    }
    assert_eq!(client.until("0\r\n\r\n").await, "0\r\n\r\n");
}

#[tokio::test]
async fn no_more_connections_than_allowed_reach_the_upstream() {
    let upstream = Upstream::new(|mut exchange| async move {
        while exchange.request().await.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            exchange.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    })
    .await;
    for threads in [1, 3] {
        let mut settings = settings(upstream.address);
        settings.server.threads = Some(threads.try_into().unwrap());
        settings.upstreams[0].max_connections = 2.try_into().unwrap();
        let proxy = Proxy::start(&settings, &open());
        let address = proxy.address;
        let before = upstream.connections();
        let clients: Vec<_> = (0..30)
            .map(|_| {
                tokio::spawn(async move {
                    let mut client = common::Client::connect(address).await;
                    for _ in 0..5 {
                        client.send(GET).await;
                        assert_eq!(client.answer().await.text(), "ok");
                    }
                })
            })
            .collect();
        while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
            assert!(upstream.open() <= 2 + 1, "{}", upstream.open()); // one that it has not seen closed yet
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for client in clients {
            client.await.unwrap();
        }
        if threads == 1 {
            assert_eq!(upstream.connections() - before, 2);
        }
        drop(proxy);
        eventually("the upstream is left", || upstream.open() == 0).await;
    }
}

#[tokio::test]
async fn a_full_upstream_is_a_503() {
    let upstream = Upstream::new(|mut exchange| async move { exchange.closed().await }).await;
    let mut settings = settings(upstream.address);
    settings.upstreams[0].max_connections = 1.try_into().unwrap();
    settings.upstreams[0].timeouts.connect = "100ms".parse().unwrap();
    let proxy = Proxy::start(&settings, &open());
    let mut first = proxy.connect().await;
    first.send(GET).await;
    eventually("the place is taken", || upstream.seen().contains("GET")).await;
    let mut second = proxy.connect().await;
    second.send(GET).await;
    let answer = second.answer().await;
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    drop(first);
    eventually("the upstream is left", || upstream.open() == 0).await;
}

#[tokio::test]
async fn a_client_may_send_all_before_it_reads() {
    const MUCH: usize = 16 << 20;
    let upstream = Upstream::new(|mut exchange| async move {
        exchange.head().await;
        let (mut read, mut write) = exchange.stream.into_split();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {MUCH}\r\n\r\n");
        let answers = async {
            write.write_all(head.as_bytes()).await.unwrap();
            write.write_all(&vec![b'y'; MUCH]).await.unwrap();
        };
        let reads = async {
            let mut room = vec![0; 1 << 16];
            while read.read(&mut room).await.is_ok_and(|read| read > 0) {}
        };
        tokio::join!(answers, reads);
    })
    .await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {MUCH}\r\n\r\n")).await;
    // The answer has begun, and waits for the client long before the body is sent.
    let all = vec![b'x'; MUCH];
    tokio::time::timeout(common::PATIENCE, client.send(all)).await.expect("the body is not taken");
    assert_eq!(client.answer().await.body.len(), MUCH);
}
