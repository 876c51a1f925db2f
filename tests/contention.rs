//! Many threads at once: totals are exact, no refusal is unfounded, no two decisions wait for each other for ever.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bytes::Bytes;
use common::now;
use futures_util::FutureExt as _;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};
use tidegate::{HeaderStyle, Identity, Limit, Limiter, ManualClock, Policy, Quota, Rule, Source};
use tower::{Layer as _, ServiceExt as _, service_fn};

const THREADS: usize = 64;

fn gate(policy: Policy, bytes: usize) -> Limiter {
    Limiter::builder(policy).clock(ManualClock::new()).memory_bytes(bytes).build().unwrap()
}

/// Runs one closure on all threads, started together, and gives up on them after a minute.
fn on_all_threads<T: Send + 'static>(run: impl Fn(usize) -> T + Send + Sync + 'static) -> Vec<T> {
    let (run, start, (done, all)) = (Arc::new(run), Arc::new(Barrier::new(THREADS)), mpsc::channel());
    for number in 0..THREADS {
        let (run, start, done) = (run.clone(), start.clone(), done.clone());
        thread::spawn(move || {
            start.wait();
            done.send(run(number)).unwrap();
        });
    }
    let next = |_| all.recv_timeout(Duration::from_secs(60)).expect("a thread hangs or has panicked");
    (0..THREADS).map(next).collect()
}

fn remaining(limiter: &Limiter, client: &str, rule: &str) -> HashMap<String, u32> {
    let client = limiter.client(&Identity::name(client));
    let decision = now(client.peek(rule));
    decision.limits().map(|status| (status.limit().to_owned(), status.remaining())).collect()
}

/// One charge of a thread's: its units, when it began and ended by a common count, and whether it was admitted.
type Note = (u32, u64, u64, bool);

/// Charges until a single unit is refused.
fn spend(limiter: &Limiter, client: &str, mut cost: u32, time: &AtomicU64) -> Vec<Note> {
    let client = limiter.client(&Identity::name(client));
    let mut notes = Vec::new();
    loop {
        let began = time.fetch_add(1, SeqCst);
        let allowed = now(client.charge("rule").cost(cost)).is_allowed();
        notes.push((cost, began, time.fetch_add(1, SeqCst), allowed));
        match (allowed, cost) {
            (true, _) => {}
            (false, 1) => return notes,
            (false, _) => cost = 1,
        }
    }
}

/// A refusal is founded if, in some serial order, so many units came before it that its own did not fit: all of them
/// must have begun before it ended.
fn assert_founded(notes: &[Note], most: u32) {
    for (cost, _, ended, _) in notes.iter().filter(|note| !note.3) {
        let before = notes.iter().filter(|(_, began, _, allowed)| *allowed && began < ended);
        assert!(before.map(|note| note.0).sum::<u32>() + cost > most, "refused too early");
    }
}

#[test]
fn exactly_as_many_as_the_smaller_limit_and_no_unfounded_refusal() {
    for costs in [1, 3] {
        let rule = Rule::new("rule")
            .limit(Limit::per_client("large", Quota::per_hour(1000)))
            .limit(Limit::per_client("small", Quota::per_hour(900)));
        let limiter = gate(Policy::new().rule(rule), 1 << 14);
        let (shared, time) = (limiter.clone(), AtomicU64::new(0));
        let notes =
            on_all_threads(move |number| spend(&shared, "ann", number as u32 % costs + 1, &time)).concat();
        assert_founded(&notes, 900);
        assert_eq!(notes.iter().filter(|note| note.3).map(|note| note.0).sum::<u32>(), 900);
        let left = remaining(&limiter, "ann", "rule");
        assert_eq!((left["large"], left["small"]), (100, 0));
    }
}

#[test]
fn clients_that_share_a_limit_and_a_line_are_charged_exactly() {
    // The smallest table, in which all clients lie together, and a large one.
    for bytes in [1024 + 128, 1 << 20] {
        let rule = Rule::new("rule")
            .limit(Limit::per_client("own", Quota::per_hour(100)))
            .limit(Limit::shared("all", Quota::per_hour(900)));
        let limiter = gate(Policy::new().rule(rule), bytes);
        let (shared, time) = (limiter.clone(), AtomicU64::new(0));
        let spent = on_all_threads(move |number| {
            let name = format!("{}", number % 16);
            let units = spend(&shared, &name, 1, &time).iter().filter(|note| note.3).count() as u32;
            (name, units)
        });
        let mut totals: HashMap<String, u32> = HashMap::new();
        for (name, units) in spent {
            *totals.entry(name).or_default() += units;
        }
        assert_eq!(totals.values().sum::<u32>(), 900);
        for (name, units) in totals {
            let left = remaining(&limiter, &name, "rule");
            assert_eq!((left["own"], left["all"]), (100 - units, 0));
        }
        assert_eq!(limiter.evicted(), 0);
    }
}

