//! What every store keeps to, and what handle and layer make of a store that has to be waited for.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "redis")]
#[path = "redis/stage.rs"]
mod stage;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response, StatusCode, header::RETRY_AFTER};
use http_body_util::Full;
use std::{
    collections::HashMap,
    convert::Infallible,
    future::IntoFuture as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};
use tidegate::{
    Charge, ChargeError, Client, Decision, Identity, Key, Limit, Limiter, ManualClock, Op, Place, Policy,
    Quota, Reading, Rule, Settle, Source, Store, StoreError, StoreFuture,
};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

const SECOND: Duration = Duration::from_secs(1);

/// A client or the number of a shared place, and the limit.
type Name = (Option<Key>, u16, u64);

/// An exact store, whose debts are kept in units of a nanosecond and lie under one mutex. It answers after a pause.
#[derive(Clone, Default)]
struct Exact {
    now: Arc<AtomicU64>,
    debts: Arc<Mutex<HashMap<Name, Debt>>>,
}

#[derive(Clone, Copy, Default)]
struct Debt {
    until: u64,
    interval: u64,
}

impl Exact {
    fn decide(&self, charges: &[Charge]) -> Vec<Reading> {
        let (mut debts, now) = (self.debts.lock().unwrap(), self.now.load(SeqCst));
        let nanos = Duration::from_nanos;
        let mut outcomes = Vec::new();
        for charge in charges {
            let place = match charge.place {
                Place::Client(key) => (Some(key), 0, charge.limit),
                Place::Shared(number) => (None, number, charge.limit),
            };
            let interval = charge.rate.interval().as_nanos() as u64;
            let burst = charge.rate.burst().get();
            let found = debts.entry(place).or_default();
            let owed = found.until.saturating_sub(now);
            let carried = if owed == 0 { 0 } else { owed * (interval / 1000) / (found.interval / 1000) };
            let debt = carried.min(interval * u64::from(burst + charge.max_debt));
            *found = Debt { until: now + debt, interval };
            let after = |units: u32| debt + interval * u64::from(units);
            let (to, reading) = match charge.op {
                Op::Take(0) | Op::Peek(0) => (debt, Ok(())),
                Op::Take(units) | Op::Peek(units) if units > burst => {
                    (debt, Err(Reading::never(nanos(debt))))
                }
                Op::Take(units) | Op::Peek(units) => {
                    match after(units).checked_sub(interval * u64::from(burst)) {
                        None | Some(0) => (after(units), Ok(())),
                        Some(wait) => (debt, Err(Reading::refused(nanos(debt), nanos(wait)))),
                    }
                }
                Op::Give(nanos) => (debt.saturating_sub(nanos), Ok(())),
                Op::Owe(units) => (after(units).min(interval * u64::from(burst + charge.max_debt)), Ok(())),
                Op::Clear => (0, Ok(())),
            };
            outcomes.push((place, debt, to, reading));
        }
        let fit = |shadow| {
            charges
                .iter()
                .zip(&outcomes)
                .all(|(charge, outcome)| charge.shadow != shadow || outcome.3.is_ok())
        };
        let (enforced, watched) = (fit(false), fit(true));
        charges
            .iter()
            .zip(outcomes)
            .map(|(charge, (place, debt, to, reading))| {
                let applies = match charge.op {
                    Op::Take(_) => enforced && (watched || !charge.shadow),
                    Op::Peek(_) => false,
                    Op::Give(_) | Op::Owe(_) | Op::Clear => true,
                };
                let owed = if applies { to } else { debt };
                debts.entry(place).and_modify(|debt| debt.until = now + owed);
                reading.map_or_else(|refused| refused, |()| Reading::allowed(nanos(owed)))
            })
            .collect()
    }
}

impl Store for Exact {
    fn charge(&self, charges: Vec<Charge>) -> StoreFuture {
        let store = self.clone();
        Box::pin(async move {
            tokio::task::yield_now().await;
            Ok(store.decide(&charges))
        })
    }

