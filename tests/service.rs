//! The layer as a tower service: its types have names, it is as ready as the service inside, and errors pass unchanged.
#![allow(clippy::unwrap_used)]

use futures_util::FutureExt;
use http::{Request, Response, StatusCode};
use std::{
    cell::Cell,
    fmt, future,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use tidegate::*;
use tower::{Layer, Service, ServiceExt};

fn limiter(n: u64) -> Limiter {
    let builder = Limiter::builder(Policy::per_client(Quota::per_minute(n)));
    builder.clock(ManualClock::new()).build().unwrap()
}

/// A service that is ready only when it was told so, and fails as it was told.
#[derive(Debug, Default)]
struct Pool {
    ready: Rc<Cell<bool>>,
    broken: Rc<Cell<bool>>,
    /// How often it was called, and how often by a clone that had been polled ready.
    calls: Rc<Cell<(u32, u32)>>,
    polled: bool,
}

/// Readiness is not cloned.
impl Clone for Pool {
    fn clone(&self) -> Self {
        Self {
            ready: self.ready.clone(),
            broken: self.broken.clone(),
            calls: self.calls.clone(),
            polled: false,
        }
    }
}

#[derive(Debug, PartialEq)]
struct Broken(&'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Broken {}

impl Service<Request<()>> for Pool {
    type Response = Response<String>;
    type Error = Broken;
    type Future = future::Ready<Result<Response<String>, Broken>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.polled = true;
        match (self.broken.get(), self.ready.get()) {
            (true, _) => Poll::Ready(Err(Broken("not ready"))),
            (_, true) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        let (all, ready) = self.calls.get();
        self.calls.set((all + 1, ready + u32::from(std::mem::take(&mut self.polled))));
        future::ready(if self.broken.get() {
            Err(Broken("failed"))
        } else {
            Ok(Response::new(String::new()))
        })
    }
}

#[test]
fn a_service_is_as_ready_as_the_one_inside() {
    let pool = Pool::default();
    let limiter = limiter(2);
    let mut service = limiter.layer().layer(pool.clone());
    let mut readiness = || service.ready().now_or_never().map(|ready| ready.map(drop));
    assert_eq!(readiness(), None);
    pool.ready.set(true);
    assert_eq!(readiness(), Some(Ok(())));
    let other = limiter.layer().layer(pool.clone());
    let refused = || {
        let answer = other.clone().oneshot(Request::new(())).now_or_never().unwrap().unwrap();
        answer.status() == StatusCode::TOO_MANY_REQUESTS
    };
    while !refused() {}
    assert_eq!(readiness(), Some(Ok(())), "a client that is refused keeps nobody else waiting");
    pool.broken.set(true);
    assert_eq!(readiness(), Some(Err(Broken("not ready"))));
}

#[test]
fn an_error_of_the_service_inside_is_unchanged() {
    let pool = Pool::default();
    pool.broken.set(true);
    for style in [HeaderStyle::Draft10, HeaderStyle::Off] {
        let layer = limiter(1).layer().headers(style);
        let mut service = layer.layer(pool.clone());
        let mut call = || service.call(Request::new(())).now_or_never().unwrap();
        assert_eq!(call().unwrap_err(), Broken("failed"));
        assert_eq!(call().unwrap().status(), StatusCode::TOO_MANY_REQUESTS, "and what failed stays charged");
    }
}

/// A store elsewhere that admits everything, but not at once.
struct Slow;

impl Store for Slow {
    fn charge(&self, charges: Vec<Charge>) -> StoreFuture {
        Box::pin(async move {
            tokio::task::yield_now().await;
            Ok(charges.iter().map(|_| Reading::allowed(Duration::ZERO)).collect())
        })
    }

    fn settle(&self, _: Vec<Charge>) {}
}

#[tokio::test]
async fn a_request_that_waits_for_its_verdict_goes_to_the_service_that_was_polled_ready() {
    let pool = Pool::default();
    pool.ready.set(true);
    let limiter = Limiter::builder(Policy::per_client(Quota::per_minute(1))).store(Slow).build().unwrap();
    let mut service = limiter.layer().layer(pool.clone());
    for _ in 0..2 {
        let answer = service.ready().await.unwrap().call(Request::new(()));
        assert_eq!(answer.await.unwrap().status(), 200);
    }
    assert_eq!(pool.calls.get(), (2, 2));
}

/// Whatever the policy, store and clock are, these names stay the same.
#[test]
fn layer_and_service_can_be_named_in_a_field() {
    struct App {
        limiter: Limiter,
        layer: ThrottleLayer,
        service: Throttle<Pool>,
    }
    let limiter = limiter(1);
    let mut app = App { layer: limiter.layer(), service: limiter.layer().layer(Pool::default()), limiter };
    let mut other = app.layer.clone().headers(HeaderStyle::Off).layer(app.service.get_ref().clone());
    let (first, second) = (app.service.call(Request::new(())), other.call(Request::new(())));
    assert_eq!(first.now_or_never().unwrap().unwrap().status(), 200);
    assert_eq!(second.now_or_never().unwrap().unwrap().status(), 429);
    assert_eq!(app.limiter.evicted(), 0);
}
