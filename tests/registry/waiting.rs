//! Who waits for a permit goes by what its client is granted now, and not when it came.

use crate::{common::*, distant::Distant, granted::*};
use std::time::Duration;
use tidegate::*;
use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};

const MINUTE: Duration = Duration::from_secs(60);

fn line() -> Rule {
    let at_once = Concurrency::per_client("at once", 2).granted().wait(9, MINUTE);
    Rule::new("api").concurrency(at_once)
}

/// Requests wait on tokio's time, which stands still until all wait for it.
fn patient(rule: Rule, clients: Clients) -> Limiter {
    let builder = Limiter::builder(Policy::new().identify(id()).rule(rule)).clients(clients);
    builder.clock(ManualClock::new()).timer(sleep).build().unwrap()
}

/// One request of ann's runs, who may have no more at once, and three wait while a change is made; how many of them are
/// served by it at once. The others give up.
async fn served(limiter: &Limiter, change: impl AsyncFnOnce()) -> usize {
    let app = ok(limiter);
    let _running = app.send(by("ann")).await;
    let start = Instant::now();
    let ask = async || {
        let answer = app.send(by("ann")).await;
        let at_once = Instant::now() == start;
        assert_eq!((answer.status() == 200, answer.status() == 429), (at_once, !at_once));
        (at_once, answer)
    };
    // Whoever is not woken by the change is not polled again, unless its time is over. Before it all have come to rest.
    let change = async || {
        for _ in 0..20 {
            yield_now().await;
        }
        change().await;
    };
    let (first, second, third, ()) = tokio::join!(ask(), ask(), ask(), change());
    let served = [first, second, third].iter().filter(|(at_once, _)| *at_once).count();
    assert_eq!(limiter.waiting(), 0);
    served
}