    fn settle(&self, charges: Vec<Charge>) {
        self.decide(&charges);
    }
}

/// A limiter, and how its time is moved.
struct World {
    limiter: Limiter,
    advance: Box<dyn Fn(Duration)>,
    #[cfg(feature = "redis")]
    _server: Option<stage::Server>,
}

impl World {
    fn new(limiter: Limiter, advance: impl Fn(Duration) + 'static) -> Self {
        Self {
            limiter,
            advance: Box::new(advance),
            #[cfg(feature = "redis")]
            _server: None,
        }
    }

    fn ann(&self) -> Client {
        self.limiter.client(&Identity::name("ann"))
    }
}

/// The same policy, counted in memory and in other stores.
async fn worlds(policy: &Policy) -> Vec<World> {
    let (clock, age, exact) = (ManualClock::new(), ManualClock::new(), Exact::default());
    let now = exact.now.clone();
    let memory = Limiter::builder(policy.clone()).clock(clock.clone()).build().unwrap();
    let other = Limiter::builder(policy.clone()).store(exact).clock(age.clone()).build().unwrap();
    vec![
        World::new(memory, move |by| clock.advance(by)),
        World::new(other, move |by| {
            age.advance(by);
            now.fetch_add(by.as_nanos() as u64, SeqCst);
        }),
        #[cfg(feature = "redis")]
        {
            let server = stage::Server::start();
            let (limiter, clock) = stage::on_clock(&server, "tg:", policy.clone()).await;
            World { _server: Some(server), ..World::new(limiter, move |by| clock.advance(by)) }
        },
    ]
}

/// Remaining, reset and retry of each limit.
fn numbers(decision: &Decision) -> Vec<(u32, u64, Option<Duration>)> {
    let reading = |status: tidegate::LimitStatus<'_>| {
        let reading = status.reading();
        (status.remaining(), reading.reset_after().as_secs(), reading.retry_after())
    };
    decision.limits().map(reading).collect()
}

fn three_limits() -> Policy {
    Policy::new().rule(
        Rule::new("rule")
            .limit(Limit::per_client("client", Quota::per_second(1).burst(10)))
            .limit(Limit::per_client_and_route("route", Quota::per_second(1).burst(5)))
            .limit(Limit::shared("shared", Quota::per_second(1).burst(7))),
    )
}

#[tokio::test]
async fn all_or_nothing() {
    for world in worlds(&three_limits()).await {
        let (ann, ben) = (world.ann(), world.limiter.client(&Identity::name("ben")));
        let first = ann.charge("rule").route("/a").cost(4).await.unwrap();
        assert_eq!(numbers(&first), [(6, 4, None), (1, 4, None), (3, 4, None)]);
        let refused = ann.charge("rule").route("/a").cost(2).await.unwrap();
        assert_eq!(numbers(&refused), [(6, 4, None), (1, 4, Some(SECOND)), (3, 4, None)]);
        assert_eq!((refused.is_allowed(), refused.retry_after()), (false, Some(SECOND)));
        let other = ben.charge("rule").route("/b").cost(3).await.unwrap();
        assert_eq!(numbers(&other), [(7, 3, None), (2, 3, None), (0, 7, None)]);
        let never = ben.charge("rule").cost(6).await.unwrap();
        assert_eq!((never.is_allowed(), never.retry_after()), (false, None));
        (world.advance)(SECOND);
        let again = ann.charge("rule").route("/a").cost(1).await.unwrap();
        assert_eq!(numbers(&again), [(6, 4, None), (1, 4, None), (0, 7, None)]);
    }
}

