//! The least that can be done: what no limiter that counts exactly can save.

use crate::work::{self, Direct, Subject};
use axum::extract::ConnectInfo;
use http::{HeaderName, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};
use tower::Service;

/// A time for each client, in an array, changed by compare-and-swap: there is nothing to look up, because the client's number
/// is its place.
pub(crate) struct Cells {
    cells: Vec<AtomicU64>,
    clock: quanta::Clock,
    origin: u64,
}

impl Cells {
    fn new(keys: u32) -> Self {
        let clock = quanta::Clock::new();
        let origin = clock.raw();
        Self { cells: (0..keys).map(|_| AtomicU64::new(0)).collect(), clock, origin }
    }

    fn charge(&self, client: u32) -> bool {
        let (interval, burst) = (1_000_000, 1_000_000 * u64::from(u32::MAX));
        let now = self.clock.delta_as_nanos(self.origin, self.clock.raw());
        let next = |until: u64| {
            let next = until.max(now) + interval;
            (next <= now + burst).then_some(next)
        };
        self.cells[client as usize].fetch_update(Relaxed, Relaxed, next).is_ok()
    }
}

/// The keyed decision alone.
pub(crate) fn decision(keys: u32) -> impl Subject + 'static {
    let cells = Cells::new(keys);
    Direct { key: |client| client, decide: move |client: &u32| cells.charge(*client) }
}

/// The same as a layer: the peer's address is found in the request, and with `fields` the response gets two that are there
/// already.
#[derive(Clone)]
pub(crate) struct Floor<S> {
    inner: S,
    cells: Arc<Cells>,
    fields: bool,
}

impl<S> Floor<S> {
    pub(crate) fn new(inner: S, keys: u32, fields: bool) -> Self {
        Self { inner, cells: Arc::new(Cells::new(keys)), fields }
    }
}

impl<S, B, C> Service<Request<B>> for Floor<S>
where
    S: Service<Request<B>, Response = Response<C>>,
{
    type Response = Response<C>;
    type Error = S::Error;
    type Future = FloorFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let client = match request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip()) {
            Some(IpAddr::V4(address)) => work::client(address),
            _ => 0,
        };
        assert!(self.cells.charge(client), "the floor refuses nobody");
        FloorFuture { inner: self.inner.call(request), fields: self.fields }
    }
}

pin_project! {
    pub(crate) struct FloorFuture<F> {
        #[pin]
        inner: F,
        fields: bool,
    }
}

static NAMES: [HeaderName; 2] =
    [HeaderName::from_static("ratelimit-policy"), HeaderName::from_static("ratelimit")];

impl<F: Future<Output = Result<Response<C>, E>>, C, E> Future for FloorFuture<F> {
    type Output = Result<Response<C>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answer = ready!(this.inner.poll(cx));
        if let (true, Ok(response)) = (*this.fields, &mut answer) {
            let headers = response.headers_mut();
            headers.append(&NAMES[0], HeaderValue::from_static("\"client\";q=100;w=60"));
            headers.append(&NAMES[1], HeaderValue::from_static("\"client\";r=99;t=1"));
        }
        Poll::Ready(answer)
    }
}
