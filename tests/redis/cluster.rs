//! A cluster: limits whose keys lie with several nodes, keys that move, and nodes that die.

use crate::{
    model,
    stage::{self, Cluster, Events, until},
};
use futures_util::future::join_all;
use proptest::{collection::vec, prelude::*};
use std::{
    cell::Cell,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::{Duration, Instant},
};
use tidegate::{Concurrency, Identity, Limit, Limiter, Policy, Quota, RedisBuilder, Rule};
use tokio::runtime::Runtime;

/// So many a client, and so many for all of them.
fn own_and_shared(own: u64, shared: u64) -> Policy {
    Policy::new().rule(
        Rule::new("client")
            .limit(Limit::per_client("own", Quota::per_day(own)))
            .limit(Limit::per_client_and_route("route", Quota::per_day(own)))
            .limit(Limit::shared("all", Quota::per_day(shared))),
    )
}

async fn limiter(store: RedisBuilder, policy: Policy) -> Limiter {
    stage::limiter(&store.build().unwrap(), policy).await
}

async fn admits(limiter: &Limiter, name: &str) -> bool {
    limiter.charge(&Identity::name(name.to_owned()), "client").await.unwrap().is_allowed()
}

/// What can be spent of the limit that was named.
async fn remaining(limiter: &Limiter, name: &str, limit: &str) -> u32 {
    let status = limiter.client(&Identity::name(name.to_owned())).peek("client").await.unwrap();
    status.limits().find(|status| status.limit() == limit).unwrap().remaining()
}

/// Two gateways, forty clients at once: what all share is admitted to the unit, and nobody has paid for a refusal.
#[tokio::test]
async fn a_cluster_admits_a_shared_limit_to_the_unit() {
    let cluster = Cluster::start();
    let gateways = [
        limiter(cluster.store(), own_and_shared(5, 100)).await,
        limiter(cluster.store(), own_and_shared(5, 100)).await,
    ];
    let client = async |number: usize| {
        let (mut admitted, name) = (0, format!("client {number}"));
        for round in 0..8 {
            admitted += u32::from(admits(&gateways[round % 2], &name).await);
        }
        assert_eq!(remaining(&gateways[0], &name, "own").await, 5 - admitted, "{name}");
        admitted
    };
    let admitted: u32 = join_all((0..40).map(client)).await.into_iter().sum();
    assert_eq!(admitted, 100);
    assert_eq!(remaining(&gateways[0], "another", "all").await, 0);
    // The keys are with all three, and those of one client together.
    assert!(cluster.nodes[..3].iter().all(|node| !node.counts().is_empty()));
    for key in cluster.counts() {
        let tag = &key[..=key.find('}').unwrap()];
        assert!(cluster.nodes[cluster.home(&key)].counts().iter().any(|other| other.starts_with(tag)));
    }
}

/// What is reserved for requests that are refused later is at most what they ask for while they are on their way.
#[tokio::test]
async fn what_is_reserved_is_no_more_than_what_is_in_flight() {
    const IN_FLIGHT: u32 = 8;
    let cluster = Cluster::start();
    let ask_each_time = cluster.store().known_refusals(Duration::ZERO);
    let hammering = limiter(ask_each_time, own_and_shared(5, 1_000)).await;
    let watching = limiter(cluster.store(), own_and_shared(5, 1_000)).await;
    for _ in 0..5 {
        assert!(admits(&hammering, "ann").await);
    }
    let done = AtomicBool::new(false);
    let hammer = async || {
        for _ in 0..200 {
            assert!(!admits(&hammering, "ann").await);
        }
    };
    let watch = async {
        let mut least = 1_000;
        while !done.load(SeqCst) {
            least = least.min(remaining(&watching, "ben", "all").await);
        }
        least
    };
    let all = async {
        join_all((0..IN_FLIGHT).map(|_| hammer())).await;
        done.store(true, SeqCst);
    };
    let ((), least) = tokio::join!(all, watch);
    assert!((995 - IN_FLIGHT..995).contains(&least), "{least}");
    assert_eq!(remaining(&hammering, "ben", "all").await, 995);
}

/// Whoever is refused again is not let reserve anything again, and soon is not asked for at all.
#[tokio::test]
async fn known_refusals_reserve_nothing() {
    let cluster = Cluster::start();
    let clock = tidegate::ManualClock::new();
    let store = cluster.store().clock(clock.clone()).build().unwrap();
    let limiter =
        stage::limiter_with(&store, own_and_shared(1, 1_000), |builder| builder.clock(clock.clone())).await;
    assert!(admits(&limiter, "ann").await);
    // What is shared is reserved and given back; then both are only asked; then it is known.
    for calls in [3, 2, 0, 0] {
        let before = store.status().calls;
        assert!(!admits(&limiter, "ann").await);
        while store.status().in_flight > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(store.status().calls - before, calls);
    }
    // For no longer than what another instance may give back.
    clock.advance(Duration::from_millis(51));
    let before = store.status().calls;
    assert!(!admits(&limiter, "ann").await);
    assert!(store.status().calls > before);
}

