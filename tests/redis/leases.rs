//! Units that instances debit in advance: within the bounds that are told, and none beyond the limit in the long run.

use crate::stage::{self, SECRET, Server};
use futures_util::FutureExt as _;
use proptest::{collection::vec, prelude::*};
use std::{cell::Cell, future::IntoFuture as _, time::Duration};
use tidegate::{Identity, Limit, Limiter, ManualClock, Policy, Quota, RedisStore, Rule};
use tokio::runtime::Runtime;

const MS: Duration = Duration::from_millis(1);

fn leased(quota: Quota, units: u32) -> Policy {
    Policy::new().rule(Rule::new("client").limit(Limit::per_client("client", quota).leased(units)))
}

/// An instance on a clock of its own, or of several.
async fn instance(server: &Server, policy: Policy, clock: &ManualClock) -> (RedisStore, Limiter) {
    let builder = stage::store(server).clock(clock.clone()).known_refusals(Duration::ZERO);
    let store = builder.build().unwrap();
    let limiter = stage::limiter_with(&store, policy, |builder| builder.clock(clock.clone())).await;
    (store, limiter)
}

async fn remaining(limiter: &Limiter) -> u32 {
    let decision = limiter.client(&Identity::name("ann")).peek("client").await.unwrap();
    decision.limits().next().unwrap().remaining()
}

async fn admits(limiter: &Limiter, units: u32) -> bool {
    limiter.charge(&Identity::name("ann"), "client").cost(units).await.unwrap().is_allowed()
}

/// Charges one by one until it is refused, and answers with how often it was not.
async fn admitted(limiter: &Limiter) -> u32 {
    let mut admitted = 0;
    while admits(limiter, 1).await {
        admitted += 1;
    }
    admitted
}

#[tokio::test]
async fn a_hot_key_needs_few_calls_and_the_last_units_go_one_by_one() {
    let (server, clock) = (Server::start(), ManualClock::new());
    let (store, limiter) = instance(&server, leased(Quota::per_day(10_000), 500), &clock).await;
    assert_eq!(admitted(&limiter).await, 10_000);
    let status = store.status();
    assert!(status.calls < 300, "{status:?}");
    assert_eq!(u64::from(10_000u32) + 1, status.leased_decisions + charges(&status), "{status:?}");
    assert_eq!(status.returned_units, 0);
}

/// Calls that decided a request: all that neither fetched nor gave back.
fn charges(status: &tidegate::RedisStatus) -> u64 {
    10_001 - status.leased_decisions
}

/// Who comes seldom is counted as at any other limit.
#[tokio::test]
async fn a_cold_key_leases_nothing() {
    let (server, clock) = (Server::start(), ManualClock::new());
    let (store, limiter) = instance(&server, leased(Quota::per_day(100), 50), &clock).await;
    for taken in 1..=10 {
        assert!(admits(&limiter, 1).await);
        assert_eq!(remaining(&limiter).await, 100 - taken);
        clock.advance(150 * MS);
    }
    assert_eq!((store.status().leased_decisions, store.status().leased_units), (0, 0));
}

/// What is told does not count as spent what is only held.
#[tokio::test]
async fn what_is_held_counts_as_remaining_to_who_holds_it() {
    let (server, clock) = (Server::start(), ManualClock::new());
    let (_, limiter) = instance(&server, leased(Quota::per_day(1_000), 100), &clock).await;
    for taken in 1..=600 {
        let decision = limiter.charge(&Identity::name("ann"), "client").await.unwrap();
        let told = decision.limits().next().unwrap().remaining();
        // With what Redis debits for what comes, it may tell that much less.
        assert!((899 - taken..=1_000 - taken).contains(&(told as i32)), "{told} after {taken}");
    }
}

/// Less is held than a request costs: what is held pays for a part of it, or stays.
#[tokio::test]
async fn a_request_that_costs_more_than_is_held_takes_all_of_it() {
    let (server, clock) = (Server::start(), ManualClock::new());
    let (_, limiter) = instance(&server, leased(Quota::per_day(100), 20), &clock).await;
    for _ in 0..30 {
        assert!(admits(&limiter, 1).await);
    }
    // All that is left, held or not: 70 units.
    assert!(!admits(&limiter, 71).await && !admits(&limiter, 101).await);
    assert!(admits(&limiter, 70).await && !admits(&limiter, 1).await);
}

