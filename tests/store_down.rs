//! What becomes of requests while a store cannot decide, as their limits say.
#![allow(clippy::unwrap_used)]

mod common;

use common::{App as _, app, from, get, reply};
use http::{StatusCode, header::RETRY_AFTER};
use std::{
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tidegate::{
    Charge, ChargeError, Concurrency, Event, Identity, Joining, Limit, Limiter, ManualClock, Mistake, Op,
    Policy, Quota, Reading, Rule, Settle, Store, StoreDown, StoreError, StoreFuture,
};

const SECOND: Duration = Duration::from_secs(1);

/// Admits everything while it is up, is shared by four, and remembers what is settled and whose secret it is.
#[derive(Clone, Default)]
struct Frail {
    down: Arc<AtomicBool>,
    settled: Arc<Mutex<Vec<Op>>>,
    joined: Arc<Mutex<Vec<Option<String>>>>,
}

impl Store for Frail {
    fn charge(&self, charges: Vec<Charge>) -> StoreFuture {
        let readings = charges.iter().map(|_| Reading::allowed(SECOND)).collect();
        let answer = if self.down.load(SeqCst) { Err(StoreError::new("it is away")) } else { Ok(readings) };
        Box::pin(ready(answer))
    }

    fn settle(&self, charges: Vec<Charge>) {
        self.settled.lock().unwrap().extend(charges.iter().map(|charge| charge.op));
    }

    fn join(&self, joining: Joining) -> Result<(), Mistake> {
        self.joined.lock().unwrap().push(joining.secret_fingerprint().map(str::to_owned));
        Ok(())
    }

    fn is_up(&self) -> bool {
        !self.down.load(SeqCst)
    }

    fn instances(&self) -> u32 {
        4
    }
}

/// For load balancers, which send requests elsewhere meanwhile.
#[test]
fn a_limiter_is_not_ready_while_a_limit_refuses_for_its_store() {
    let concurrency = |how| {
        Policy::new().rule(Rule::new("c").concurrency(Concurrency::per_client("at once", 1).store_down(how)))
    };
    for (policy, is_ready) in [
        (policy([limit("a", 1, StoreDown::Allow), limit("l", 1, StoreDown::Local)]), true),
        (policy([limit("a", 1, StoreDown::Allow), limit("d", 1, StoreDown::Deny)]), false),
        (concurrency(StoreDown::Local), true),
        (concurrency(StoreDown::Deny), false),
    ] {
        let (limiter, _, store) = down(policy);
        assert_eq!(limiter.is_ready(), is_ready);
        store.down.store(false, SeqCst);
        assert!(limiter.is_ready());
    }
    assert!(
        Limiter::new(policy([limit("d", 1, StoreDown::Deny)])).unwrap().is_ready(),
        "it counts in memory"
    );
}

fn down(policy: Policy) -> (Limiter, ManualClock, Frail) {
    let (clock, store) = (ManualClock::new(), Frail::default());
    store.down.store(true, SeqCst);
    let limiter = Limiter::builder(policy).clock(clock.clone()).store(store.clone()).build().unwrap();
    (limiter, clock, store)
}

fn limit(name: &str, burst: u64, how: StoreDown) -> Limit {
    Limit::per_client(name, Quota::per_second(1).burst(burst)).store_down(how)
}

fn policy(limits: impl IntoIterator<Item = Limit>) -> Policy {
    Policy::new().rule(limits.into_iter().fold(Rule::new("rule"), Rule::limit))
}

#[tokio::test]
async fn unless_a_limit_says_otherwise_the_request_is_refused() {
    let (limiter, _, _) = down(Policy::per_client(Quota::per_second(9)));
    let answer = app(&limiter.layer(), |_| reply(200)).send(get("/")).await;
    assert_eq!(
        (answer.status(), &answer.headers()[RETRY_AFTER]),
        (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
    );
    let error = limiter.charge(&Identity::name("ann"), "client").await.unwrap_err();
    assert!(matches!(error, ChargeError::Store(_)), "{error}");
}

#[tokio::test]
async fn a_limit_that_allows_lets_everything_pass_and_one_that_denies_nothing() {
    let (limiter, _, _) = down(policy([limit("open", 1, StoreDown::Allow)]));
    let service = app(&limiter.layer(), |_| reply(200));
    assert_eq!(service.admits(20, || get("/")).await, 20);
    for other in [StoreDown::Allow, StoreDown::Local] {
        let (limiter, _, _) = down(policy([limit("one", 9, other), limit("two", 9, StoreDown::Deny)]));
        assert_eq!(app(&limiter.layer(), |_| reply(200)).status(get("/")).await, 503);
    }
}

/// An instance of four admits a quarter of the burst at once and of the rate from then on, to each client.
#[tokio::test]
async fn a_local_limit_admits_this_instances_part() {
    let (limiter, clock, _) =
        down(policy([limit("local", 8, StoreDown::Local), limit("open", 1, StoreDown::Allow)]));
    let service = app(&limiter.layer(), |_| reply(200));
    for peer in ["192.0.2.1", "192.0.2.2"] {
        assert_eq!(service.admits(10, || from(peer, "GET", "/")).await, 2);
    }
    clock.advance(4 * SECOND - Duration::from_nanos(1));
    assert_eq!(service.status(get("/")).await, 429);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(service.admits(10, || get("/")).await, 1);
    clock.advance(3_600 * SECOND);
    assert_eq!(service.admits(10, || get("/")).await, 2);
}

#[tokio::test]
async fn what_costs_more_than_a_part_of_the_burst_still_passes_at_the_rate() {
    let (limiter, clock, _) = down(policy([limit("local", 8, StoreDown::Local).cost(8)]));
    let service = app(&limiter.layer(), |_| reply(200));
    assert_eq!(service.admits(3, || get("/")).await, 1);
    clock.advance(31 * SECOND);
    assert_eq!(service.status(get("/")).await, 429);
    clock.advance(SECOND);
    assert_eq!(service.admits(3, || get("/")).await, 1);
}

#[tokio::test]
async fn small_costs_forgive_nothing_of_large_ones() {
    let (limiter, clock, _) = down(policy([limit("local", 8, StoreDown::Local)]));
    let ann = limiter.client(&Identity::name("ann"));
    assert!(ann.charge("rule").cost(8).await.unwrap().is_allowed());
    let refused = ann.charge("rule").await.unwrap();
    assert_eq!(refused.retry_after(), Some(28 * SECOND));
    clock.advance(28 * SECOND - Duration::from_nanos(1));
    assert!(!ann.charge("rule").await.unwrap().is_allowed());
    clock.advance(Duration::from_nanos(1));
    assert!(ann.charge("rule").await.unwrap().is_allowed());
}

#[tokio::test]
async fn limits_that_watch_never_refuse_for_a_store() {
    let watching = Rule::new("watch").shadow().limit(limit("watched", 1, StoreDown::Deny));
    let (limiter, _, _) = down(policy([limit("open", 1, StoreDown::Allow)]).rule(watching));
    assert_eq!(app(&limiter.layer(), |_| reply(200)).admits(5, || get("/")).await, 5);
}

/// The store would give back what it never took, and another request would pass for it.
#[tokio::test]
async fn what_a_store_never_counted_is_not_given_back_to_it() {
    let failures = Settle::count(|status| status.as_u16() >= 400);
    let (limiter, _, store) = down(policy([limit("local", 8, StoreDown::Local).settle(failures)]));
    let service = app(&limiter.layer(), |_| reply(200));
    assert_eq!(service.admits(9, || get("/")).await, 2);
    let ann = limiter.client(&Identity::name("ann"));
    let decision = ann.charge("rule").await.unwrap();
    limiter.refund(&decision);
    store.down.store(false, SeqCst);
    limiter.refund(&decision);
    assert_eq!(*store.settled.lock().unwrap(), []);
    let counted = ann.charge("rule").await.unwrap();
    limiter.refund(&counted);
    assert!(matches!(store.settled.lock().unwrap()[..], [Op::Give(_)]));
}

#[tokio::test]
async fn who_asks_or_resets_by_hand_is_told_that_the_store_is_down() {
    let (limiter, _, _) = down(policy([limit("local", 8, StoreDown::Local)]));
    let ann = limiter.client(&Identity::name("ann"));
    assert!(ann.charge("rule").await.unwrap().is_allowed());
    assert!(matches!(ann.peek("rule").await, Err(ChargeError::Store(_))));
    assert!(matches!(ann.reset("rule").await, Err(ChargeError::Store(_))));
}

#[tokio::test]
async fn each_decision_without_the_store_is_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let (log, store) = (told.clone(), Frail::default());
    store.down.store(true, SeqCst);
    let observer = move |event: &Event<'_>| {
        if let Event::WithoutStore { occasion, error, .. } = event {
            let limits: Vec<_> = occasion.limits().iter().map(|limit| limit.remaining()).collect();
            log.lock().unwrap().push(format!("{limits:?} {error}"));
        }
    };
    let limiter =
        Limiter::builder(policy([limit("local", 8, StoreDown::Local)])).store(store).observe(observer);
    limiter.build().unwrap().charge(&Identity::name("ann"), "rule").await.unwrap();
    assert_eq!(*told.lock().unwrap(), ["[1] the store could not decide: it is away"]);
}

#[tokio::test]
async fn a_store_is_told_whose_secret_counts_in_it() {
    let store = Frail::default();
    for secret in [None, Some([1; 16]), Some([2; 16]), Some([1; 16])] {
        let builder = Limiter::builder(Policy::per_client(Quota::per_second(1))).store(store.clone());
        secret.into_iter().fold(builder, |builder, secret| builder.secret(secret)).build().unwrap();
    }
    let joined = store.joined.lock().unwrap();
    assert_eq!((&joined[0], &joined[1]), (&None, &joined[3]));
    assert_ne!(joined[1], joined[2]);
    assert!(joined[1].as_ref().unwrap().len() == 16 && !joined[1].as_ref().unwrap().contains("0101"));
}