/// A list that is decided in parts is decided as if it were one.
#[test]
fn a_cluster_agrees_with_the_model() {
    let (runtime, cluster) = (Runtime::new().unwrap(), Cluster::start());
    let case = Cell::new(0);
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    // What is given back is written by the time of then, so a clock that is set back meanwhile tells it apart.
    let step = model::step().prop_filter("no steps back", |step| !matches!(step, model::Step::Back(_)));
    proptest!(config, |(rates in vec(model::rate(), 5), steps in vec(step, 1..60))| {
        case.set(case.get() + 1);
        model::check(&runtime, cluster.store(), case.get(), &rates, &steps);
    });
}

/// Keys on their way are asked for where they go, and those that have moved where they are; nothing is forgotten.
#[tokio::test]
async fn keys_that_move_are_followed() {
    let cluster = Cluster::start();
    let limiter = limiter(cluster.store(), Policy::per_client(Quota::per_day(1_000))).await;
    let mut expected = 1_000;
    let mut charge = async || {
        expected -= 1;
        assert!(admits(&limiter, "ann").await);
        assert_eq!(remaining(&limiter, "ann", "client").await, expected);
    };
    charge().await;
    let key = cluster.counts().remove(0);
    let from = &cluster.nodes[cluster.home(&key)];
    let to = &cluster.nodes[(cluster.home(&key) + 1) % 3];
    let slot = from.say(&format!("CLUSTER KEYSLOT {key}"));
    to.say(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", from.id()));
    from.say(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", to.id()));
    charge().await;
    assert_eq!(from.say(&format!("MIGRATE 127.0.0.1 {} {key} 0 1000", to.port)), "OK");
    charge().await;
    for node in [to, from] {
        node.say(&format!("CLUSTER SETSLOT {slot} NODE {}", to.id()));
    }
    charge().await;
    charge().await;
    assert_eq!(to.counts(), [key]);
}

fn hasty(cluster: &Cluster) -> RedisBuilder {
    let pause = Duration::from_millis(20);
    cluster
        .store()
        .deadline(Duration::from_millis(200))
        .connect_timeout(Duration::from_secs(1))
        .backoff(pause, pause)
}

/// While one node is away, the clients of the others are counted as ever; its own come back to what they owed.
#[tokio::test]
async fn a_node_that_dies_takes_nothing_with_it_but_its_own_keys() {
    let mut cluster = Cluster::start();
    let (store, events) = (hasty(&cluster).build().unwrap(), Events::default());
    let policy = Policy::per_client(Quota::per_day(1).burst(50_000));
    let limiter = stage::limiter_with(&store, policy, |builder| builder.observe(events.observer())).await;
    let mut names = vec![None; 3];
    for number in 0.. {
        let name = format!("client {number}");
        let before = cluster.counts();
        assert!(admits(&limiter, &name).await);
        let key = cluster.counts().into_iter().find(|key| !before.contains(key)).unwrap();
        names[cluster.home(&key)].get_or_insert(name);
        if names.iter().all(Option::is_some) {
            break;
        }
    }
    let names: Vec<_> = names.into_iter().flatten().collect();
    until(|| cluster.nodes[3].counts() == cluster.nodes[0].counts());
    drop(cluster.nodes.remove(0));

    // At once, and each time, while a replica takes over.
    let (mut back, start) = (false, Instant::now());
    while !back {
        for name in &names[1..] {
            assert!(admits(&limiter, name).await, "{:?}", store.status());
        }
        back = limiter.charge(&Identity::name(names[0].clone()), "client").await.is_ok();
        assert!(start.elapsed() < Duration::from_secs(30), "{:?} {:?}", store.status(), events.past());
    }
    assert_eq!(remaining(&limiter, &names[0], "client").await, 49_998);
    events.until("Lost").await;
    assert!(events.until("Unreachable").await.contains("node 127.0.0.1:"));
    events.until("Joined").await;
}

/// A node that hangs makes its own clients wait, until the breaker is open, and nobody else.
#[tokio::test]
async fn nobody_waits_for_a_node_that_hangs() {
    let cluster = Cluster::start();
    let store = hasty(&cluster).failures(3).build().unwrap();
    let limiter = stage::limiter(&store, own_and_shared(1_000, 100_000)).await;
    let homes = async |name: &str| {
        let before = cluster.counts();
        assert!(admits(&limiter, name).await);
        let new = cluster.counts().into_iter().filter(|key| !before.contains(key) && key.len() == 29);
        new.map(|key| cluster.home(&key)).next().unwrap()
    };
    let mut hanging = None;
    for number in 0.. {
        let name = format!("client {number}");
        let home = homes(&name).await;
        // The one with what all share, or the fingerprint, would hold up others too.
        let shared = cluster.counts().into_iter().find(|key| key.len() < 29).unwrap();
        if home != cluster.home(&shared) && home != cluster.home("tg:secret") {
            hanging = Some((name, home));
            break;
        }
    }
    let (name, home) = hanging.unwrap();
    let before = remaining(&limiter, "nobody", "all").await;
    cluster.nodes[home].signal("STOP");
    let mut late = 0;
    for _ in 0..20 {
        let error = limiter.charge(&Identity::name(name.clone()), "client").await.unwrap_err().to_string();
        late += u32::from(error.contains("did not answer within"));
    }
    assert!((1..=4).contains(&late), "{late}");
    // What was reserved for those that were sent counts; for those that were not sent nothing was.
    assert!(before - remaining_shared(&limiter, &name).await <= 4);
    cluster.nodes[home].signal("CONT");
}

/// What is left of what all share, as a client sees that is not refused.
async fn remaining_shared(limiter: &Limiter, not: &str) -> u32 {
    for number in 0.. {
        let name = format!("other {number}");
        let status = limiter.client(&Identity::name(name.clone())).peek("client").await;
        if let (Ok(status), true) = (status, name != not) {
            return status.limits().find(|status| status.limit() == "all").unwrap().remaining();
        }
    }
    0
}

/// Permits of a client and of all lie apart too, and are had together or not at all.
#[tokio::test]
async fn permits_are_counted_in_a_cluster() {
    let cluster = Cluster::start();
    let policy = || {
        Policy::new().rule(
            Rule::new("client")
                .concurrency(Concurrency::per_client("own", 2))
                .concurrency(Concurrency::shared("all", 3)),
        )
    };
    let gateways = [limiter(cluster.store(), policy()).await, limiter(cluster.store(), policy()).await];
    let hold = async |gateway: usize, name: &'static str| {
        let client = gateways[gateway].client(&Identity::name(name));
        client.hold("client").await.unwrap()
    };
    let first = [hold(0, "ann").await, hold(1, "ann").await];
    assert!(first.iter().all(|hold| hold.is_allowed()));
    assert!(!hold(0, "ann").await.is_allowed());
    let third = hold(1, "ben").await;
    assert!(third.is_allowed() && !hold(0, "cid").await.is_allowed());
    drop(first);
    // What was refused holds nothing of either.
    let again = [hold(0, "cid").await, hold(1, "cid").await];
    assert!(again.iter().all(|hold| hold.is_allowed()));
    drop((again, third));
}

/// What is held with the nodes that are there stays held, however long another one is away.
#[tokio::test]
async fn permits_are_kept_while_another_node_is_away() {
    const LIFE: Duration = Duration::from_secs(3);
    let mut cluster = Cluster::start();
    let policy = || Policy::new().rule(Rule::new("client").concurrency(Concurrency::per_client("own", 1)));
    let stores = [(); 2].map(|()| hasty(&cluster).permit_life(LIFE).build().unwrap());
    let [holder, other] =
        [stage::limiter(&stores[0], policy()).await, stage::limiter(&stores[1], policy()).await];
    let hold = async |limiter: &Limiter, number: usize| {
        limiter.client(&Identity::name(format!("client {number}"))).hold("client").await.unwrap()
    };
    // Somebody who is with another node than the first one.
    let (mut held, mut name) = (None, 0);
    while held.is_none() {
        name += 1;
        let hold = hold(&holder, name).await;
        held = cluster.nodes[0].counts().is_empty().then_some(hold);
        while held.is_none() && !cluster.counts().is_empty() {
            tokio::task::yield_now().await;
        }
    }
    // Neither it nor its replica comes back.
    drop((cluster.nodes.remove(3), cluster.nodes.remove(0)));
    let start = Instant::now();
    while start.elapsed() < 2 * LIFE {
        tokio::time::sleep(LIFE / 10).await;
        assert!(!hold(&other, name).await.is_allowed(), "after {:?}", start.elapsed());
    }
    drop(held);
    while !hold(&other, name).await.is_allowed() {
        tokio::task::yield_now().await;
    }
}