#[tokio::test]
async fn an_instance_that_leaves_gives_back() {
    let (server, clock) = (Server::start(), ManualClock::new());
    let policy = leased(Quota::per_day(1_000), 100);
    let (store, limiter) = instance(&server, policy.clone(), &clock).await;
    let (_, other) = instance(&server, policy.clone(), &clock).await;
    for _ in 0..100 {
        assert!(admits(&limiter, 1).await);
    }
    assert!(remaining(&other).await < 900);
    store.leave().await;
    assert_eq!(remaining(&other).await, 900);
    // It goes on without holding anything.
    for taken in 1..=50 {
        assert!(admits(&limiter, 1).await);
        assert_eq!(remaining(&other).await, 900 - taken);
    }
    // Dropped, it gives back as well.
    let (store, limiter) = instance(&server, policy, &clock).await;
    for _ in 0..50 {
        assert!(admits(&limiter, 1).await);
    }
    assert!(remaining(&other).await < 800);
    drop((store, limiter));
    while remaining(&other).await < 800 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_nobody_asks_for_any_more_is_given_back() {
    let (server, clock) = (Server::start(), ManualClock::new());
    let policy = leased(Quota::per_day(1_000), 100);
    let (store, limiter) = instance(&server, policy.clone(), &clock).await;
    let (_, other) = instance(&server, policy, &clock).await;
    for _ in 0..100 {
        assert!(admits(&limiter, 1).await);
    }
    clock.advance(1_000 * MS);
    while remaining(&other).await < 900 {
        tokio::time::sleep(10 * MS).await;
    }
    let status = store.status();
    assert!(status.returned_units > 0 && status.leased_units - status.returned_units <= 100, "{status:?}");
}

/// A quota that is changed, a client that is forgiven: nothing that was held before counts.
#[tokio::test]
async fn changes_void_what_is_held() {
    let (server, clock) = (Server::start(), ManualClock::new());
    let (_, limiter) = instance(&server, leased(Quota::per_day(1_000), 100), &clock).await;
    for _ in 0..100 {
        assert!(admits(&limiter, 1).await);
    }
    limiter.client(&Identity::name("ann")).reset("client").await.unwrap();
    assert_eq!(remaining(&limiter).await, 1_000);
    assert_eq!(admitted(&limiter).await, 1_000);
    limiter.set_quota("client", Quota::per_day(10)).unwrap();
    assert_eq!(admitted(&limiter).await, 0);
    limiter.set_quota("client", Quota::per_day(50)).unwrap();
    assert_eq!(admitted(&limiter).await, 40);
}

#[tokio::test]
async fn more_than_the_burst_cannot_be_leased() {
    for units in [0, 11] {
        let policy = leased(Quota::per_day(10), units);
        let error = Limiter::builder(policy).secret(SECRET).build().unwrap_err().to_string();
        assert!(error.contains("1 to 10 units can be leased"), "{error}");
    }
}

const INSTANCES: u64 = 3;
const BURST: u64 = 40;
const UNITS: u32 = 10;
/// Nanoseconds.
const INTERVAL: u64 = 10_000_000;

#[derive(Debug, Clone)]
enum Step {
    /// By an instance, for a client: so many times so many units.
    Take(usize, usize, u32, u32),
    Forward(u64),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let instance = || 0..INSTANCES as usize;
    let cost = prop_oneof![6 => Just(1u32), 1 => Just(0), 1 => 2..8u32];
    prop_oneof![
        16 => (instance(), 0..2usize, cost, 1..30u32).prop_map(|(by, who, cost, times)| Step::Take(by, who, cost, times)),
        8 => prop_oneof![0..30_000u64, 0..1_500_000u64].prop_map(Step::Forward),
        1 => instance().prop_map(Step::Leave),
    ]
}

/// What was admitted, counted when it was and not when it was debited.
#[derive(Default, Clone, Copy)]
struct Spent {
    /// Debt in nanoseconds, at a time.
    debt: u64,
    at: u64,
    all: u64,
}

impl Spent {
    fn owed(&self, now: u64) -> u64 {
        self.debt.saturating_sub(now - self.at)
    }
}

fn check(runtime: &Runtime, server: &Server, case: u32, steps: &[Step]) -> u64 {
    let clock = ManualClock::new();
    let rate = || Quota::per(1, Duration::from_nanos(INTERVAL)).burst(BURST);
    let rule = Rule::new("client")
        .limit(Limit::per_client("client", rate()).leased(UNITS))
        .limit(Limit::shared("all", rate()).leased(UNITS));
    let instances: Vec<_> = (0..INSTANCES)
        .map(|_| {
            let builder = stage::store(server).prefix(format!("{case}:")).clock(clock.clone());
            let store = builder.build().unwrap();
            let with = |builder: tidegate::LimiterBuilder| builder.clock(clock.clone());
            let policy = Policy::new().rule(rule.clone());
            let limiter = runtime.block_on(stage::limiter_with(&store, policy, with));
            (store, limiter)
        })
        .collect();
    let (mut now, mut spent) = (0, [Spent::default(); 3]);
    for step in steps {
        match step {
            Step::Take(by, who, cost, times) => {
                let client = instances[*by].1.client(&Identity::name(["ann", "ben"][*who]));
                for _ in 0..*times {
                    let charging = client.charge("client").cost(*cost).into_future();
                    let admitted = runtime.block_on(charging).unwrap().is_allowed();
                    let bound = (BURST + INSTANCES * u64::from(UNITS)) * INTERVAL;
                    let by = u64::from(*cost) * INTERVAL;
                    let places = [*who, 2];
                    if !admitted {
                        // Others may hold what is missing, and no more.
                        let is_full =
                            |place: &usize| spent[*place].owed(now) + by + bound > 2 * BURST * INTERVAL;
                        assert!(places.iter().any(is_full), "{step:?}");
                        continue;
                    }
                    for place in places {
                        let place = &mut spent[place];
                        *place = Spent { debt: place.owed(now) + by, at: now, all: place.all + by };
                        assert!(place.debt <= bound, "{} units at once", place.debt / INTERVAL);
                        assert!(place.all <= BURST * INTERVAL + now, "{} units in all", place.all / INTERVAL);
                    }
                }
            }
            Step::Forward(micros) => {
                clock.advance(Duration::from_micros(*micros));
                now += micros * 1_000;
            }
            Step::Leave(by) => runtime.block_on(instances[*by].0.leave()),
        }
    }
    instances.iter().map(|(store, _)| store.status().leased_decisions).sum()
}

#[test]
fn whatever_is_held_the_bounds_hold() {
    let (runtime, server) = (Runtime::new().unwrap(), Server::start());
    let (case, decided) = (Cell::new(0), Cell::new(0));
    let config = ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in vec(step(), 1..60))| {
        case.set(case.get() + 1);
        decided.set(decided.get() + check(&runtime, &server, case.get(), &steps));
    });
    assert!(decided.get() > 1_000, "{}", decided.get());
}

/// A charge that nobody waits for any more, and a server that is gone: what was set aside is there again.
#[tokio::test]
async fn who_leaves_half_way_takes_nothing_along() {
    let (server, clock) = (Server::start(), ManualClock::new());
    let (_, limiter) = instance(&server, leased(Quota::per_day(100), 20), &clock).await;
    let mut spent = 0;
    for _ in 0..30 {
        spent += u32::from(admits(&limiter, 1).await);
    }
    for _ in 0..20 {
        // Not enough is held for so much, so Redis is asked; it may be charged all the same.
        let ann = limiter.client(&Identity::name("ann"));
        let mut charging = ann.charge("client").cost(60).into_future();
        assert!((&mut charging).now_or_never().is_none());
        drop(charging);
    }
    let rest = admitted(&limiter).await;
    assert!(spent + rest <= 100 && spent + rest + 60 >= 100, "{spent} and {rest}");
}
