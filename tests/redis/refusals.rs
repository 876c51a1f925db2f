//! Refusals that are known: never one that Redis would not have given, within the bound that is told.

use crate::{
    model::charges,
    stage::{self, Server},
};
use futures_util::FutureExt as _;
use http::StatusCode;
use proptest::{collection::vec, prelude::*, sample::select};
use std::{cell::Cell, future::IntoFuture as _, time::Duration};
use tidegate::{
    Charge, Identity, Limit, Limiter, ManualClock, Op, Policy, Quota, Rate, RedisStore, Rule, Settle, Store,
};
use tokio::runtime::Runtime;

const MS: Duration = Duration::from_millis(1);

/// Two instances that count together, one of which knows refusals, and their clock.
async fn two(server: &Server, policy: Policy) -> ([(RedisStore, Limiter); 2], ManualClock) {
    let clock = ManualClock::new();
    let instance = async |known| {
        let store = stage::store(server).clock(clock.clone()).known_refusals(known).build().unwrap();
        let with = |builder: tidegate::LimiterBuilder| builder.clock(clock.clone());
        let limiter = stage::limiter_with(&store, policy.clone(), with).await;
        (store, limiter)
    };
    let knows = instance(Duration::from_secs(1)).await;
    ([knows, instance(Duration::ZERO).await], clock)
}

async fn admits(limiter: &Limiter) -> bool {
    limiter.charge(&Identity::name("ann"), "client").await.unwrap().is_allowed()
}

/// Whether a refusal comes at once, with nobody asked.
fn is_known(store: &RedisStore, limiter: &Limiter) -> bool {
    let calls = store.status().calls;
    let decision = limiter.charge(&Identity::name("ann"), "client").into_future().now_or_never();
    let known = decision.is_some_and(|decision| !decision.unwrap().is_allowed());
    assert!(!known || store.status().calls == calls);
    known
}

#[tokio::test]
async fn a_known_refusal_asks_nobody_and_ends_when_the_charge_fits() {
    let server = Server::start();
    let ([(store, limiter), _], clock) =
        two(&server, Policy::per_client(Quota::per_second(2).burst(1))).await;
    assert!(admits(&limiter).await && !admits(&limiter).await);
    for _ in 0..10 {
        assert!(is_known(&store, &limiter));
    }
    assert_eq!(store.status().known_refusals, 10);
    clock.advance(300 * MS);
    let decision = limiter.charge(&Identity::name("ann"), "client").await.unwrap();
    assert_eq!(decision.retry_after(), Some(200 * MS));
    assert!(is_known(&store, &limiter));
    clock.advance(200 * MS);
    assert!(admits(&limiter).await && !admits(&limiter).await);
}

/// After a second it is asked again, whatever was to be waited for.
#[tokio::test]
async fn a_reset_by_another_instance_is_seen_within_the_time_that_was_set() {
    let server = Server::start();
    let ([(store, limiter), (_, other)], clock) = two(&server, Policy::per_client(Quota::per_day(1))).await;
    assert!(admits(&limiter).await && !admits(&limiter).await);
    other.client(&Identity::name("ann")).reset("client").await.unwrap();
    assert!(is_known(&store, &limiter));
    clock.advance(999 * MS);
    assert!(is_known(&store, &limiter));
    clock.advance(MS);
    assert!(admits(&limiter).await);
}

#[tokio::test]
async fn what_the_same_instance_gives_back_resets_or_raises_is_seen_at_once() {
    let server = Server::start();
    let ([(store, limiter), _], _) = two(&server, Policy::per_client(Quota::per_day(1))).await;
    let first = limiter.charge(&Identity::name("ann"), "client").await.unwrap();
    assert!(!admits(&limiter).await && is_known(&store, &limiter));
    limiter.refund(&first);
    assert!(admits(&limiter).await && !admits(&limiter).await && is_known(&store, &limiter));
    limiter.client(&Identity::name("ann")).reset("client").await.unwrap();
    assert!(admits(&limiter).await && !admits(&limiter).await && is_known(&store, &limiter));
    limiter.set_quota("client", Quota::per_day(2)).unwrap();
    assert!(admits(&limiter).await && !admits(&limiter).await);
}

/// What another instance resets is told.
#[tokio::test]
async fn what_another_instance_resets_is_told() {
    let server = Server::start();
    let ([(store, limiter), (_, other)], _) = two(&server, Policy::per_client(Quota::per_day(1))).await;
    while server.say("PUBSUB NUMSUB tg:resets") != "tg:resets 2" {
        tokio::task::yield_now().await;
    }
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        while admits(&limiter).await {}
        assert!(is_known(&store, &limiter));
        other.client(&Identity::name("ann")).reset("client").await.unwrap();
        let start = std::time::Instant::now();
        while is_known(&store, &limiter) {
            tokio::task::yield_now().await;
        }
        longest = longest.max(start.elapsed());
        assert!(admits(&limiter).await);
    }
    println!("a reset on one instance was in force on another after {longest:?} at most");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