#[tokio::test]
async fn peek_refund_and_reset() {
    for world in worlds(&three_limits()).await {
        let ann = world.ann();
        let first = ann.charge("rule").cost(3).await.unwrap();
        ann.charge("rule").await.unwrap();
        let peek = ann.peek("rule").cost(2).await.unwrap();
        assert_eq!(numbers(&peek), [(6, 4, None), (1, 4, Some(SECOND)), (3, 4, None)]);
        ann.refund(&first);
        ann.refund(&first);
        assert_eq!(numbers(&ann.peek("rule").await.unwrap()), [(9, 1, None), (4, 1, None), (6, 1, None)]);
        let refused = ann.charge("rule").cost(5).await.unwrap();
        ann.refund(&refused);
        let reset = ann.reset("rule").await.unwrap();
        assert_eq!(numbers(&reset), [(10, 0, None), (5, 0, None), (6, 1, None)]);
        assert!(matches!(ann.charge("no rule").await, Err(ChargeError::UnknownRule { .. })));
    }
}

#[tokio::test]
async fn watched_limits_refuse_nobody_and_are_charged_together() {
    let policy = Policy::new().rule(
        Rule::new("watch")
            .shadow()
            .limit(Limit::per_client("narrow", Quota::per_second(1).burst(2)))
            .limit(Limit::per_client("wide", Quota::per_second(1).burst(9))),
    );
    for world in worlds(&policy).await {
        let ann = world.ann();
        assert!(ann.charge("watch").cost(2).await.unwrap().is_allowed());
        let refused = ann.charge("watch").await.unwrap();
        assert_eq!(numbers(&refused), [(0, 2, Some(SECOND)), (7, 2, None)]);
        assert_eq!((refused.is_allowed(), refused.retry_after()), (true, None));
        ann.refund(&refused);
        assert_eq!(numbers(&ann.peek("watch").cost(0).await.unwrap()), [(0, 2, None), (7, 2, None)]);
    }
}

#[tokio::test]
async fn a_quota_that_changes_keeps_the_units_owed() {
    for world in worlds(&Policy::per_client(Quota::per_second(1).burst(10))).await {
        let ann = world.ann();
        ann.charge("client").cost(6).await.unwrap();
        world.limiter.set_quota("client", Quota::per(1, 10 * SECOND).burst(10)).unwrap();
        assert_eq!(numbers(&ann.peek("client").await.unwrap()), [(4, 60, None)]);
        world.limiter.set_quota("client", Quota::per(1, 10 * SECOND).burst(3)).unwrap();
        assert_eq!(numbers(&ann.peek("client").await.unwrap()), [(0, 30, Some(10 * SECOND))]);
        (world.advance)(10 * SECOND);
        assert!(ann.charge("client").await.unwrap().is_allowed());
    }
}

/// Is ready once it was polled, and a clone of it has to be polled anew.
struct Inner {
    ready: bool,
    calls: Arc<AtomicUsize>,
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        Self { ready: false, calls: self.calls.clone() }
    }
}

impl Service<Request<()>> for Inner {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been polled ready");
        self.calls.fetch_add(1, SeqCst);
        std::future::ready(Ok(Response::builder().header("cost", 3).body(Full::default()).unwrap()))
    }
}

fn inner() -> (Inner, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    (Inner { ready: false, calls: calls.clone() }, calls)
}

fn request(client: &str) -> Request<()> {
    Request::get("/").header("client", client).body(()).unwrap()
}

fn by_header(quota: Quota) -> Policy {
    let limit = Limit::per_client("client", quota).settle(Settle::header("cost"));
    Policy::new().identify(Source::header("client")).rule(Rule::new("client").limit(limit))
}