async fn free(limiter: &Limiter, id: &str) {
    limiter.clients().unwrap().set(id, ClientPatch::new().tier("free")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_raise_wakes_who_waits_whatever_it_comes_from() {
    let grant = |at_once| Grant::new().max_concurrent(at_once);
    let limiter = patient(line(), office());
    let clients = limiter.clients().unwrap();
    free(&limiter, "ann").await;
    let own = async || drop(clients.set("ann", ClientPatch::new().rate_limit(grant(3))).await.unwrap());
    assert_eq!(served(&limiter, own).await, 2, "of three at once one is running");
    clients.set("ann", ClientPatch::new().rate_limit(Grant::new())).await.unwrap();
    let moved = async || drop(clients.set("ann", ClientPatch::new().tier("default")).await.unwrap());
    assert_eq!(served(&limiter, moved).await, 2);
    free(&limiter, "ann").await;
    let temporary = async || drop(clients.grant("ann", grant(4), MINUTE).await.unwrap());
    assert_eq!(served(&limiter, temporary).await, 3);
    clients.end_grant("ann").await.unwrap();
    let tier = async || drop(clients.set_tier("free", grant(2).requests_per_min(10)).await.unwrap());
    assert_eq!(served(&limiter, tier).await, 1);
    clients.set_tier("free", grant(1).requests_per_min(10)).await.unwrap();
    let deleted = async || assert!(clients.delete("ann").await.unwrap());
    assert_eq!(served(&limiter, deleted).await, 2, "it has what the tier default grants");
    assert_eq!(limiter.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_concern_a_client_serves_nobody() {
    let limiter = patient(line(), office());
    free(&limiter, "ann").await;
    free(&limiter, "bob").await;
    let clients = limiter.clients().unwrap();
    let other = async || drop(clients.set("bob", ClientPatch::new().tier("premium")).await.unwrap());
    assert_eq!(served(&limiter, other).await, 0);
    let tier = async || drop(clients.set_tier("basic", Grant::new().max_concurrent(9)).await.unwrap());
    assert_eq!(served(&limiter, tier).await, 0);
    let the_policy_s = async || assert_eq!(limiter.set_concurrency("at once", 9).unwrap(), 2);
    assert_eq!(served(&limiter, the_policy_s).await, 0, "it was granted a number of its own");
    assert_eq!(limiter.set_concurrency("at once", 2).unwrap(), 9);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_by_a_registry_that_is_elsewhere_too() {
    let distant = Distant::default();
    let near = Clients::new(distant.near.clone());
    near.set("ann", ClientPatch::new().tier("free")).await.unwrap();
    let limiter = patient(line(), Clients::new(distant.clone()));
    let moved = async || drop(near.set("ann", ClientPatch::new().tier("default")).await.unwrap());
    assert_eq!(served(&limiter, moved).await, 2);
}

/// Routes have permits of their own, and each is found.
#[tokio::test(start_paused = true)]
async fn a_raise_is_for_all_routes_and_for_holds_by_hand() {
    let at_once = Concurrency::per_client_and_route("at once", 2).granted().wait(9, MINUTE);
    let limiter = patient(Rule::new("api").concurrency(at_once), office());
    free(&limiter, "ann").await;
    let clients = limiter.clients().unwrap();
    let ann = limiter.client(&Identity::name("ann"));
    let held = [ann.hold("api").await.unwrap(), ann.hold("api").route("/there").await.unwrap()];
    let start = Instant::now();
    let (here, there, _) = tokio::join!(
        ann.hold("api").into_future(),
        ann.hold("api").route("/there").into_future(),
        clients.set("ann", ClientPatch::new().tier("default")),
    );
    assert!(here.unwrap().is_allowed() && there.unwrap().is_allowed() && Instant::now() == start);
    drop(held);
}

/// Clocks go on by hand, a moment before the timers that are set by them.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_grant_counts_for_who_waits() {
    const TEN: Duration = Duration::from_secs(10);
    let distant = Distant::default();
    for clients in [office(), Clients::new(distant.clone())] {
        let clock = ManualClock::new();
        let policy = Policy::new().identify(id()).rule(line());
        let builder = Limiter::builder(policy).clients(clients).clock(clock.clone()).timer(sleep);
        let limiter = builder.build().unwrap();
        let (app, clients) = (ok(&limiter), limiter.clients().unwrap());
        let pass = async || {
            sleep(TEN - Duration::from_secs(1)).await;
            clock.advance(TEN);
        };

        clients.set("ann", ClientPatch::new().tier("default")).await.unwrap();
        clients.grant("ann", Grant::new().max_concurrent(1), TEN).await.unwrap();
        let (start, running) = (Instant::now(), app.send(by("ann")).await);
        let (served, ()) = tokio::join!(app.status(by("ann")), pass());
        assert_eq!((served, start.elapsed()), (200, TEN), "it had to be one at once until then");
        drop(running);

        clients.set("bob", ClientPatch::new().tier("free")).await.unwrap();
        clients.grant("bob", Grant::new().max_concurrent(2), TEN).await.unwrap();
        let running = [app.send(by("bob")).await, app.send(by("bob")).await];
        let (refused, _) = tokio::join!(app.status(by("bob")), async {
            pass().await;
            sleep(TEN).await;
            let [gone, running] = running;
            drop(gone);
            sleep(MINUTE).await;
            running
        });
        assert_eq!(refused, 429, "one at once is running");
    }
}

/// What was lowered counts for who waits too: room that comes back is no room any more.
#[tokio::test(start_paused = true)]
async fn a_cut_holds_for_who_waits() {
    let limiter = patient(line(), office());
    let clients = limiter.clients().unwrap();
    clients.set("ann", ClientPatch::new().tier("default")).await.unwrap();
    let app = ok(&limiter);
    let running = [app.send(by("ann")).await, app.send(by("ann")).await, app.send(by("ann")).await];
    let (waited, ()) = tokio::join!(app.status(by("ann")), async {
        free(&limiter, "ann").await;
        sleep(Duration::from_secs(1)).await;
        let [first, second, third] = running;
        drop((first, second));
        sleep(MINUTE).await;
        drop(third);
    });
    assert_eq!(waited, 429);
}