/// What is told while nobody hears is missed.
#[tokio::test]
async fn who_cannot_hear_of_resets_forgets_what_it_knows() {
    let server = Server::start();
    let ([(store, limiter), _other], _) = two(&server, Policy::per_client(Quota::per_day(1))).await;
    while server.say("PUBSUB NUMSUB tg:resets") != "tg:resets 2" {
        tokio::task::yield_now().await;
    }
    while admits(&limiter).await {}
    assert!(is_known(&store, &limiter));
    for client in server.say("CLIENT LIST").lines().filter(|line| line.contains(" sub=1 ")) {
        let id = client.split(' ').find_map(|word| word.strip_prefix("id=")).unwrap();
        assert_eq!(server.say(&format!("CLIENT KILL ID {id}")), "1");
    }
    while is_known(&store, &limiter) {
        tokio::task::yield_now().await;
    }
    // Heard again, it knows again.
    while server.say("PUBSUB NUMSUB tg:resets") != "tg:resets 2" {
        tokio::task::yield_now().await;
    }
    assert!(!admits(&limiter).await);
}

/// Whether the policy says so or it was done by hand.
#[tokio::test]
async fn where_something_is_given_back_refusals_are_known_for_50_ms() {
    let by_hand = Limit::per_client("client", Quota::per_day(2));
    let by_response = by_hand.clone().settle(Settle::count(|status| status == StatusCode::OK));
    for limit in [by_hand, by_response] {
        let server = Server::start();
        let ([(store, limiter), _], clock) =
            two(&server, Policy::new().rule(Rule::new("client").limit(limit))).await;
        let first = limiter.charge(&Identity::name("ben"), "client").await.unwrap();
        limiter.refund(&first);
        assert!(admits(&limiter).await && admits(&limiter).await && !admits(&limiter).await);
        clock.advance(49 * MS);
        assert!(is_known(&store, &limiter));
        clock.advance(MS);
        assert!(!is_known(&store, &limiter));
    }
}

/// A limit that only watches refuses nobody, and all limits of a request have to be known.
#[tokio::test]
async fn a_limit_that_only_watches_refuses_nobody() {
    let server = Server::start();
    let policy = Policy::new()
        .rule(Rule::new("client").limit(Limit::per_client("client", Quota::per_day(1))).shadow());
    let ([(store, limiter), _], _) = two(&server, policy).await;
    for _ in 0..3 {
        assert!(admits(&limiter).await && !is_known(&store, &limiter));
    }
}

#[tokio::test]
async fn a_store_that_is_to_know_nothing_asks_each_time() {
    let server = Server::start();
    let ([_, (store, limiter)], _) = two(&server, Policy::per_client(Quota::per_day(1))).await;
    assert!(admits(&limiter).await && !admits(&limiter).await && !is_known(&store, &limiter));
    let error = RedisStore::builder("redis://host").known_refusals(11_000 * MS).build().unwrap_err();
    assert!(error.to_string().starts_with("known_refusals: 11s"), "{error}");
}

/// More clients than there is memory for, all of them refused: some are forgotten, and nobody is let pass.
#[tokio::test]
async fn what_is_known_takes_memory_of_a_fixed_size() {
    let server = Server::start();
    let ([(store, limiter), _], _) = two(&server, Policy::per_client(Quota::per_day(1))).await;
    let charge = async |name: u32| {
        let name = Identity::name(format!("{name}"));
        limiter.charge(&name, "client").await.unwrap().is_allowed()
    };
    for _ in 0..2 {
        for name in 0..20_000 {
            charge(name).await;
        }
    }
    let before = store.status().known_refusals;
    for name in 0..20_000 {
        assert!(!charge(name).await);
    }
    let known = store.status().known_refusals - before;
    assert!((8_000..=16_384).contains(&known), "{known}");
}

#[derive(Debug, Clone)]
enum Step {
    /// Asks for units of some places at once.
    Take(Vec<(usize, u32, bool)>),
    /// By the instance that knows, or by another one.
    Change(bool, usize, Op),
    Rate(usize, Rate),
    Forward(u64),
    Back(u64),
}

fn rate() -> impl Strategy<Value = Rate> {
    let second = 1_000_000_000;
    (select(vec![1_000u64, 999_999, second / 50, second, 70 * second + 1]), select(vec![1u32, 3, 10]))
        .prop_map(|(interval, burst)| {
            Quota::per(1, Duration::from_nanos(interval)).burst(burst.into()).rate().unwrap()
        })
}