#[tokio::test]
async fn the_layer_answers_alike_with_every_store() {
    let mut answers = Vec::new();
    for world in worlds(&by_header(Quota::per_second(1).burst(5))).await {
        let (service, calls) = inner();
        let mut service = world.limiter.layer().layer(service);
        let mut seen = Vec::new();
        for number in 0..12 {
            let client = ["ann", "ben"][number % 2];
            let response = service.ready().await.unwrap().call(request(client)).await.unwrap();
            seen.push((response.status(), response.headers().get(RETRY_AFTER).cloned()));
            (world.advance)(SECOND / 2);
        }
        answers.push((seen, calls.load(SeqCst)));
    }
    // Each pays one on the way in and two more afterwards, three times as fast as they come back.
    let refused = answers[0].0.iter().filter(|seen| seen.0 == StatusCode::TOO_MANY_REQUESTS).count();
    assert_eq!((refused, answers[0].1), (4, 8));
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[tokio::test]
async fn a_service_that_was_polled_ready_is_the_one_that_is_called() {
    for world in worlds(&Policy::per_client(Quota::per_second(1).burst(2))).await {
        let (service, calls) = inner();
        let mut service = world.limiter.layer().layer(service);
        // Both wait for the store at the same time, each with a service of its own.
        let first = service.ready().await.unwrap().call(request("ann"));
        let second = service.ready().await.unwrap().call(request("ann"));
        let (second, first) = (second.await.unwrap(), first.await.unwrap());
        assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
        let third = service.ready().await.unwrap().call(request("ann")).await.unwrap();
        assert_eq!((third.status(), calls.load(SeqCst)), (StatusCode::TOO_MANY_REQUESTS, 2));
    }
}

/// A store that does as it is told, and says when its answer was dropped.
#[derive(Clone)]
struct Odd {
    answer: fn() -> Option<Result<Vec<Reading>, StoreError>>,
    dropped: Arc<AtomicBool>,
}

struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

impl Store for Odd {
    fn charge(&self, _: Vec<Charge>) -> StoreFuture {
        let (answer, guard) = (self.answer, Guard(self.dropped.clone()));
        Box::pin(async move {
            let _guard = guard;
            match answer() {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }

    fn settle(&self, _: Vec<Charge>) {}
}

fn odd(answer: fn() -> Option<Result<Vec<Reading>, StoreError>>) -> (Limiter, Arc<AtomicBool>) {
    let dropped = Arc::new(AtomicBool::new(false));
    let store = Odd { answer, dropped: dropped.clone() };
    (Limiter::builder(Policy::per_client(Quota::per_second(1))).store(store).build().unwrap(), dropped)
}

#[tokio::test]
async fn a_store_that_fails_or_miscounts_is_a_503_and_an_error_to_handlers() {
    let broken = || Some(Err(StoreError::new("no connection")));
    let (silent, talkative) = (|| Some(Ok(vec![])), || Some(Ok(vec![Reading::allowed(SECOND); 2])));
    for (answer, text) in [
        (broken as fn() -> _, "no connection"),
        (silent, "it answered 1 charges with 0 readings"),
        (talkative, "it answered 1 charges with 2 readings"),
    ] {
        let (limiter, _) = odd(answer);
        let (service, calls) = inner();
        let response = limiter.layer().layer(service).oneshot(request("ann")).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        assert_eq!(calls.load(SeqCst), 0);
        let error = limiter.client(&Identity::name("ann")).charge("client").await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn who_stops_waiting_for_a_store_never_reaches_the_service() {
    let (limiter, dropped) = odd(|| None);
    let (service, calls) = inner();
    let mut service = limiter.layer().layer(service);
    let mut waiting = Box::pin(service.ready().await.unwrap().call(request("ann")));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert!(!dropped.load(SeqCst));
    drop(waiting);
    assert_eq!((dropped.load(SeqCst), calls.load(SeqCst)), (true, 0));
}

#[test]
fn in_memory_a_request_is_decided_before_it_is_polled() {
    let limiter = Limiter::new(Policy::per_client(Quota::per_hour(1))).unwrap();
    let mut service = limiter.layer().layer(service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    }));
    drop(service.call(request("ann")));
    let second = service.call(request("ann")).now_or_never().unwrap().unwrap();
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
    // It stays charged, although it was dropped; the handle's anonymous client is the same one.
    let peek = limiter.client(&Identity::anonymous()).peek("client").into_future().now_or_never();
    assert!(!peek.unwrap().unwrap().is_allowed());
}
