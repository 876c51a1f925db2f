//! What is timed: batches of requests that are ready before the clock starts.
//!
//! A request is built once. The innermost service hands it back, and between two batches it gets the next client's
//! address or key. So neither building nor dropping requests is timed; only what refuses a request drops it (and is
//! compared with a bare service that does), and another one is built for it. Responses are dropped as soon as they are
//! there.

use axum::{body::Body, extract::ConnectInfo};
use http::{Extensions, HeaderName, HeaderValue, Request, Response, StatusCode};
use std::{
    cell::RefCell,
    convert::Infallible,
    fmt::Write,
    future::{Ready, ready},
    hint::black_box,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};
use tower::{Service, ServiceExt};

pub(crate) type Req = Request<Body>;
pub(crate) type Res = Response<Body>;

/// So few that a batch stays in the first-level cache, so many that two looks at the clock cost a nanosecond each.
pub(crate) const BATCH: usize = 32;

pub(crate) static API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// By what clients are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    Address,
    ApiKey,
}

/// How a service is called: again and again, or as axum does, a clone for each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drive {
    Call,
    Oneshot,
}

/// Each client has an address of its own, anywhere in the IPv4 space.
pub(crate) fn address(client: u32) -> IpAddr {
    Ipv4Addr::from(client.wrapping_mul(0x9E37_79B1)).into()
}

/// Whose address it is.
pub(crate) fn client(address: Ipv4Addr) -> u32 {
    u32::from(address).wrapping_mul(INVERSE)
}

/// Of the factor in [`address`], modulo 2^32.
const INVERSE: u32 = 0x0E8B_2F51;

/// 32 hexadecimal digits.
pub(crate) fn api_key(client: u32) -> String {
    let mut key = String::with_capacity(32);
    for salt in [0x9E37_79B9_7F4A_7C15, 0xD1B5_4A32_D192_ED03u64] {
        let mut bits = u64::from(client).wrapping_add(1).wrapping_mul(salt);
        bits = (bits ^ bits >> 31).wrapping_mul(0x94D0_49BB_1331_11EB);
        let _ = write!(key, "{:016x}", bits ^ bits >> 29);
    }
    key
}

thread_local! {
    /// Requests that reached the innermost service.
    static DONE: RefCell<Vec<Req>> = const { RefCell::new(Vec::new()) };
}

/// The service that does nothing, around which all layers go.
#[derive(Clone)]
pub(crate) struct Bare {
    /// Takes out of a request what the layer put into its extensions.
    clean: Option<fn(&mut Extensions)>,
    /// Whether it hands the request back.
    keeps: bool,
}

impl Bare {
    pub(crate) const fn new() -> Self {
        Self { clean: None, keeps: true }
    }

    /// Drops the request, as whatever refuses one does.
    pub(crate) const fn dropping() -> Self {
        Self { clean: None, keeps: false }
    }

    pub(crate) const fn cleaning(clean: fn(&mut Extensions)) -> Self {
        Self { clean: Some(clean), keeps: true }
    }
}

impl Service<Req> for Bare {
    type Response = Res;
    type Error = Infallible;
    type Future = Ready<Result<Res, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Req) -> Self::Future {
        if let Some(clean) = self.clean {
            clean(request.extensions_mut());
        }
        if self.keeps {
            DONE.with_borrow_mut(|done| done.push(request));
        }
        ready(Ok(Response::new(Body::empty())))
    }
}

/// A service or a limiter that is measured; threads share it.
pub(crate) trait Subject: Sync {
    /// What one thread does, made on that thread.
    fn worker(&self, drive: Drive) -> Box<dyn Worker + '_>;
}

pub(crate) trait Worker {
    /// Makes ready one request of each of these clients. Not timed.
    fn prepare(&mut self, clients: &[u32]);

    /// What is timed.
    fn run(&mut self);

    /// The status of the last answer.
    fn status(&self) -> StatusCode;
}

/// A layer around the bare service.
pub(crate) struct Layered<S, F> {
    pub(crate) service: S,
    pub(crate) request: fn(Identity) -> Req,
    pub(crate) identify: fn(&mut Req, u32),
    pub(crate) identity: Identity,
    /// Takes the whole answer, and drops it.
    pub(crate) consume: F,
}

impl<S, F> Subject for Layered<S, F>
where
    S: Service<Req> + Clone + Sync,
    F: Fn(Result<S::Response, S::Error>) -> StatusCode + Sync,
{
    fn worker(&self, drive: Drive) -> Box<dyn Worker + '_> {
        DONE.with_borrow_mut(Vec::clear);
        let (service, ready) = (self.service.clone(), Vec::new());
        Box::new(Caller { layered: self, service, ready, drive, status: StatusCode::OK })
    }
}

