//! A limiter on a manual clock, a client of it, a service behind it, and requests to it.
#![allow(dead_code, unreachable_pub, async_fn_in_trait, clippy::unwrap_used)]

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use std::{
    convert::Infallible,
    future::{IntoFuture, ready},
};
use tidegate::{
    Charging, Client, Decision, Identity, Limiter, ManualClock, PeerAddr, Policy, Quota, ThrottleBody,
    ThrottleLayer,
};
use tower::{Layer, Service, ServiceExt, service_fn};

pub type Body = BoxBody<Bytes, Infallible>;
pub type Answer = Response<ThrottleBody<Body>>;

pub fn build(policy: Policy) -> (Limiter, ManualClock) {
    let clock = ManualClock::new();
    (Limiter::builder(policy).clock(clock.clone()).build().unwrap(), clock)
}

/// One client under one quota, in as little memory as there may be.
pub fn gate(quota: Quota) -> (ManualClock, Limiter, Client) {
    let clock = ManualClock::new();
    let limiter = Limiter::builder(Policy::per_client(quota)).clock(clock.clone()).memory_bytes(4096);
    let limiter = limiter.build().unwrap();
    let client = limiter.client(&Identity::name("ann"));
    (clock, limiter, client)
}

/// In memory every answer is there at once.
#[track_caller]
pub fn now(charging: Charging<'_>) -> Decision {
    charging.into_future().now_or_never().unwrap().unwrap()
}

/// A service that answers everything with 200.
pub fn ok(limiter: &Limiter) -> impl App + use<> {
    app(&limiter.layer(), |_| reply(200))
}

pub fn app<F>(layer: &ThrottleLayer, respond: F) -> impl App + use<F>
where
    F: Fn(Request<()>) -> Response<Body> + Clone + Send + 'static,
{
    layer.layer(service_fn(move |request| ready(Ok::<_, Infallible>(respond(request)))))
}

pub fn reply(status: u16) -> Response<Body> {
    let mut response = Response::new(Full::from("body").boxed());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

pub fn get(path: &str) -> Request<()> {
    from("192.0.2.1", "GET", path)
}

pub fn from(peer: &str, method: &str, path: &str) -> Request<()> {
    let peer = PeerAddr((peer.parse::<std::net::IpAddr>().unwrap(), 1234).into());
    Request::builder().method(method).uri(path).extension(peer).body(()).unwrap()
}

/// The request with a header line more.
pub fn with(mut request: Request<()>, name: &'static str, value: &str) -> Request<()> {
    request.headers_mut().append(name, value.parse().unwrap());
    request
}

pub trait App: Clone {
    async fn send(&self, request: Request<()>) -> Answer;

    async fn status(&self, request: Request<()>) -> u16 {
        self.send(request).await.status().as_u16()
    }

    /// How many of `most` such requests pass.
    async fn admits(&self, most: usize, request: impl Fn() -> Request<()>) -> usize {
        let mut passed = 0;
        for _ in 0..most {
            match self.status(request()).await {
                429 => {}
                status => passed += usize::from(status < 400),
            }
        }
        passed
    }
}

impl<S> App for S
where
    S: Service<Request<()>, Response = Answer, Error = Infallible> + Clone,
{
    async fn send(&self, request: Request<()>) -> Answer {
        self.clone().oneshot(request).await.unwrap()
    }
}

/// The only line of a header.
pub fn line<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let mut lines = answer.headers().get_all(name).iter();
    let line = lines.next().map(|value| value.to_str().unwrap());
    assert!(lines.next().is_none(), "{name} stands there twice");
    line
}

/// A parameter of the first member of a structured list: `r` of `"a";r=5;t=3`.
pub fn param(field: &str, key: &str) -> Option<u64> {
    let member = field.split(", ").next().unwrap();
    member.split(';').find_map(|param| param.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
}

pub async fn json(answer: Answer) -> serde_json::Value {
    serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
}
