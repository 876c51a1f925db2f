//! How a proxy stops: what was accepted is answered.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Client, Proxy, Upstream, eventually, settings};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};
use tokio::{io::AsyncWriteExt, sync::Semaphore};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// An upstream that answers a request for each permit.
async fn held() -> (Arc<Semaphore>, Upstream) {
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let upstream = Upstream::new(move |mut exchange| {
        let gate = opened.clone();
        async move {
            while exchange.request().await.is_some() {
                gate.acquire().await.unwrap().forget();
                exchange.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    (gate, upstream)
}

#[tokio::test]
async fn a_request_that_runs_is_answered_and_its_connection_closed() {
    let (gate, upstream) = held().await;
    let proxy = Proxy::open(upstream.address);
    let address = proxy.address;
    let mut client = proxy.connect().await;
    client.send(GET).await;
    eventually("the request runs", || upstream.seen().contains("GET")).await;
    let stopping = tokio::spawn(proxy.stop());
    // Nobody is accepted any more.
    while tokio::net::TcpStream::connect(address).await.is_ok() {}
    gate.add_permits(1);
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.field("connection")), ("ok", Some("close")));
    assert!(client.is_closed().await);
    stopping.await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_gets_its_last_request_answered() {
    let upstream = Upstream::ok().await;
    let proxy = Proxy::open(upstream.address);
    let address = proxy.address;
    let mut client = proxy.connect().await;
    client.send(GET).await;
    client.answer().await;
    let mut silent = proxy.connect().await;
    silent.send(GET).await;
    silent.answer().await;
    let stopping = tokio::spawn(proxy.stop());
    while tokio::net::TcpStream::connect(address).await.is_ok() {}
    client.send(GET).await;
    assert_eq!(client.answer().await.field("connection"), Some("close"));
    assert!(silent.is_closed().await);
    stopping.await.unwrap();
}

#[tokio::test]
async fn what_does_not_end_is_cut_off_at_the_deadline() {
    let upstream = Upstream::new(|mut exchange| async move { exchange.closed().await }).await;
    let mut settings = settings(upstream.address);
    settings.server.timeouts.drain = "50ms".parse().unwrap();
    let proxy = Proxy::start(&settings, &common::open());
    let mut client = proxy.connect().await;
    client.send(GET).await;
    eventually("the request runs", || upstream.seen().contains("GET")).await;
    proxy.stop().await;
    assert_eq!(client.rest().await, "");
    eventually("the upstream is left", || upstream.open() == 0).await;
}

#[tokio::test]
async fn under_load_every_request_that_was_accepted_is_answered() {
    let upstream = Upstream::ok().await;
    let mut settings = settings(upstream.address);
    settings.server.threads = Some(2.try_into().unwrap());
    let proxy = Proxy::start(&settings, &common::open());
    let address = proxy.address;
    let answered = Arc::new(AtomicUsize::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..40)
        .map(|number| {
            let (answered, is_over) = (answered.clone(), is_over.clone());
            tokio::spawn(async move {
                while !is_over.load(SeqCst) {
                    let Ok(mut client) = Client::try_connect(address).await else { return };
                    for request in 0..1 + number % 7 {
                        // The kernel resets connections that were made but not accepted when the socket is closed.
                        let sent = client.stream.write_all(GET.as_bytes()).await;
                        if request == 0 && (sent.is_err() || client.is_reset().await) {
                            return;
                        }
                        let answer = client.answer().await;
                        assert_eq!(answer.text(), "ok");
                        answered.fetch_add(1, SeqCst);
                        if answer.field("connection") == Some("close") {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    eventually("there is load", || answered.load(SeqCst) > 500).await;
    proxy.stop().await;
    is_over.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }
}
