//! Permits that all instances share: never more than the limit, whatever becomes of an instance or of Redis.

use crate::stage::{self, Events, Relay, SECRET, Server};
use futures_util::{FutureExt as _, future::join_all};
use std::{
    env,
    future::IntoFuture as _,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tidegate::{Concurrency, Hold, Identity, Limit, Limiter, Policy, Quota, RedisStore, Rule, StoreDown};
use tokio::time::sleep;

/// The shortest that there is.
const LIFE: Duration = Duration::from_secs(3);

fn policy(limit: Concurrency) -> Policy {
    Policy::new().rule(Rule::new("rule").concurrency(limit))
}

async fn instance(server: &Server, policy: Policy) -> (RedisStore, Limiter) {
    let store = stage::store(server).permit_life(LIFE).build().unwrap();
    let limiter = stage::limiter_with(&store, policy, |builder| builder.timer(sleep)).await;
    (store, limiter)
}

async fn hold(limiter: &Limiter) -> Hold {
    limiter.client(&Identity::name("ann")).hold("rule").await.unwrap()
}

fn used(hold: &Hold) -> u32 {
    hold.permits().next().unwrap().used()
}

#[tokio::test]
async fn instances_share_what_may_run_at_once() {
    let server = Server::start();
    for limit in [Concurrency::per_client("few", 3), Concurrency::shared("all", 3)] {
        let (one, other) =
            (instance(&server, policy(limit.clone())).await.1, instance(&server, policy(limit)).await.1);
        let (first, second, third) = (hold(&one).await, hold(&one).await, hold(&other).await);
        assert_eq!([&first, &second, &third].map(used), [1, 2, 3]);
        for limiter in [&one, &other] {
            let refused = hold(limiter).await;
            assert!(!refused.is_allowed());
            assert_eq!((used(&refused), refused.retry_after()), (3, Some(Duration::from_secs(1))));
        }
        drop(first);
        let fourth = hold(&other).await;
        assert!(fourth.is_allowed() && !hold(&one).await.is_allowed());
        drop((second, third, fourth));
        assert_eq!(used(&hold(&other).await), 1);
    }
    while !server.counts().is_empty() {
        tokio::task::yield_now().await;
    }
}

/// What is an instance's own.
#[tokio::test]
async fn a_limit_of_each_instance_asks_nobody() {
    let (server, limit) = (Server::start(), Concurrency::per_client("few", 1).per_instance());
    let (one, other) =
        (instance(&server, policy(limit.clone())).await, instance(&server, policy(limit)).await);
    let held = [hold(&one.1).await, hold(&other.1).await];
    assert!(held.iter().all(|hold| hold.is_allowed()) && !hold(&one.1).await.is_allowed());
    assert_eq!(one.0.status().calls, 0);
}

#[tokio::test]
async fn permits_and_rates_are_taken_together_or_not_at_all() {
    let server = Server::start();
    let rule = Rule::new("rule")
        .limit(Limit::per_client("rate", Quota::per_day(2)))
        .limit(Limit::shared("all", Quota::per_day(9)))
        .concurrency(Concurrency::per_client("few", 1));
    let policy = Policy::new().rule(rule);
    let (one, other) = (instance(&server, policy.clone()).await.1, instance(&server, policy).await.1);
    let remaining = |hold: &Hold| hold.limits().map(|limit| limit.remaining()).collect::<Vec<_>>();
    let first = hold(&one).await;
    assert_eq!(remaining(&first), [1, 8]);
    let refused = hold(&other).await;
    assert!(!refused.is_allowed() && refused.limits().next().is_none(), "nothing was asked of the rates");
    drop(first);
    let second = hold(&other).await;
    assert_eq!(remaining(&second), [0, 7]);
    drop(second);
    let refused = hold(&one).await;
    assert!(!refused.is_allowed() && refused.permits().next().is_none());
    // The rate refused, and nothing is held.
    assert_eq!(server.keys().iter().filter(|key| server.say(&format!("TYPE {key}")) == "zset").count(), 1);
}

#[tokio::test]
async fn what_only_watches_never_refuses_and_tells_what_it_would_have_done() {
    let server = Server::start();
    let rule = Rule::new("rule").concurrency(Concurrency::shared("all", 1)).shadow();
    let policy = Policy::new().rule(rule);
    let (one, other) = (instance(&server, policy.clone()).await.1, instance(&server, policy).await.1);
    let first = hold(&one).await;
    let second = hold(&other).await;
    let fits = |hold: &Hold| hold.permits().next().unwrap().is_allowed();
    assert!(first.is_allowed() && second.is_allowed() && fits(&first) && !fits(&second));
    drop(first);
    assert!(fits(&hold(&one).await));
}

#[tokio::test]
async fn who_may_wait_is_served_when_another_instance_leaves_room() {
    let server = Server::start();
    let limit = Concurrency::per_client("few", 1).wait(5, Duration::from_secs(60));
    let (one, other) =
        (instance(&server, policy(limit.clone())).await.1, instance(&server, policy(limit)).await.1);
    let first = hold(&one).await;
    let mut waiting = Box::pin(async { join_all((0..3).map(|_| hold_and_let_go(&other))).await });
    assert!((&mut waiting).now_or_never().is_none());
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut waiting).await.is_err());
    drop(first);
    assert_eq!(waiting.await, [true; 3]);
    // Who has waited long enough is refused, and nothing is left behind.
    let hasty = Concurrency::per_client("few", 1).wait(5, Duration::from_millis(120));
    let (_, hasty) = instance(&server, policy(hasty)).await;
    let first = hold(&one).await;
    assert!(!hold_and_let_go(&hasty).await);
    drop(first);
    assert!(hold_and_let_go(&hasty).await);
}

