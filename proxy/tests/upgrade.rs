//! Connections that are upgraded.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Proxy, Upstream, eventually, open, settings};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
    Sec-WebSocket-Key: k\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: v\r\n\r\n";

/// An upstream that upgrades and then sends everything back, with a word of its own first.
async fn echo() -> Upstream {
    Upstream::new(|mut exchange| async move {
        exchange.request().await.unwrap();
        exchange.send(format!("{SWITCH}hello ")).await;
        while let Some(line) = exchange.until("\n").await {
            exchange.send(line).await;
        }
        exchange.send("bye").await;
    })
    .await
}

#[tokio::test]
async fn bytes_go_both_ways_until_the_client_closes() {
    let upstream = echo().await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    // Bytes may come before the answer does.
    client.send(format!("{ASK}early\n")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.field("upgrade")), (101, Some("WebSocket")));
    assert_eq!(
        (answer.field("connection"), answer.field("sec-websocket-accept")),
        (Some("upgrade"), Some("v"))
    );
    assert_eq!(client.until("early\n").await, "hello early\n");
    client.send("later\n").await;
    assert_eq!(client.until("\n").await, "later\n");
    let seen = upstream.seen();
    assert!(seen.contains("connection: upgrade\r\n") && seen.contains("upgrade: WebSocket\r\n"), "{seen}");
    // One direction can end before the other.
    tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.unwrap();
    assert_eq!(client.rest().await, "bye");
    eventually("the upstream is left", || upstream.open() == 0).await;
}

#[tokio::test]
async fn silence_ends_it() {
    let upstream = echo().await;
    let mut settings = settings(upstream.address);
    settings.server.timeouts.upgraded = "200ms".parse().unwrap();
    let proxy = Proxy::start(&settings, &open());
    let mut client = proxy.connect().await;
    client.send(ASK).await;
    client.answer().await;
    client.until("hello ").await;
    assert_eq!(client.rest().await, "");
    eventually("the upstream is left", || upstream.open() == 0).await;
}

#[tokio::test]
async fn an_upstream_may_decline() {
    let upstream = Upstream::ok().await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    for _ in 0..2 {
        client.send(ASK).await;
        assert_eq!(client.answer().await.text(), "ok");
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn what_nobody_asked_for_is_no_upgrade() {
    let upstream = Upstream::answering(SWITCH).await;
    let proxy = Proxy::open(upstream.address);
    for ask in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        // Only HTTP/1.1 has upgrades, and only for requests whose Connection field says so.
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let mut client = proxy.connect().await;
        client.send(ask).await;
        assert_eq!(client.answer().await.status, 502, "{ask}");
    }
}

#[tokio::test]
async fn another_protocol_than_asked_for_is_no_upgrade() {
    let upstream =
        Upstream::answering("HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n").await;
    let proxy = Proxy::open(upstream.address);
    let mut client = proxy.connect().await;
    client.send(ASK).await;
    assert_eq!(client.answer().await.status, 502);
}

#[tokio::test]
async fn http_by_another_name_cannot_be_let_through() {
    let mut settings = settings("127.0.0.1:9".parse().unwrap());
    settings.server.upgrades = vec!["websocket".to_owned(), "H2C".to_owned()];
    let error = tidegate_proxy::Server::start(&settings, &open().layer()).unwrap_err();
    assert!(error.to_string().contains("past the limits"), "{error}");
}