struct Caller<'a, S, F> {
    layered: &'a Layered<S, F>,
    service: S,
    ready: Vec<Req>,
    drive: Drive,
    status: StatusCode,
}

impl<S, F> Worker for Caller<'_, S, F>
where
    S: Service<Req> + Clone,
    F: Fn(Result<S::Response, S::Error>) -> StatusCode,
{
    fn prepare(&mut self, clients: &[u32]) {
        let Layered { request, identify, identity, .. } = *self.layered;
        DONE.with_borrow_mut(|done| {
            self.ready.append(done);
            done.reserve(clients.len());
        });
        self.ready.resize_with(clients.len(), || request(identity));
        for (request, client) in self.ready.iter_mut().zip(clients) {
            identify(request, *client);
        }
    }

    fn run(&mut self) {
        match self.drive {
            Drive::Call => {
                for request in self.ready.drain(..) {
                    let _ = black_box(self.service.poll_ready(&mut Context::from_waker(Waker::noop())));
                    // Pinned where it is made: a server does not move it once more either.
                    let future = pin!(self.service.call(request));
                    self.status = (self.layered.consume)(ready_now(future));
                }
            }
            Drive::Oneshot => {
                for request in self.ready.drain(..) {
                    let future = pin!(self.service.clone().oneshot(request));
                    self.status = (self.layered.consume)(ready_now(future));
                }
            }
        }
    }

    fn status(&self) -> StatusCode {
        self.status
    }
}

/// What a future comes to. Only axum_gcra's ever waits, for another thread that holds a lock for a moment.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    ready_now(pin!(future))
}

fn ready_now<F: Future>(mut future: Pin<&mut F>) -> F::Output {
    loop {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

/// A request as a server with axum 0.8 makes it.
pub(crate) fn request(identity: Identity) -> Req {
    request_with(identity, ConnectInfo(SocketAddr::new(address(0), 40_000)))
}

/// The same as a server with axum 0.7 makes it, which has a type of its own for the peer's address.
pub(crate) fn request07(identity: Identity) -> Req {
    request_with(identity, axum07::extract::ConnectInfo(SocketAddr::new(address(0), 40_000)))
}

fn request_with(identity: Identity, peer: impl Clone + Send + Sync + 'static) -> Req {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = "/items/7".parse().unwrap();
    request.extensions_mut().insert(peer);
    request.headers_mut().insert(http::header::HOST, HeaderValue::from_static("example.org"));
    if identity == Identity::ApiKey {
        request.headers_mut().insert(&API_KEY, HeaderValue::from_static(""));
    }
    request
}

pub(crate) fn set_address(request: &mut Req, client: u32) {
    request.extensions_mut().get_mut::<ConnectInfo<SocketAddr>>().unwrap().0.set_ip(address(client));
}

pub(crate) fn set_address07(request: &mut Req, client: u32) {
    let info = request.extensions_mut().get_mut::<axum07::extract::ConnectInfo<SocketAddr>>();
    info.unwrap().0.set_ip(address(client));
}

pub(crate) fn set_api_key(request: &mut Req, client: u32) {
    *request.headers_mut().get_mut(&API_KEY).unwrap() = api_key(client).try_into().unwrap();
}

/// A decision without HTTP, for keys that are made before the clock starts.
pub(crate) struct Direct<K, D> {
    pub(crate) key: fn(u32) -> K,
    pub(crate) decide: D,
}

impl<K, D> Subject for Direct<K, D>
where
    D: Fn(&K) -> bool + Sync,
{
    fn worker(&self, _: Drive) -> Box<dyn Worker + '_> {
        Box::new(Decider { direct: self, ready: Vec::new(), allowed: true })
    }
}

struct Decider<'a, K, D> {
    direct: &'a Direct<K, D>,
    ready: Vec<K>,
    allowed: bool,
}

impl<K, D: Fn(&K) -> bool> Worker for Decider<'_, K, D> {
    fn prepare(&mut self, clients: &[u32]) {
        self.ready.clear();
        self.ready.extend(clients.iter().map(|client| (self.direct.key)(*client)));
    }

    fn run(&mut self) {
        for key in &self.ready {
            self.allowed = black_box((self.direct.decide)(key));
        }
    }

    fn status(&self) -> StatusCode {
        if self.allowed { StatusCode::OK } else { StatusCode::TOO_MANY_REQUESTS }
    }
}