async fn hold_and_let_go(limiter: &Limiter) -> bool {
    hold(limiter).await.is_allowed()
}

/// Whoever leaves half-way, before the answer is there or while it waits, holds nothing.
#[tokio::test]
async fn who_leaves_half_way_gives_back() {
    let server = Server::start();
    let limit = Concurrency::per_client("few", 2).wait(9, Duration::from_secs(60));
    let (store, limiter) = instance(&server, policy(limit)).await;
    for _ in 0..50 {
        let ann = limiter.client(&Identity::name("ann"));
        let mut holding = ann.hold("rule").into_future();
        assert!((&mut holding).now_or_never().is_none());
        drop(holding);
    }
    let held = [hold(&limiter).await, hold(&limiter).await];
    assert!(held.iter().all(|hold| hold.is_allowed()));
    assert_eq!(store.status().permits, 2);
    drop(held);
    assert!(hold(&limiter).await.is_allowed());
}

/// Four instances and many tasks: what runs at once is counted by the test itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_more_than_the_limit_run_at_once() {
    const LIMIT: u32 = 10;
    let server = Server::start();
    let limit = Concurrency::shared("all", LIMIT).wait(1_000, Duration::from_secs(60));
    let (running, peak, done) =
        (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut tasks = Vec::new();
    let mut instances = Vec::new();
    for _ in 0..4 {
        let (store, limiter) = instance(&server, policy(limit.clone())).await;
        for _ in 0..25 {
            let (limiter, running, peak, done) =
                (limiter.clone(), running.clone(), peak.clone(), done.clone());
            tasks.push(tokio::spawn(async move {
                for turn in 0..4 {
                    let held = hold(&limiter).await;
                    if !held.is_allowed() {
                        continue;
                    }
                    peak.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    for _ in 0..turn {
                        tokio::task::yield_now().await;
                    }
                    running.fetch_sub(1, SeqCst);
                    done.fetch_add(1, SeqCst);
                    drop(held);
                }
            }));
        }
        instances.push((store, limiter));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let (peak, done) = (peak.load(SeqCst), done.load(SeqCst));
    assert!(peak <= LIMIT && peak > LIMIT / 2 && done == 400, "{peak} at once, {done} done");
    assert!(hold(&instances[0].1).await.is_allowed());
    assert!(instances.iter().all(|(store, limiter)| store.status().permits == 0 && limiter.in_flight() == 0));
}

const CHILD: &str = "TIDEGATE_TEST_REDIS";
const HELD: u32 = 50;

fn fifty() -> Policy {
    policy(Concurrency::shared("all", HELD))
}

/// The child of the test below: holds all permits until it is killed.
#[tokio::test]
#[ignore = "is started by the test below"]
async fn child_that_holds() {
    let Ok(url) = env::var(CHILD) else { return };
    let store = RedisStore::builder(url).deadline(Duration::from_secs(30)).permit_life(LIFE).build().unwrap();
    let limiter = stage::limiter(&store, fifty()).await;
    let held = join_all((0..HELD).map(|_| hold(&limiter))).await;
    println!("\nheld {}", held.iter().filter(|hold| hold.is_allowed()).count());
    std::future::pending().await
}

/// Killed with signal 9, of which no code of its own hears.
#[tokio::test]
async fn the_permits_of_a_process_that_was_killed_come_back() {
    let server = Server::start();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "permits::child_that_holds", "--ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD, server.url())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let held = lines.find_map(|line| line.unwrap().strip_prefix("held ").map(str::to_owned));
    assert_eq!(held.as_deref(), Some("50"));
    let (_, limiter) = instance(&server, fifty()).await;
    // Signs of life keep them for longer than their life.
    let start = Instant::now();
    while start.elapsed() < LIFE + LIFE / 3 {
        assert!(!hold(&limiter).await.is_allowed());
        sleep(Duration::from_millis(100)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let killed = Instant::now();
    let mut held = Vec::new();
    while held.len() < HELD as usize {
        let next = hold(&limiter).await;
        if next.is_allowed() {
            held.push(next);
        } else {
            sleep(Duration::from_millis(10)).await;
        }
        assert!(killed.elapsed() < 10 * LIFE, "only {} came back", held.len());
    }
    let back = killed.elapsed();
    println!("{HELD} permits of a killed process were back after {back:?}; they are kept for {LIFE:?}");
    assert!(back > LIFE / 3 && back < LIFE + Duration::from_secs(1), "{back:?}");
    assert!(!hold(&limiter).await.is_allowed());
}

/// What others were given meanwhile is not counted twice, and it says so; it is counted again when there is room.
#[tokio::test]
async fn an_instance_that_was_cut_off_notices() {
    let (server, events) = (Server::start(), Events::default());
    let (relay, limit) = (Relay::to(&server), Concurrency::shared("all", 3));
    let pause = Duration::from_millis(10);
    let store = RedisStore::builder(relay.url()).backoff(pause, pause);
    let store = store.deadline(Duration::from_secs(30)).permit_life(LIFE).build().unwrap();
    let with = |builder: tidegate::LimiterBuilder| builder.observe(events.observer());
    let cut_off = stage::limiter_with(&store, policy(limit.clone()), with).await;
    let (_, other) = instance(&server, policy(limit)).await;
    let running = join_all((0..3).map(|_| hold(&cut_off))).await;
    assert!(running.iter().all(|hold| hold.is_allowed()) && !hold(&other).await.is_allowed());
    relay.cut(true);
    let mut others = Vec::new();
    while others.len() < 2 {
        others.extend(Some(hold(&other).await).filter(|hold| hold.is_allowed()));
        sleep(Duration::from_millis(10)).await;
    }
    relay.cut(false);
    assert_eq!(events.until("PermitsLost").await, "PermitsLost { permits: 2 }");
    let status = store.status();
    assert_eq!((status.permits, status.uncounted_permits), (3, 2));
    let refused = hold(&other).await;
    assert_eq!((refused.is_allowed(), used(&refused)), (false, 3), "one of the three is counted again");
    drop(others);
    while store.status().uncounted_permits > 0 {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(!hold(&other).await.is_allowed());
    drop(running);
    while !hold(&other).await.is_allowed() {
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn while_redis_is_away_each_limit_goes_by_its_policy() {
    let server = Server::start();
    let (mut limiters, mut stores) = (Vec::new(), Vec::new());
    for (number, how) in [StoreDown::Deny, StoreDown::Allow, StoreDown::Local].into_iter().enumerate() {
        let name = format!("limit {number}");
        let limit = policy(Concurrency::shared(name, 5).store_down(how));
        for _ in 0..2 {
            let prefix = format!("{number}:");
            let store = stage::store(&server).prefix(prefix).build().unwrap();
            limiters
                .push(Limiter::builder(limit.clone()).secret(SECRET).store(store.clone()).build().unwrap());
            store.ready().await.unwrap();
            stores.push(store);
        }
    }
    for store in &stores {
        while store.status().instances < 2 {
            sleep(Duration::from_millis(10)).await;
        }
    }
    drop(server);
    for (number, admitted) in [0, 0, 5, 5, 2, 2].into_iter().enumerate() {
        let ann = limiters[number].client(&Identity::name("ann"));
        let held: Vec<_> = join_all((0..9).map(|_| ann.hold("rule").into_future())).await;
        // Who asks while five others do is refused here already.
        assert_eq!(held.iter().filter(|held| held.is_err()).count() >= 5, admitted == 0);
        let held: Vec<_> = held.into_iter().flatten().collect();
        assert_eq!(held.iter().filter(|hold| hold.is_allowed()).count(), admitted, "{number}");
        drop(held);
        assert_eq!(limiters[number].in_flight(), 0);
    }
}

/// Nobody knows whether it was counted, so it is given back.
#[tokio::test]
async fn a_permit_whose_answer_came_too_late_is_given_back() {
    let server = Server::start();
    let store = stage::store(&server).deadline(Duration::from_millis(50)).failures(1_000).build().unwrap();
    let limiter = stage::limiter(&store, policy(Concurrency::per_client("few", 1))).await;
    server.signal("STOP");
    for _ in 0..3 {
        limiter.client(&Identity::name("ann")).hold("rule").await.unwrap_err();
    }
    server.signal("CONT");
    loop {
        match limiter.client(&Identity::name("ann")).hold("rule").await {
            Ok(hold) if hold.is_allowed() => break,
            _ => sleep(Duration::from_millis(10)).await,
        }
    }
    assert_eq!(store.status().permits, 0);
}

#[tokio::test]
async fn a_life_that_is_too_short_is_refused() {
    let error = RedisStore::builder("redis://host").permit_life(Duration::from_secs(2)).build().unwrap_err();
    assert!(error.to_string().starts_with("permit_life: 2s is out of range"), "{error}");
}
