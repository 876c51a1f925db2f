//! A policy that follows another while requests come: what was counted stays, and who had a handle keeps it.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{App, app, build, from, get, now, ok, reply};
use futures_util::FutureExt;
use http::StatusCode;
use proptest::{collection::vec, prelude::*, sample::subsequence};
use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};
use tidegate::*;

const MINUTE: Duration = Duration::from_secs(60);

fn hourly(amount: u64) -> Quota {
    Quota::per_hour(amount)
}

/// A rule of its own for each limit.
fn rules(limits: impl IntoIterator<Item = Limit>) -> Policy {
    let rules =
        limits.into_iter().enumerate().map(|(number, limit)| Rule::new(format!("{number}")).limit(limit));
    rules.fold(Policy::new(), Policy::rule)
}

#[tokio::test]
async fn counts_stay_wherever_a_limit_goes() {
    let (limiter, _) = build(Policy::per_client(hourly(10)));
    let service = ok(&limiter);
    assert_eq!(service.admits(6, || get("/")).await, 6);
    // Behind others, in another rule, on a route, and beside enough limits that groups change.
    let mut limits: Vec<_> = (0..9).map(|n| Limit::per_client(format!("other {n}"), hourly(100))).collect();
    limits.insert(7, Limit::per_client("client", hourly(10)));
    limiter.set_policy(rules(limits.clone())).unwrap();
    assert_eq!(service.admits(9, || get("/")).await, 4);
    limits.reverse();
    limiter.set_policy(rules(limits)).unwrap();
    assert_eq!(service.admits(9, || get("/")).await, 0);
    // Left out and back again.
    limiter.set_policy(Policy::new()).unwrap();
    assert_eq!(service.admits(9, || get("/")).await, 9);
    limiter.set_policy(Policy::per_client(hourly(10))).unwrap();
    assert_eq!(service.admits(9, || get("/")).await, 0);
    // Of another name, it is another limit.
    let other = Limit::per_client("new", hourly(10));
    limiter.set_policy(Policy::new().rule(Rule::new("client").limit(other))).unwrap();
    assert_eq!(service.admits(99, || get("/")).await, 10);
}

