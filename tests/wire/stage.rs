//! Servers of both kinds, the service in them, and a client that has one connection.

use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, WebSocketUpgrade},
};
use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{
    convert::Infallible,
    future,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tidegate::*;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::mpsc,
    time::timeout,
};
use tower::{Layer, Service, ServiceExt, service_fn};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Chunk = Result<Frame<Bytes>, BoxError>;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// Nothing here takes long, and what hangs fails.
pub(crate) async fn within<T>(test: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), test).await.expect("it hangs")
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Server {
    /// With `ConnectInfo`.
    Axum,
    /// Without it.
    AxumAlone,
    /// hyper alone, with `PeerAddr`.
    Hyper,
}

pub(crate) const SERVERS: [Server; 2] = [Server::Axum, Server::Hyper];
pub(crate) const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

pub(crate) fn everywhere() -> impl Iterator<Item = (Server, Version)> {
    SERVERS.into_iter().flat_map(|server| VERSIONS.map(|version| (server, version)))
}

impl Server {
    pub(crate) async fn start(self, layer: Option<ThrottleLayer>, stage: Stage) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        if self == Self::Hyper {
            let app = service_fn(move |request: Request<Incoming>| {
                app(stage.clone(), request.map(Body::new)).map(Ok::<_, Infallible>)
            });
            match layer {
                Some(layer) => drop(tokio::spawn(accept(listener, layer.layer(app)))),
                None => drop(tokio::spawn(accept(listener, app))),
            }
            return address;
        }
        let mut router = Router::new().fallback(move |request| app(stage.clone(), request));
        if let Some(layer) = layer {
            router = router.layer(layer);
        }
        tokio::spawn(async move {
            if self == Self::Axum {
                axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await
            } else {
                axum::serve(listener, router).await
            }
        });
        address
    }
}

pub(crate) async fn accept<S, B>(listener: TcpListener, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    loop {
        let (stream, peer) = listener.accept().await.unwrap();
        let service = service.clone().map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(PeerAddr(peer));
            request
        });
        tokio::spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            let service = TowerToHyperService::new(service);
            // A client may go away at any time.
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}

/// What the service behind the layer plays, and what it has to tell.
#[derive(Clone, Default)]
pub(crate) struct Stage {
    pub(crate) body: Arc<Mutex<Option<Body>>>,
    pub(crate) told: Option<mpsc::UnboundedSender<&'static str>>,
}

async fn app(stage: Stage, request: Request<Body>) -> Response<Body> {
    let response = Response::builder();
    match request.uri().path() {
        // Over HTTP/2 hyper leaves it to the service to send no body to HEAD.
        "/plain" => response
            .status(203)
            .header("content-length", 5)
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
            .header("x-bytes", HeaderValue::from_bytes(b"caf\xe9").unwrap())
            .body(if request.method() == Method::HEAD { Body::empty() } else { "plain".into() })
            .unwrap(),
        "/empty" => response.status(204).body(Body::empty()).unwrap(),
        "/unchanged" => response.status(304).header("etag", "\"1\"").body(Body::empty()).unwrap(),
        "/echo" => response.header("trailer", "x-sum").body(request.into_body()).unwrap(),
        "/upload" => {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            response.body(body.into()).unwrap()
        }
        "/stream" => response.body(stage.body.lock().unwrap().take().unwrap()).unwrap(),
        "/hang" => {
            let _left = Left(stage.told.clone());
            stage.told.unwrap().send("came").unwrap();
            future::pending().await
        }
        "/panic" => panic!("as a handler may"),
        "/chat" => {
            let mut head = request.into_parts().0;
            let upgrade = WebSocketUpgrade::from_request_parts(&mut head, &()).await.unwrap();
            upgrade.on_upgrade(|mut socket| async move {
                while let Some(Ok(message)) = socket.recv().await {
                    let _ = socket.send(message).await;
                }
            })
        }
        _ => response.status(404).body(Body::empty()).unwrap(),
    }
}

/// Tells when the last of it was dropped.
pub(crate) struct Left(pub(crate) Option<mpsc::UnboundedSender<&'static str>>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.take().map(|told| told.send("left"));
    }
}

/// A body whose chunks come when the test sends them.
pub(crate) fn channel() -> (mpsc::Sender<Chunk>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let chunks = stream::unfold(receiver, async |mut receiver: mpsc::Receiver<Chunk>| {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    (sender, Body::new(StreamBody::new(chunks)))
}

/// One connection.
pub(crate) enum Connection {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
}

impl Connection {
    pub(crate) async fn new(server: SocketAddr, version: Version) -> Self {
        Self::from("127.0.0.1", server, version).await
    }

    pub(crate) async fn from(ip: &str, server: SocketAddr, version: Version) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(ip.parse().unwrap(), 0)).unwrap();
        let stream = TokioIo::new(socket.connect(server).await.unwrap());
        if version == Version::HTTP_2 {
            let (client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            Self::H2(client)
        } else {
            let (client, connection) = http1::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            Self::H1(client)
        }
    }

    pub(crate) async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        self.try_send(request).await.unwrap()
    }

    pub(crate) async fn try_send(&mut self, mut request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::H1(client) => {
                request.headers_mut().insert("host", HeaderValue::from_static("example.com"));
                client.ready().await?;
                client.send_request(request).await
            }
            Self::H2(client) => {
                *request.uri_mut() = format!("http://example.com{}", request.uri()).parse().unwrap();
                client.ready().await?;
                client.send_request(request).await
            }
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Response<Incoming> {
        self.send(request(Method::GET, path, Body::empty())).await
    }

    /// The status, after the answer was read to its end.
    pub(crate) async fn status(&mut self, path: &str) -> u16 {
        let response = self.get(path).await;
        let status = response.status().as_u16();
        response.into_body().collect().await.unwrap();
        status
    }
}

pub(crate) fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header("te", "trailers");
    request.header("trailer", "x-sum").body(body).unwrap()
}

pub(crate) fn limiter(n: u64) -> (Limiter, ManualClock) {
    let clock = ManualClock::new();
    let builder = Limiter::builder(Policy::per_client(Quota::per_minute(n)));
    (builder.clock(clock.clone()).build().unwrap(), clock)
}

pub(crate) fn layer(n: u64) -> Option<ThrottleLayer> {
    Some(limiter(n).0.layer())
}

pub(crate) fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("x-sum"), HeaderValue::from_static("12"))])
}

/// All that a client can see of an answer, but for the clock of the server.
pub(crate) type Seen = (StatusCode, Version, Vec<(HeaderName, HeaderValue)>, Bytes, Option<HeaderMap>);

pub(crate) async fn see(server: SocketAddr, version: Version, request: Request<Body>) -> Seen {
    let (head, body) = Connection::new(server, version).await.send(request).await.into_parts();
    let fields = head.headers.iter().filter(|(name, _)| *name != "date");
    let fields = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    (head.status, head.version, fields, body.to_bytes(), trailers)
}
