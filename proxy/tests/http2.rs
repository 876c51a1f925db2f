//! HTTP/2 on either side, with trailers, as gRPC needs it.
#![allow(clippy::unwrap_used)]

mod common;
mod frames;

use bytes::Bytes;
use common::{Proxy, Upstream, eventually, limited, open, settings};
use frames::{Frames, GET, head};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, client::conn::http2::SendRequest, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{convert::Infallible, net::SocketAddr};
use tidegate_proxy::{Settings, settings::HttpVersion};
use tokio::net::{TcpListener, TcpStream};

type Body = BoxBody<Bytes, Infallible>;

async fn client<B>(address: SocketAddr) -> SendRequest<B>
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A server that sends a request's body back, with a trailer that says how its head was.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(|request: Request<Incoming>| async move {
                let said =
                    format!("{} {} {:?}", request.method(), request.uri(), request.headers().get("te"));
                let (sender, body) = http_body_util::channel::Channel::<Bytes, Infallible>::new(1);
                let mut sender = sender;
                let mut incoming = request.into_body();
                tokio::spawn(async move {
                    while let Some(Ok(frame)) = incoming.frame().await {
                        if let Ok(data) = frame.into_data() {
                            if sender.send_data(data).await.is_err() {
                                return;
                            }
                        }
                    }
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    trailers.insert("x-said", said.parse().unwrap());
                    let _ = sender.send_trailers(trailers).await;
                });
                let mut response = Response::new(body);
                response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
                Ok::<_, Infallible>(response)
            });
            let server = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

fn framed(upstream: SocketAddr) -> Settings {
    let mut settings = settings(upstream);
    settings.upstreams[0].http = HttpVersion::Two;
    settings
}

fn grpc(body: Body) -> Request<Body> {
    Request::post("http://a/pkg.Service/Call")
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

fn full(text: &'static str) -> Body {
    Full::from(text).boxed()
}

#[tokio::test]
async fn grpc_goes_through_with_its_trailers_while_both_sides_stream() {
    let proxy = Proxy::start(&framed(echo().await), &open());
    let mut client = client(proxy.address).await;
    let (sender, body) = http_body_util::channel::Channel::<Bytes, Infallible>::new(1);
    let mut sender = sender;
    let mut response = client.send_request(grpc(body.boxed())).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/grpc");
    for word in ["one", "two"] {
        sender.send_data(word.into()).await.unwrap();
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), word);
    }
    drop(sender);
    let trailers = response.into_body().collect().await.unwrap().trailers().unwrap().clone();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["x-said"], "POST http://a/pkg.Service/Call Some(\"trailers\")");
}

#[tokio::test]
async fn a_grpc_refusal_is_grpc() {
    let proxy = Proxy::start(&framed(echo().await), &limited("1/hour"));
    let mut client = client(proxy.address).await;
    client.send_request(grpc(full("a"))).await.unwrap().into_body().collect().await.unwrap();
    let refused = client.send_request(grpc(full("a"))).await.unwrap();
    assert_eq!(
        (refused.status(), &refused.headers()["grpc-status"]),
        (StatusCode::OK, &"8".parse().unwrap())
    );
}

#[tokio::test]
async fn many_requests_share_a_connection_on_either_side() {
    let proxy = Proxy::start(&framed(echo().await), &open());
    let client = client(proxy.address).await;
    let requests: Vec<_> = (0..200)
        .map(|number| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let body = vec![b'x'; number * 997];
                let request = Request::post("http://a/").body(Full::from(body.clone()).boxed()).unwrap();
                let answer = client.send_request(request).await.unwrap().into_body().collect().await.unwrap();
                assert_eq!(answer.to_bytes().len(), body.len());
            })
        })
        .collect();
    for request in requests {
        request.await.unwrap();
    }
}