/// Two clients a request, in either order, in rules with different limits: lines and shared places are taken in one order.
#[test]
fn requests_that_meet_in_opposite_orders_do_not_wait_for_each_other() {
    let by = |header: &'static str| {
        Source::with(move |head| Some(Identity::name(head.headers().get(header)?.to_str().ok()?.to_owned())))
    };
    let limits = |rule: Rule, name: &str, shared: &str| {
        rule.limit(Limit::shared(shared, Quota::per_hour(100_000)))
            .limit(Limit::per_client(name, Quota::per_hour(1_000)))
            .limit(Limit::per_client_and_route(format!("{name} by route"), Quota::per_hour(1_000)))
    };
    for bytes in [12 * 128, 64 * 128, 1 << 20] {
        let policy = Policy::new()
            .rule(limits(Rule::new("one").identify(by("one")), "first", "z"))
            .rule(limits(Rule::new("odd").method(http::Method::POST).identify(by("two")), "odd", "y"))
            .rule(limits(Rule::new("two").identify(by("two")), "second", "x"));
        let limiter = gate(policy, bytes);
        let layer = limiter.layer().headers(HeaderStyle::Off);
        const CLIENTS: usize = 3;
        const ROUNDS: usize = 300;
        let allowed = on_all_threads(move |number| {
            let service = layer.layer(service_fn(|_: Request<()>| async {
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }));
            let count = (0..ROUNDS).filter(|round| {
                let (one, two) = ((number + round) % CLIENTS, (number * 7 + round * 2 + 1) % CLIENTS);
                let method = if number % 2 == 0 { "GET" } else { "POST" };
                let request = Request::builder().method(method).header("one", one).header("two", two);
                let request = request.body(()).unwrap();
                service.clone().oneshot(request).now_or_never().unwrap().unwrap().status() == StatusCode::OK
            });
            count.count()
        });
        let total: usize = allowed.iter().sum();
        // Each of three clients has 1,000 of either kind, and the threads ask for far more.
        assert!((2_500..=3_000).contains(&total), "{total}");
        let left = |rule, limit: &str| -> u32 {
            (0..CLIENTS).map(|name| remaining(&limiter, &name.to_string(), rule)[limit]).sum()
        };
        assert_eq!(limiter.evicted(), 0);
        assert_eq!(left("one", "first") as usize, 3_000 - total);
        assert_eq!(left("two", "second") as usize, 3_000 - total);
        assert_eq!(remaining(&limiter, "0", "one")["z"] as usize, 100_000 - total);
        assert_eq!(remaining(&limiter, "0", "two")["x"] as usize, 100_000 - total);
        let odd = 3_000 - left("odd", "odd") as usize;
        assert_eq!(remaining(&limiter, "0", "odd")["y"] as usize, 100_000 - odd);
    }
}

/// Every word of the two quotas differs, so that a mixture of them would be seen.
#[test]
fn no_decision_sees_half_a_change() {
    let quotas = [
        Quota::per(7, Duration::from_millis(1_001)).burst(11),
        Quota::per(3_000, Duration::from_secs(77)).strict(),
    ];
    let rates = quotas.map(|quota| quota.rate().unwrap());
    let limiter = gate(Policy::per_client(quotas[0]), 1 << 14);
    let (shared, stop) = (limiter.clone(), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let changes = thread::spawn(move || {
        let mut changes = 0;
        while !stopped.load(SeqCst) {
            changes += 1;
            let old = shared.set_quota("client", quotas[changes % 2]).unwrap();
            assert_eq!(old, quotas[(changes - 1) % 2]);
        }
        changes
    });
    let reader = limiter.clone();
    on_all_threads(move |number| {
        let client = reader.client(&Identity::name(number.to_string()));
        for _ in 0..2_000 {
            let decision = now(client.charge("client"));
            let status = decision.limits().next().unwrap();
            assert!(rates.contains(&status.rate()), "{:?}", status.rate());
            assert!(quotas.contains(&status.quota()), "{:?}", status.quota());
            assert!(status.reading().reset_after() <= status.rate().interval() * status.rate().burst().get());
        }
    });
    stop.store(true, SeqCst);
    assert!(changes.join().unwrap() > 100);
}

/// Charges and refunds that cross leave what was kept, and nothing is given back twice by two at once.
#[test]
fn a_refund_is_given_once_whoever_asks_for_it() {
    let limiter = gate(Policy::per_client(Quota::per_hour(10_000)), 1 << 14);
    let ann = limiter.client(&Identity::name("ann"));
    let kept = now(ann.charge("client").cost(1_000));
    let twice = Arc::new(now(ann.charge("client").cost(1_000)));
    let shared = limiter.clone();
    on_all_threads(move |_| {
        let ann = shared.client(&Identity::name("ann"));
        for _ in 0..100 {
            let decision = now(ann.charge("client"));
            assert!(decision.is_allowed());
            ann.refund(&decision);
        }
        ann.refund(&twice);
    });
    assert!(kept.is_allowed());
    assert_eq!(remaining(&limiter, "ann", "client")["client"], 9_000);
}
