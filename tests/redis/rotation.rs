//! Changing the secret, while requests come.

use crate::stage::{self, Server};
use std::time::Duration;
use tidegate::{
    Concurrency, Identity, Limit, Limiter, LimiterBuilder, ManualClock, Policy, Quota, RedisStore, Rule,
};

const OLD: [u8; 16] = *b"the former one..";
const NEW: [u8; 16] = *b"the one from now";

fn policy() -> Policy {
    Policy::new().rule(
        Rule::new("client")
            .limit(Limit::per_client("own", Quota::per_day(10)))
            .limit(Limit::per_client_and_route("route", Quota::per_day(10)))
            .limit(Limit::shared("all", Quota::per_day(1_000))),
    )
}

/// An instance that knows one secret, or both.
async fn joined(
    store: &RedisStore,
    clock: &ManualClock,
    policy: Policy,
    new: [u8; 16],
    old: Option<[u8; 16]>,
) -> Limiter {
    let builder = Limiter::builder(policy).store(store.clone()).secret(new).clock(clock.clone());
    let builder = old.into_iter().fold(builder, LimiterBuilder::former_secret);
    let limiter = builder.build().unwrap();
    store.ready().await.unwrap();
    limiter
}

fn store(server: &Server, clock: &ManualClock) -> RedisStore {
    stage::store(server).clock(clock.clone()).known_refusals(Duration::ZERO).build().unwrap()
}

async fn admits(limiter: &Limiter, name: &str) -> bool {
    limiter.charge(&Identity::name(name.to_owned()), "client").await.unwrap().is_allowed()
}

async fn remaining(limiter: &Limiter, name: &str) -> Vec<u32> {
    let status = limiter.client(&Identity::name(name.to_owned())).peek("client").await.unwrap();
    status.limits().map(|status| status.remaining()).collect()
}

/// Three instances, one after the other: whoever takes turns at them has one quota, whatever was paid where.
#[tokio::test]
async fn a_client_has_one_quota_while_the_secret_is_changed() {
    let (server, clock) = (Server::start(), ManualClock::new());
    let stores = [(); 3].map(|()| store(&server, &clock));
    let old = joined(&stores[0], &clock, policy(), OLD, None).await;
    for _ in 0..4 {
        assert!(admits(&old, "ann").await);
    }
    // What was counted before is counted on.
    let both = joined(&stores[1], &clock, policy(), NEW, Some(OLD)).await;
    assert_eq!(remaining(&both, "ann").await, [6, 6, 996]);
    for _ in 0..2 {
        assert!(admits(&both, "ann").await && admits(&old, "ann").await);
    }
    for limiter in [&both, &old] {
        assert_eq!(remaining(limiter, "ann").await, [2, 2, 992]);
    }
    // Nobody charges what another refuses, and what is given back is given back by both.
    let decision = both.charge(&Identity::name("ann"), "client").cost(2).await.unwrap();
    assert!(decision.is_allowed() && !admits(&old, "ann").await && !admits(&both, "ann").await);
    both.refund(&decision);
    assert_eq!(remaining(&both, "ann").await, [2, 2, 992]);
    assert_eq!(remaining(&old, "ann").await, [2, 2, 992]);
    // What is forgiven is, by both.
    both.client(&Identity::name("ann")).reset("client").await.unwrap();
    assert_eq!(remaining(&old, "ann").await[0], 10);
}

/// Who knows only the new one would not see what others count by the former one, and is let in when that is over.
#[tokio::test]
async fn who_comes_too_early_with_the_new_secret_alone_is_kept_out_and_then_let_in() {
    let (server, clock) = (Server::start(), ManualClock::new());
    let short = || Policy::per_client(Quota::per_second(10).burst(10));
    let stores = [(); 3].map(|()| store(&server, &clock));
    let old = joined(&stores[0], &clock, short(), OLD, None).await;
    let both = joined(&stores[1], &clock, short(), NEW, Some(OLD)).await;
    let early = Limiter::builder(short()).store(stores[2].clone()).secret(NEW).build().unwrap();
    let error = stores[2].ready().await.unwrap_err().to_string();
    assert!(error.contains("`.former_secret(..)`") && error.contains("wait for"), "{error}");
    // As long as there are any that know only the former one: each of its signs of life begins the time anew.
    let left = server.say("PTTL tg:former{tg:secret}").parse::<i64>().unwrap();
    assert!((1..=2_000).contains(&left), "{left}");
    for _ in 0..10 {
        assert!(admits(&old, "ann").await);
    }
    assert!(!admits(&both, "ann").await);
    drop((old, stores[0].clone()));
    let [first, _, third] = stores;
    drop(first);
    while third.ready().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.say("EXISTS tg:former{tg:secret}"), "0");
    // By then the new one has all that counts.
    assert!(admits(&both, "ben").await);
    assert_eq!(remaining(&early, "ben").await, [9]);
}

/// Each is told apart from a stranger, whichever came first.
#[tokio::test]
async fn only_the_two_secrets_are_let_in() {
    let (server, clock) = (Server::start(), ManualClock::new());
    let stores = [(); 4].map(|()| store(&server, &clock));
    // A server that was emptied in between: who knows both says so to those that come later.
    let _both = joined(&stores[0], &clock, policy(), NEW, Some(OLD)).await;
    let _old = joined(&stores[1], &clock, policy(), OLD, None).await;
    let _back = joined(&stores[2], &clock, policy(), OLD, Some(NEW)).await;
    let _stranger = Limiter::builder(policy()).store(stores[3].clone()).secret([1; 16]).build().unwrap();
    let error = stores[3].ready().await.unwrap_err().to_string();
    assert!(error.contains("another secret"), "{error}");
}

#[tokio::test]
async fn permits_are_counted_by_both() {
    let (server, clock) = (Server::start(), ManualClock::new());
    let policy = || {
        Policy::new().rule(
            Rule::new("client")
                .concurrency(Concurrency::per_client("own", 3))
                .concurrency(Concurrency::shared("all", 4)),
        )
    };
    let stores = [(); 2].map(|()| store(&server, &clock));
    let old = joined(&stores[0], &clock, policy(), OLD, None).await;
    let both = joined(&stores[1], &clock, policy(), NEW, Some(OLD)).await;
    let hold = async |limiter: &Limiter| limiter.client(&Identity::name("ann")).hold("client").await.unwrap();
    let held = [hold(&old).await, hold(&both).await, hold(&old).await];
    assert!(held.iter().all(|hold| hold.is_allowed()));
    assert!(!hold(&both).await.is_allowed() && !hold(&old).await.is_allowed());
    drop(held);
    let again = [hold(&both).await, hold(&both).await, hold(&old).await];
    assert!(again.iter().all(|hold| hold.is_allowed()) && !hold(&both).await.is_allowed());
}

#[test]
fn there_is_a_secret_to_change_to() {
    for builder in [
        Limiter::builder(policy()).former_secret(OLD),
        Limiter::builder(policy()).secret(OLD).former_secret(OLD),
    ] {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.starts_with("former_secret: ") && error.contains("`.secret(..)`"), "{error}");
    }
}