#[tokio::test]
async fn versions_are_translated_both_ways() {
    // HTTP/2 to HTTP/1.1: `Host` is there, cookies are in one line, nothing of HTTP/2 is left.
    let upstream = Upstream::ok().await;
    let proxy = Proxy::open(upstream.address);
    let mut two = client(proxy.address).await;
    let request = Request::put("http://a:81/x?y").header("cookie", "a=1").header("cookie", "b=2");
    let answer = two.send_request(request.body(full("abc")).unwrap()).await.unwrap();
    assert_eq!((answer.status(), answer.headers().get("connection")), (StatusCode::OK, None));
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
    assert_eq!(
        upstream.seen(),
        "PUT /x?y HTTP/1.1\r\ncookie: a=1; b=2\r\ncontent-length: 3\r\nhost: a:81\r\nx-forwarded-for: 127.0.0.1\r\n\
         x-forwarded-proto: http\r\nx-forwarded-host: a:81\r\nvia: 2 tide\r\n\r\nabc"
    );
    // Without a length, it becomes chunks.
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes, Infallible>::new(1);
    let sent = two.send_request(Request::post("http://a/").body(body.boxed()).unwrap());
    sender.send_data("abc".into()).await.unwrap();
    drop(sender);
    assert_eq!(sent.await.unwrap().status(), 200);
    assert!(
        upstream.seen().ends_with("transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        "{}",
        upstream.seen()
    );

    // HTTP/1.1 to HTTP/2: trailers that were not announced are left out, which is allowed.
    let proxy = Proxy::start(&framed(echo().await), &open());
    let mut one = proxy.connect().await;
    for _ in 0..2 {
        one.send("POST /x HTTP/1.1\r\nHost: a\r\nConnection: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
            .await;
        let answer = one.answer().await;
        assert_eq!((answer.text(), answer.field("grpc-status")), ("abc", None));
    }
}

#[tokio::test]
async fn a_stream_that_the_client_resets_is_reset_at_the_upstream() {
    let upstream = Upstream::new(|mut exchange| async move {
        exchange.request().await;
        exchange.closed().await;
    })
    .await;
    let proxy = Proxy::open(upstream.address);
    let mut client = client(proxy.address).await;
    let request = Request::get("http://a/").body(full("")).unwrap();
    let mut sent = Box::pin(client.send_request(request));
    tokio::select! {
        _ = &mut sent => unreachable!(),
        () = eventually("it is asked", || upstream.seen().contains("GET")) => {}
    }
    drop(sent);
    eventually("the upstream is left", || upstream.open() == 0).await;
}

#[tokio::test]
async fn an_upstream_that_does_not_speak_http_2_is_a_502_and_comes_back() {
    let upstream = Upstream::closing("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let proxy = Proxy::start(&framed(upstream.address), &open());
    let mut client = proxy.connect().await;
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 502);
    }
}

#[tokio::test]
async fn a_request_that_runs_when_the_server_stops_is_answered() {
    let (release, released) = tokio::sync::watch::channel(false);
    let upstream = Upstream::new(move |mut exchange| {
        let mut released = released.clone();
        async move {
            exchange.request().await;
            released.wait_for(|is| *is).await.unwrap();
            exchange.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let proxy = Proxy::open(upstream.address);
    let address = proxy.address;
    let mut client = client(address).await;
    let sent = tokio::spawn(client.send_request(Request::get("http://a/").body(full("")).unwrap()));
    eventually("it is asked", || upstream.seen().contains("GET")).await;
    let stopping = tokio::spawn(proxy.stop());
    while TcpStream::connect(address).await.is_ok() {}
    release.send_replace(true);
    let answer = sent.await.unwrap().unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
    stopping.await.unwrap();
}

/// A head that HTTP/1.1 would read as more than it is.
#[tokio::test]
async fn what_cannot_be_said_in_http_1_is_not_sent_on() {
    let long = "9".repeat(30);
    let cases: &[(&str, Vec<(&str, &str)>)] = &[
        ("a line end in a value", [GET, &[("x-a", "b\r\nx-b: c")]].concat()),
        ("a line end in a name", [GET, &[("x-a: b\r\nx-b", "c")]].concat()),
        ("a NUL in a value", [GET, &[("x-a", "b\0c")]].concat()),
        ("a colon in a name", [GET, &[("x-a:", "b")]].concat()),
        ("capitals in a name", [GET, &[("X-A", "b")]].concat()),
        ("a space in a name", [GET, &[("x a", "b")]].concat()),
        ("a coding", [GET, &[("transfer-encoding", "chunked")]].concat()),
        ("Connection", [GET, &[("connection", "x-a")]].concat()),
        ("an upgrade", [GET, &[("upgrade", "websocket")]].concat()),
        ("Keep-Alive", [GET, &[("keep-alive", "1")]].concat()),
        ("TE", [GET, &[("te", "gzip")]].concat()),
        ("another Host", [GET, &[("host", "b")]].concat()),
        ("two Hosts", [GET, &[("host", "a"), ("host", "a")]].concat()),
        ("a length that is none", [GET, &[("content-length", "3x")]].concat()),
        ("a length beyond numbers", [GET, &[("content-length", long.as_str())]].concat()),
        ("two lengths", [GET, &[("content-length", "0"), ("content-length", "3")]].concat()),
        ("a length of what does not come", [GET, &[("content-length", "3")]].concat()),
        ("a request line in the method", head("GET / HTTP/1.1\r\nx: ", "/", "a", "http")),
        ("a space in the method", head("GET /x", "/", "a", "http")),
        ("CONNECT", head("CONNECT", "/", "a", "http")),
        ("a request line in the path", head("GET", "/ HTTP/1.1\r\nHost: b\r\n\r\n", "a", "http")),
        ("a space in the path", head("GET", "/ HTTP/1.1", "a", "http")),
        ("a path without a slash", head("GET", "x", "a", "http")),
        ("no path", head("GET", "", "a", "http")),
        ("a user in the authority", head("GET", "/", "b@a", "http")),
        ("a line end in the authority", head("GET", "/", "a\r\nx: y", "http")),
        ("a path in the authority", head("GET", "/", "a/b", "http")),
        ("no authority", head("GET", "/", "", "http")),
        ("another scheme", head("GET", "/", "a", "file")),
        ("a line end in the scheme", head("GET", "/", "a", "http\r\nx: y")),
        ("a second path", [GET, &[(":path", "/b")]].concat()),
        ("a pseudo field behind others", [GET, &[("x-a", "b"), (":method", "PUT")]].concat()),
        ("an unknown pseudo field", [&[(":x", "y")], GET].concat()),
        ("a status", [&[(":status", "200")], GET].concat()),
    ];
    let upstream = Upstream::ok().await;
    let proxy = Proxy::open(upstream.address);
    for (name, fields) in cases {
        let mut frames = Frames::connect(proxy.address).await;
        frames.send_head(fields).await;
        assert!(!frames.is_answered_well().await, "{name}");
    }
    // The same way, a sound one is answered, so it was not for the way.
    let mut frames = Frames::connect(proxy.address).await;
    frames.send_head(GET).await;
    assert!(frames.is_answered_well().await);
    proxy.stop().await;
    upstream.settled().await;
    let ours =
        "x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: a\r\nvia: 2 tide\r\n\r\n";
    let seen = upstream.seen();
    let sound = format!("GET / HTTP/1.1\r\nhost: a\r\n{ours}");
    let short = format!("GET / HTTP/1.1\r\ncontent-length: 3\r\nhost: a\r\n{ours}");
    assert_eq!(seen.replace(&short, ""), sound, "{seen}");
}

#[tokio::test]
async fn a_body_longer_than_it_says_is_cut_there() {
    let upstream = Upstream::ok().await;
    let proxy = Proxy::open(upstream.address);
    let mut frames = Frames::connect(proxy.address).await;
    let fields = [&head("POST", "/", "a", "http")[..], &[("content-length", "3")]].concat();
    frames.send_open_head(&fields).await;
    frames.send_data(b"abcGET /admin HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!frames.is_answered_well().await);
    proxy.stop().await;
    upstream.settled().await;
    assert!(!upstream.seen().contains("admin"), "{}", upstream.seen());
}