#[tokio::test]
async fn quotas_change_without_fresh_buckets() {
    let (limiter, clock) = build(Policy::per_client(hourly(10)));
    let service = ok(&limiter);
    assert_eq!(service.admits(99, || get("/")).await, 10);
    limiter.set_policy(Policy::per_client(hourly(15))).unwrap();
    // What is owed is carried over to within 3e-8, and rounded up.
    assert!([4, 5].contains(&service.admits(99, || get("/")).await));
    limiter.set_policy(Policy::per_client(Quota::per_minute(60).burst(15))).unwrap();
    assert_eq!(service.admits(99, || get("/")).await, 0);
    clock.advance(Duration::from_secs(3));
    let answer = service.send(get("/")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(common::line(&answer, "ratelimit-policy"), Some("\"client\";q=15;w=15"));
    // What was set by hand stays, until a policy says something else.
    limiter.set_quota("client", hourly(3)).unwrap();
    limiter.set_policy(Policy::per_client(Quota::per_minute(60).burst(15))).unwrap();
    assert!(common::line(&service.send(get("/")).await, "ratelimit-policy").unwrap().contains("q=3;"));
    limiter.set_policy(Policy::per_client(hourly(20))).unwrap();
    assert!(common::line(&service.send(get("/")).await, "ratelimit-policy").unwrap().contains("q=20;"));
    // What was set by hand and admits no request any more does not stay.
    limiter.set_quota("client", hourly(3)).unwrap();
    let dear = Rule::new("client").limit(Limit::per_client("client", hourly(20)).cost(10));
    limiter.set_policy(Policy::new().rule(dear)).unwrap();
    assert!(common::line(&service.send(get("/")).await, "ratelimit-policy").unwrap().contains("q=20;"));
}

#[tokio::test]
async fn a_bad_policy_leaves_the_former_in_force() {
    let (limiter, _) = build(Policy::per_client(hourly(3)));
    let service = ok(&limiter);
    let bad = rules([Limit::per_client("a", Quota::per_second(0)), Limit::per_client("a", hourly(1))]);
    assert_eq!(limiter.set_policy(bad).unwrap_err().mistakes().len(), 1);
    let registered = Policy::per_client(hourly(1)).identify(Source::bearer().registered());
    assert!(limiter.set_policy(registered).unwrap_err().to_string().contains("no registry"));
    let waits = Rule::new("w").concurrency(Concurrency::shared("w", 1).wait(1, MINUTE));
    assert!(limiter.set_policy(Policy::new().rule(waits)).unwrap_err().to_string().contains("timer"));
    let many = rules((0..9_000).map(|n| Limit::per_client(format!("{n}"), hourly(1))));
    assert!(Limiter::builder(Policy::new()).memory_bytes(4_096).build().unwrap().set_policy(many).is_err());
    assert_eq!(service.admits(9, || get("/")).await, 3);
}

#[tokio::test]
async fn handles_that_were_made_before_follow() {
    let (limiter, _) = build(Policy::per_client(hourly(10)));
    let (service, layer, client) = (ok(&limiter), limiter.layer(), limiter.client(&Identity::name("ann")));
    let own = app(&limiter.layer().headers(HeaderStyle::Off).refusal_text("Ours."), |_| reply(200));
    assert!(now(client.charge("client")).is_allowed());
    let before = now(client.charge("client").cost(4));
    let policy =
        Policy::per_client(hourly(10)).rule(Rule::new("more").limit(Limit::per_client("more", hourly(2))));
    limiter.set_policy(policy.headers(HeaderStyle::XRateLimit).refusal_text("Theirs.")).unwrap();
    assert!(now(client.charge("more")).is_allowed());
    assert_eq!(now(client.peek("client")).limits().next().unwrap().remaining(), 5);
    // A decision of the former policy is given back under this one, once.
    limiter.refund(&before);
    limiter.refund(&before);
    assert_eq!(now(client.peek("client")).limits().next().unwrap().remaining(), 9);
    let late = app(&layer, |_| reply(200));
    for service in [&service.send(get("/")).await, &late.send(get("/")).await] {
        assert!(service.headers().contains_key("x-ratelimit-limit"));
    }
    let refused = own.send(get("/")).await;
    assert_eq!(refused.status(), 429);
    assert!(!refused.headers().contains_key("x-ratelimit-limit"));
    assert!(common::json(refused).await["detail"].as_str().unwrap().ends_with("Ours."));
    assert!(
        common::json(service.send(get("/")).await).await["detail"].as_str().unwrap().ends_with("Theirs.")
    );
    let other = Limiter::new(Policy::per_client(hourly(1))).unwrap();
    other.refund(&before);
}

#[tokio::test(start_paused = true)]
async fn permits_that_are_held_stay_and_who_waits_is_served() {
    let exports = |max| Concurrency::shared("exports", max).wait(5, MINUTE);
    let policy = |limits: Vec<Concurrency>| {
        let rules =
            limits.into_iter().enumerate().map(|(n, limit)| Rule::new(format!("{n}")).concurrency(limit));
        rules.fold(Policy::new(), Policy::rule)
    };
    let first = Limiter::builder(policy(vec![exports(2)])).timer(tokio::time::sleep).build().unwrap();
    let service = ok(&first);
    let mut held = vec![service.send(get("/")).await, service.send(get("/")).await];
    // Another limit stands before it now.
    first.set_policy(policy(vec![Concurrency::shared("all", 50), exports(2)])).unwrap();
    let mut waiting = Box::pin(service.send(get("/")));
    assert!(waiting.as_mut().now_or_never().is_none());
    first.set_policy(policy(vec![exports(3), Concurrency::shared("all", 50)])).unwrap();
    held.push(waiting.await);
    assert!(service.send(get("/")).now_or_never().is_none());
    held.truncate(1);
    held.push(service.send(get("/")).await);
    held.push(service.send(get("/")).await);
    assert!(held.iter().all(|answer| answer.status() == 200));
    assert!(service.send(get("/")).now_or_never().is_none());
    drop(held);
    assert_eq!((first.in_flight(), first.waiting()), (0, 0));
    // A policy may bring the first limit on concurrency along.
    let (limiter, _) = build(Policy::new());
    let service = ok(&limiter);
    limiter.set_policy(policy(vec![Concurrency::per_client("one", 1)])).unwrap();
    let held = service.send(get("/")).await;
    assert_eq!((held.status().as_u16(), service.status(get("/")).await), (200, 429));
    // A lower number set by hand stays.
    limiter.set_concurrency("one", 3).unwrap();
    limiter.set_policy(policy(vec![Concurrency::per_client("one", 1)])).unwrap();
    assert_eq!(service.status(get("/")).await, 200);
    limiter.set_policy(policy(vec![Concurrency::per_client("one", 2)])).unwrap();
    assert_eq!(service.status(get("/")).await, 200);
}

#[tokio::test]
async fn bans_and_lists_stay_as_far_as_policies_agree() {
    let ban = |refusals| Ban::after(refusals, MINUTE).lasting(10 * MINUTE);
    let base = || Policy::per_client(hourly(2)).ban(ban(3));
    let (limiter, clock) = build(base().block_networks(["198.51.100.1"]));
    let service = ok(&limiter);
    let of = |n: u8| move || from(&format!("198.51.100.{n}"), "GET", "/");
    assert_eq!(service.admits(5, of(9)).await, 2);
    assert_eq!(service.status(of(9)()).await, 403, "banned");
    assert_eq!(service.admits(4, of(8)).await, 2);
    limiter
        .add_to_lists(&Lists::new().block_networks(["198.51.100.2"]).allow_networks(["198.51.100.3"]))
        .unwrap();
    limiter.set_policy(base().block_networks(["198.51.100.4"])).unwrap();
    let mut statuses = Vec::new();
    for n in [1, 2, 3, 4, 9] {
        statuses.push(service.status(of(n)()).await);
    }
    assert_eq!(statuses, [200, 403, 200, 403, 403]);
    assert_eq!(service.admits(9, of(3)).await, 9, "allowed");
    // Two refusals are on record, and the third one bans.
    assert_eq!((service.status(of(8)()).await, service.status(of(8)()).await), (429, 403));
    limiter.set_policy(Policy::per_client(hourly(2)).exempt_preflights()).unwrap();
    assert_eq!(service.status(of(9)()).await, 429, "no bans");
    clock.advance(60 * MINUTE);
}

#[tokio::test]
async fn clients_of_a_registry_keep_what_they_were_granted_and_owe() {
    let requests = |name: &str| Limit::per_client(name, hourly(1)).granted();
    let policy = |limits: Vec<Limit>| {
        let policy = Policy::new().identify(Source::header("x-client-id").registered());
        policy.rule(limits.into_iter().fold(Rule::new("api"), Rule::limit))
    };
    let clients = Clients::new(MemoryRegistry::new());
    let clock = ManualClock::new();
    let limiter = Limiter::builder(policy(vec![requests("requests")])).clients(clients.clone()).clock(clock);
    let limiter = limiter.build().unwrap();
    clients.set("ann-1", ClientPatch::new().rate_limit(Grant::new().requests_per_min(5))).await.unwrap();
    let service = ok(&limiter);
    let ann = || common::with(get("/"), "x-client-id", "ann-1");
    assert_eq!(service.admits(3, ann).await, 3);
    for _ in 0..3 {
        let limits = vec![Limit::shared("all", hourly(1_000)), requests("exports"), requests("requests")];
        limiter.set_policy(policy(limits)).unwrap();
        let grant = ClientPatch::new().rate_limit(Grant::new().requests_per_min(5));
        clients.set("ann-1", grant).await.unwrap();
        limiter.set_policy(policy(vec![requests("requests")])).unwrap();
    }
    assert_eq!(service.admits(9, ann).await, 2);
    clients.set("ann-1", ClientPatch::new().rate_limit(Grant::new().requests_per_min(10))).await.unwrap();
    assert_eq!(service.admits(9, ann).await, 5);
}

/// While threads charge as fast as they can, policies follow one another: all that pass are as many as fit, and not one more.
#[test]
fn no_charge_is_lost_and_nobody_gets_a_fresh_bucket_under_load() {
    const CLIENTS: usize = 4;
    const EACH: u64 = 3_000;
    const ALL: u64 = 10_000;
    let churn = |round: usize| {
        let mut limits = vec![
            Limit::per_client("each", hourly(EACH)),
            Limit::shared("all", hourly(ALL)),
            Limit::per_client_and_route("route", hourly(1_000_000)),
        ];
        limits.extend((0..round % 9).map(|n| Limit::per_client(format!("more {n}"), hourly(1_000_000))));
        limits
            .extend((0..round % 5).map(|n| Limit::shared(format!("shared {round} {n}"), hourly(1_000_000))));
        let count = limits.len();
        limits.rotate_left(round % count);
        limits.into_iter().fold(Rule::new("api"), Rule::limit)
    };
    let policy = |round| Policy::new().rule(Rule::new(format!("r{round}"))).rule(churn(round));
    let (limiter, _) = build(policy(0));
    let (done, passed) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; CLIENTS]);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (limiter, done, passed) = (limiter.clone(), &done, &passed);
            scope.spawn(move || {
                let names: Vec<_> = (0..CLIENTS).map(|n| format!("client-{n}")).collect();
                let mut turn = thread;
                while !done.load(SeqCst) {
                    turn += 1;
                    let identity = Identity::name(&*names[turn % CLIENTS]);
                    let decision = limiter.charge(&identity, "api").into_future().now_or_never().unwrap();
                    passed[turn % CLIENTS].fetch_add(usize::from(decision.unwrap().is_allowed()), SeqCst);
                }
            });
        }
        for round in 0..200 {
            limiter.set_policy(policy(round)).unwrap();
            thread::yield_now();
        }
        // Until nothing passes any more.
        let sum = || passed.iter().map(|passed| passed.load(SeqCst)).sum::<usize>();
        while sum() < ALL as usize {
            thread::yield_now();
        }
        done.store(true, SeqCst);
    });
    let passed = passed.map(AtomicUsize::into_inner);
    assert_eq!(passed.iter().sum::<usize>(), ALL as usize);
    assert!(passed.iter().all(|passed| *passed <= EACH as usize), "{passed:?}");
}

