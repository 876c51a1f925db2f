//! Permits are held as long as a response is on its way, and come back whoever goes away first.

use crate::stage::*;
use axum::body::Body;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Method, StatusCode, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tidegate::*;
use tokio::{net::TcpStream, sync::mpsc};

fn limit(concurrency: Concurrency) -> Limiter {
    let policy = Policy::new().rule(Rule::new("rule").concurrency(concurrency));
    Limiter::builder(policy).clock(ManualClock::new()).timer(tokio::time::sleep).build().unwrap()
}

fn one() -> Concurrency {
    Concurrency::shared("one", 1)
}

fn streams(body: Body) -> Stage {
    Stage { body: Arc::new(Mutex::new(Some(body))), told: None }
}

#[tokio::test]
async fn a_permit_is_held_until_the_last_byte_was_sent() {
    within(async {
        for (server, version) in everywhere() {
            let (limiter, (sender, body)) = (limit(one()), channel());
            let address = server.start(Some(limiter.layer()), streams(body)).await;
            let mut answer = Connection::new(address, version).await.get("/stream").await;
            let mut other = Connection::new(address, version).await;
            for word in ["one", "two"] {
                sender.send(Ok(Frame::data(word.into()))).await.unwrap();
                assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), word);
                assert_eq!(other.status("/plain").await, 429, "{server:?} {version:?}");
            }
            drop(sender);
            assert!(answer.collect().await.unwrap().to_bytes().is_empty());
            for _ in 0..3 {
                assert_eq!(other.status("/plain").await, 203, "{server:?} {version:?}");
            }
            assert_eq!(limiter.in_flight(), 0);
        }
    })
    .await;
}

#[tokio::test]
async fn answers_without_a_body_give_their_permit_back() {
    within(async {
        for (server, version) in everywhere() {
            let limiter = limit(one());
            let address = server.start(Some(limiter.layer()), Stage::default()).await;
            let mut client = Connection::new(address, version).await;
            for (method, path) in
                [(Method::HEAD, "/plain"), (Method::GET, "/empty"), (Method::GET, "/unchanged")]
            {
                let answer = client.send(request(method, path, Body::empty())).await;
                assert!(answer.status().as_u16() < 400, "{path} {server:?} {version:?}");
                drop(answer.into_body().collect().await.unwrap());
            }
            assert_eq!(client.status("/plain").await, 203);
            assert_eq!(limiter.in_flight(), 0);
        }
    })
    .await;
}

#[tokio::test]
async fn who_leaves_in_mid_body_gives_its_permit_back() {
    within(async {
        for (server, version) in everywhere() {
            let (limiter, (sender, body)) = (limit(one()), channel());
            let address = server.start(Some(limiter.layer()), streams(body)).await;
            let mut client = Connection::new(address, version).await;
            let mut answer = client.get("/stream").await;
            sender.send(Ok(Frame::data("half".into()))).await.unwrap();
            answer.frame().await.unwrap().unwrap();
            assert_eq!(limiter.in_flight(), 1);
            drop((answer, client));
            sender.closed().await;
            assert_eq!(limiter.in_flight(), 0, "{server:?} {version:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn who_leaves_before_the_answer_gives_its_permit_back() {
    within(async {
        for (server, version) in everywhere() {
            let (told, mut tells) = mpsc::unbounded_channel();
            let limiter = limit(one());
            let stage = Stage { told: Some(told), ..Stage::default() };
            let address = server.start(Some(limiter.layer()), stage).await;
            let mut client = Connection::new(address, version).await;
            {
                let hanging = client.get("/hang");
                tokio::select! {
                    _ = hanging => panic!("it hangs"),
                    told = tells.recv() => assert_eq!(told, Some("came")),
                }
            }
            assert_eq!(limiter.in_flight(), 1);
            drop(client);
            assert_eq!(tells.recv().await, Some("left"));
            assert_eq!(limiter.in_flight(), 0, "{server:?} {version:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_panics_and_a_body_that_breaks_give_their_permits_back() {
    within(async {
        for (server, version) in everywhere() {
            let (limiter, (sender, body)) = (limit(one()), channel());
            let address = server.start(Some(limiter.layer()), streams(body)).await;
            let mut client = Connection::new(address, version).await;
            assert!(client.try_send(request(Method::GET, "/panic", Body::empty())).await.is_err());
            assert_eq!(limiter.in_flight(), 0, "{server:?} {version:?}");
            let mut answer = Connection::new(address, version).await.get("/stream").await;
            sender.send(Err("broken".into())).await.unwrap();
            assert!(answer.frame().await.unwrap().is_err());
            assert_eq!(limiter.in_flight(), 0, "{server:?} {version:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_in_line_is_answered_once_there_is_room() {
    within(async {
        for (server, version) in everywhere() {
            let limiter = limit(one().wait(5, MINUTE));
            let (sender, body) = channel();
            let address = server.start(Some(limiter.layer()), streams(body)).await;
            let answer = Connection::new(address, version).await.get("/stream").await;
            let mut client = Connection::new(address, version).await;
            let waiting = tokio::spawn(async move { client.status("/plain").await });
            let mut gone = Connection::new(address, version).await;
            let leaving = tokio::spawn(async move { gone.status("/plain").await });
            while limiter.waiting() < 2 {
                tokio::task::yield_now().await;
            }
            leaving.abort();
            while limiter.waiting() > 1 {
                tokio::task::yield_now().await;
            }
            assert!(!waiting.is_finished());
            drop(sender);
            assert!(answer.collect().await.unwrap().to_bytes().is_empty());
            assert_eq!(waiting.await.unwrap(), 203);
            assert_eq!(limiter.in_flight(), 0, "{server:?} {version:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_in_line_is_refused_at_its_deadline() {
    within(async {
        let limiter = limit(one().wait(5, Duration::from_millis(20)));
        let (_sender, body) = channel();
        let address = Server::Hyper.start(Some(limiter.layer()), streams(body)).await;
        let _answer = Connection::new(address, Version::HTTP_2).await.get("/stream").await;
        let answer = Connection::new(address, Version::HTTP_11).await.get("/plain").await;
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(answer.headers()["ratelimit"], "\"one\";r=0");
    })
    .await;
}

/// The answer to an upgrade has no body: what goes on afterwards is nothing that the layer sees.
#[tokio::test]
async fn an_upgraded_connection_holds_no_permit() {
    within(async {
        for server in SERVERS {
            let limiter = limit(one());
            let address = server.start(Some(limiter.layer()), Stage::default()).await;
            let stream = TcpStream::connect(address).await.unwrap();
            let (mut socket, answer) =
                tokio_tungstenite::client_async(format!("ws://{address}/chat"), stream).await.unwrap();
            assert_eq!(answer.headers()["ratelimit"], "\"one\";r=0");
            socket.send("word".into()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap(), "word");
            assert_eq!(limiter.in_flight(), 0);
        }
    })
    .await;
}
