//! Allowed: the exchange is untouched.

use crate::stage::*;
use axum::body::Body;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::{HeaderValue, Method, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tidegate::HeaderStyle;
use tokio::{net::TcpStream, sync::mpsc};

#[tokio::test]
async fn an_exchange_is_the_same_but_for_the_chosen_fields() {
    let sent: [(_, _, fn() -> Body); 6] = [
        (Method::GET, "/plain", Body::empty),
        (Method::HEAD, "/plain", Body::empty),
        (Method::GET, "/empty", Body::empty),
        (Method::GET, "/unchanged", Body::empty),
        (Method::POST, "/echo", || "x".repeat(100_000).into()),
        (Method::POST, "/echo", || {
            let chunks = [Frame::data("ab".into()), Frame::data("c".into()), Frame::trailers(trailers())];
            Body::new(StreamBody::new(stream::iter(chunks.map(Ok::<_, Infallible>))))
        }),
    ];
    within(async {
        for (server, version) in everywhere() {
            let bare = server.start(None, Stage::default()).await;
            let off =
                server.start(layer(99).map(|layer| layer.headers(HeaderStyle::Off)), Stage::default()).await;
            let on = server.start(layer(99), Stage::default()).await;
            for (method, path, body) in &sent {
                let see = |server| see(server, version, request(method.clone(), path, body()));
                let (bare, off, mut on) = (see(bare).await, see(off).await, see(on).await);
                assert_eq!(off, bare);
                let fields = on.2.len();
                on.2.retain(|(name, _)| *name != "ratelimit" && *name != "ratelimit-policy");
                assert_eq!(on.2.len(), fields - 2, "{method} {path}");
                assert_eq!(on, bare);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn chunks_and_trailers_arrive_both_ways_as_they_are_sent() {
    within(async {
        for (server, version) in everywhere() {
            let address = server.start(layer(9), Stage::default()).await;
            let (sender, body) = channel();
            let mut answer =
                Connection::new(address, version).await.send(request(Method::POST, "/echo", body)).await;
            for word in ["one", "two", "three"] {
                sender.send(Ok(Frame::data(word.into()))).await.unwrap();
                assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), word);
            }
            sender.send(Ok(Frame::trailers(trailers()))).await.unwrap();
            drop(sender);
            assert_eq!(answer.frame().await.unwrap().unwrap().into_trailers().unwrap(), trailers());
            assert!(answer.frame().await.is_none());
        }
    })
    .await;
}

#[tokio::test]
async fn an_error_in_mid_body_stays_an_error() {
    within(async {
        for (server, version) in everywhere() {
            let (sender, body) = channel();
            let stage = Stage { body: Arc::new(Mutex::new(Some(body))), told: None };
            let address = server.start(layer(9), stage).await;
            let mut client = Connection::new(address, version).await;
            let mut answer = client.get("/stream").await;
            sender.send(Ok(Frame::data("half".into()))).await.unwrap();
            assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
            sender.send(Err("broken".into())).await.unwrap();
            assert!(answer.frame().await.unwrap().is_err(), "{server:?} {version:?}");
        }
    })
    .await;
}

/// The service could send forever, and a client that reads a mebibyte makes it send little more.
#[tokio::test]
async fn a_slow_reader_holds_up_the_body_and_one_that_left_ends_it() {
    const CHUNK: Bytes = Bytes::from_static(&[0; 16 << 10]);
    within(async {
        for (server, version) in everywhere() {
            let sent = Arc::new(AtomicUsize::new(0));
            let (told, mut tells) = mpsc::unbounded_channel();
            let (counted, left) = (sent.clone(), Left(Some(told)));
            let chunks = stream::repeat_with(move || {
                let _ = &left;
                counted.fetch_add(CHUNK.len(), Relaxed);
                Ok::<_, Infallible>(CHUNK)
            });
            let stage = Stage { body: Arc::new(Mutex::new(Some(Body::from_stream(chunks)))), told: None };
            let address = server.start(layer(9), stage).await;
            let mut client = Connection::new(address, version).await;
            let mut answer = client.get("/stream").await;
            let mut read = 0;
            while read < 1 << 20 {
                read += answer.frame().await.unwrap().unwrap().into_data().unwrap().len();
            }
            drop((answer, client));
            assert_eq!(tells.recv().await, Some("left"));
            assert!(sent.load(Relaxed) < 32 << 20, "{} bytes in {server:?} {version:?}", sent.load(Relaxed));
        }
    })
    .await;
}

#[tokio::test]
async fn a_websocket_opens_and_talks_or_is_refused() {
    within(async {
        for server in SERVERS {
            let address = server.start(layer(1), Stage::default()).await;
            let open = async || {
                let stream = TcpStream::connect(address).await.unwrap();
                tokio_tungstenite::client_async(format!("ws://{address}/chat"), stream).await
            };
            let (mut socket, answer) = open().await.unwrap();
            assert_eq!(
                (answer.status(), &answer.headers()["ratelimit"]),
                (StatusCode::SWITCHING_PROTOCOLS, &HeaderValue::from_static("\"client\";r=0;t=60"))
            );
            for word in ["one", "two"] {
                socket.send(word.into()).await.unwrap();
                assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap(), word);
            }
            match open().await {
                Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => assert_eq!(answer.status(), 429),
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
}