#[derive(Debug, Clone)]
enum Step {
    Charge {
        client: usize,
        cost: u32,
    },
    /// The limits of the policy that follows, in its order.
    Follow(Vec<usize>),
}

/// What limit so many is: its burst, and whether all share it.
const LIMITS: [(u64, bool); 9] = [
    (5, false),
    (9, true),
    (7, false),
    (20, false),
    (12, true),
    (6, false),
    (30, false),
    (8, false),
    (4, false),
];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let charge = (0..3usize, 0..4u32).prop_map(|(client, cost)| Step::Charge { client, cost });
    let order = subsequence((0..LIMITS.len()).collect::<Vec<_>>(), 0..=LIMITS.len()).prop_shuffle();
    vec(prop_oneof![5 => charge, 1 => order.prop_map(Step::Follow)], 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// While time stands still, a limit has what was charged to its name, however often and wherever it was in force.
    #[test]
    fn each_limit_has_what_was_charged_to_its_name(steps in steps()) {
        let limit = |number: usize| {
            let (burst, is_shared) = LIMITS[number];
            let name = format!("limit {number}");
            if is_shared { Limit::shared(name, hourly(burst)) } else { Limit::per_client(name, hourly(burst)) }
        };
        let policy = |order: &[usize]| {
            Policy::new().rule(order.iter().map(|number| limit(*number)).fold(Rule::new("api"), Rule::limit))
        };
        let (limiter, _) = build(policy(&[]));
        let (mut order, mut owed) = (Vec::new(), HashMap::<(usize, usize), u64>::new());
        for step in steps {
            match step {
                Step::Follow(next) => {
                    limiter.set_policy(policy(&next)).unwrap();
                    order = next;
                }
                Step::Charge { client, cost } => {
                    let place = |number: usize| (number, if LIMITS[number].1 { 0 } else { client });
                    let fits = order.iter().all(|&number| {
                        cost == 0 || owed.get(&place(number)).unwrap_or(&0) + u64::from(cost) <= LIMITS[number].0
                    });
                    let name = format!("client-{client}");
                    let decision = now(limiter.charge(&Identity::name(name), "api").cost(cost));
                    prop_assert_eq!(decision.is_allowed(), fits);
                    for &number in order.iter().filter(|_| fits) {
                        *owed.entry(place(number)).or_default() += u64::from(cost);
                    }
                    for status in decision.limits() {
                        let number: usize = status.limit()[6..].parse().unwrap();
                        let left = LIMITS[number].0 - owed.get(&place(number)).unwrap_or(&0);
                        prop_assert_eq!(u64::from(status.remaining()), left);
                    }
                }
            }
        }
    }
}
