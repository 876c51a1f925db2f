//! Refused: the answer is whole, and the connection lives on.

use crate::stage::*;
use axum::body::Body;
use http::{HeaderValue, Method, StatusCode, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

#[tokio::test]
async fn a_refusal_reads_the_same_everywhere() {
    within(async {
        for (server, version) in everywhere() {
            let address = server.start(layer(1), Stage::default()).await;
            let mut client = Connection::new(address, version).await;
            assert_eq!(client.status("/plain").await, 203);
            let (head, body) = client.get("/plain").await.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            assert_eq!((head.status, head.version), (StatusCode::TOO_MANY_REQUESTS, version));
            for (name, value) in [
                ("retry-after", "60"),
                ("cache-control", "no-store"),
                ("content-type", "application/problem+json"),
                ("content-length", &body.len().to_string()),
                ("ratelimit-policy", "\"client\";q=1;w=60"),
                ("ratelimit", "\"client\";r=0;t=60"),
            ] {
                assert_eq!(head.headers[name], value, "{name}");
            }
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let kind = "https://iana.org/assignments/http-problem-types#quota-exceeded";
            assert_eq!((&problem["type"], &problem["status"]), (&kind.into(), &429.into()));
            assert_eq!(problem["violated-policies"], serde_json::json!(["client"]));
        }
    })
    .await;
}

#[tokio::test]
async fn a_grpc_client_gets_a_grpc_refusal() {
    within(async {
        for server in SERVERS {
            let address = server.start(layer(1), Stage::default()).await;
            let mut client = Connection::new(address, Version::HTTP_2).await;
            let mut call = async || {
                let mut call = request(Method::POST, "/echo", "\0\0\0\0\0".into());
                call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc+proto"));
                client.send(call).await
            };
            assert!(!call().await.headers().contains_key("grpc-status"));
            let refusal = call().await;
            assert_eq!(refusal.status(), 200);
            assert_eq!(refusal.headers()["content-type"], "application/grpc");
            assert_eq!(refusal.headers()["grpc-status"], "8");
            let body = refusal.into_body();
            assert!(http_body::Body::is_end_stream(&body), "the head ends the stream");
        }
    })
    .await;
}

/// Over HTTP/2 a body here would break the protocol.
#[tokio::test]
async fn a_refused_head_gets_all_but_the_body() {
    within(async {
        for (server, version) in everywhere() {
            let address = server.start(layer(1), Stage::default()).await;
            let ask = async |method| {
                let mut seen = see(address, version, request(method, "/plain", Body::empty())).await;
                seen.2.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
                seen
            };
            ask(Method::GET).await;
            let (get, head) = (ask(Method::GET).await, ask(Method::HEAD).await);
            assert_eq!(head.0, StatusCode::TOO_MANY_REQUESTS);
            assert_eq!((head.0, head.2), (get.0, get.2), "{server:?} {version:?}");
            assert!(head.3.is_empty() && !get.3.is_empty());
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_stays_usable_after_a_refusal() {
    within(async {
        for (server, version) in everywhere() {
            let (limiter, clock) = limiter(1);
            let address = server.start(Some(limiter.layer()), Stage::default()).await;
            let mut client = Connection::new(address, version).await;
            assert_eq!([client.status("/plain").await, client.status("/plain").await], [203, 429]);
            clock.advance(MINUTE);
            assert_eq!(client.status("/plain").await, 203, "{server:?} {version:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_refusal_leaves_the_other_streams_of_its_connection_alone() {
    within(async {
        for server in SERVERS {
            let (sender, body) = channel();
            let stage = Stage { body: Arc::new(Mutex::new(Some(body))), told: None };
            let address = server.start(layer(1), stage).await;
            let mut client = Connection::new(address, Version::HTTP_2).await;
            let mut open = client.get("/stream").await;
            let upload = request(Method::POST, "/upload", "x".repeat(1 << 20).into());
            assert_eq!(client.send(upload).await.status(), 429);
            sender.send(Ok(Frame::data("on".into()))).await.unwrap();
            assert_eq!(open.frame().await.unwrap().unwrap().into_data().unwrap(), "on");
        }
    })
    .await;
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        let mut bytes = [0; 1024];
        match stream.read(&mut bytes).await.unwrap() {
            0 => break,
            n => text += std::str::from_utf8(&bytes[..n]).unwrap(),
        }
    }
    text
}

#[tokio::test]
async fn a_refused_upload_is_never_asked_for() {
    const HEAD: &[u8] =
        b"POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n";
    within(async {
        for server in SERVERS {
            let address = server.start(layer(1), Stage::default()).await;
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(HEAD).await.unwrap();
            assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 100 Continue\r\n"));
            stream.write_all(b"body").await.unwrap();
            let answer = read_until(&mut stream, "body").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            stream.write_all(HEAD).await.unwrap();
            let answer = read_until(&mut stream, "}").await;
            assert!(answer.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_reset_stays_charged() {
    within(async {
        for server in SERVERS {
            let (told, mut tells) = mpsc::unbounded_channel();
            let address = server.start(layer(2), Stage { told: Some(told), ..Stage::default() }).await;
            let mut client = Connection::new(address, Version::HTTP_2).await;
            for _ in 0..2 {
                tokio::select! {
                    _ = client.get("/hang") => panic!("it answered"),
                    tell = tells.recv() => assert_eq!(tell, Some("came")),
                }
                assert_eq!(tells.recv().await, Some("left"), "dropped with its stream");
            }
            assert_eq!(client.status("/plain").await, 429);
        }
    })
    .await;
}