fn step() -> impl Strategy<Value = Step> {
    let places: Vec<_> = (0..5usize).collect();
    let takes = proptest::sample::subsequence(places, 1..=2).prop_flat_map(|places| {
        let take = |place| (Just(place), 0..5u32, prop::bool::weighted(0.1));
        places.into_iter().map(take).collect::<Vec<_>>()
    });
    let op = prop_oneof![
        (0..5_000_000_000u64).prop_map(Op::Give),
        (0..9u32).prop_map(Op::Owe),
        (0..9u32).prop_map(Op::Peek),
        (0..5u32).prop_map(Op::Take),
        Just(Op::Clear)
    ];
    let micros = || prop_oneof![0..2_000u64, 0..60_000u64, 0..2_000_000u64];
    prop_oneof![
        20 => takes.prop_map(Step::Take),
        2 => (any::<bool>(), 0..5usize, op).prop_map(|(own, place, op)| Step::Change(own, place, op)),
        1 => (0..5usize, rate()).prop_map(|(place, rate)| Step::Rate(place, rate)),
        8 => micros().prop_map(Step::Forward),
        1 => prop_oneof![0..90_000u64, 110_000..3_000_000u64].prop_map(Step::Back),
    ]
}

/// The stores of two instances and their clock; the second one asks Redis each time.
struct Trial<'a> {
    runtime: &'a Runtime,
    stores: [&'a RedisStore; 2],
    clock: ManualClock,
    charges: Vec<Charge>,
    /// Microseconds since another instance gave back or charged at another rate, or the clock was set.
    quiet: u64,
    /// Whether any rate was changed.
    rated: bool,
    known: u32,
}

impl Trial<'_> {
    fn ask(&self, by: usize, charges: Vec<Charge>) -> bool {
        let charge = self.stores[by].charge(charges.clone());
        let readings = self.runtime.block_on(charge).unwrap();
        charges.iter().zip(readings).all(|(charge, reading)| charge.shadow || reading.is_allowed())
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Take(asked) => self.take(asked),
            Step::Change(own, place, op) => {
                let charge = Charge { op: *op, ..self.charges[*place] };
                self.ask(usize::from(!own), vec![charge]);
                if !own && (self.rated || matches!(op, Op::Give(_) | Op::Clear)) {
                    self.quiet = 0;
                }
            }
            Step::Rate(place, rate) => {
                self.charges[*place].rate = *rate;
                self.rated = true;
            }
            Step::Forward(micros) => {
                self.clock.advance(Duration::from_micros(*micros));
                self.quiet += micros;
            }
            Step::Back(micros) => {
                self.clock.set_back(Duration::from_micros(*micros));
                // The clock that ages refusals is never set back; this one has to be looked at for that.
                let _ = self.stores[0].known(&self.charges[..1]);
                self.quiet = 0;
            }
        }
    }

    fn take(&mut self, asked: &[(usize, u32, bool)]) {
        let charge = |op: fn(u32) -> Op| {
            let charge = move |charges: &[Charge], (place, units, shadow): &(usize, u32, bool)| Charge {
                op: op(*units),
                shadow: *shadow,
                ..charges[*place]
            };
            asked.iter().map(|asked| charge(&self.charges, asked)).collect::<Vec<_>>()
        };
        let (takes, peeks) = (charge(Op::Take), charge(Op::Peek));
        let Some(readings) = self.stores[0].known(&takes) else {
            self.ask(0, takes);
            return;
        };
        self.known += 1;
        assert!(takes.iter().zip(&readings).any(|(charge, reading)| !charge.shadow && !reading.is_allowed()));
        let is_late = self.quiet >= 1_000_000;
        // Nobody else charges at another rate, so a peek changes nothing for the next step.
        assert!(!is_late || !self.ask(1, peeks), "{takes:?} {readings:?}");
    }
}

#[test]
fn nobody_is_refused_whom_redis_would_let_pass() {
    let (runtime, server) = (Runtime::new().unwrap(), Server::start());
    let (case, known) = (Cell::new(0), Cell::new(0));
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(rates in vec(rate(), 5), steps in vec(step(), 1..120))| {
        case.set(case.get() + 1);
        let clock = ManualClock::new();
        clock.advance(Duration::from_secs(1_700_000_000));
        let store = || {
            let builder = stage::store(&server).prefix(format!("{}:", case.get())).clock(clock.clone());
            builder.build().unwrap()
        };
        let stores = [store(), store()];
        let policy = || Policy::per_client(Quota::per_second(1));
        let _limiters = [
            runtime.block_on(stage::limiter(&stores[0], policy())),
            runtime.block_on(stage::limiter(&stores[1], policy())),
        ];
        let charges = charges().into_iter().zip(&rates).map(|(charge, rate)| Charge { rate: *rate, ..charge });
        let (stores, charges) = ([&stores[0], &stores[1]], charges.collect());
        let mut trial = Trial { runtime: &runtime, stores, clock, charges, quiet: 1_000_000, rated: false, known: 0 };
        steps.iter().for_each(|step| trial.run(step));
        known.set(known.get() + trial.known);
    });
    assert!(known.get() > 500, "{}", known.get());
}
