//! Bans: who is refused too often gets a 403 for a time, on every route and before anything else is asked.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use http::{Request, StatusCode};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tidegate::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// One request a minute, and a ban for a minute after three that are refused.
fn strict() -> Policy {
    let ban = Ban::after(3, MINUTE).lasting(MINUTE).doubling_up_to(3 * MINUTE).forgiven_after(10 * MINUTE);
    Policy::per_client(Quota::per_minute(1)).ban(ban)
}

/// A limiter that notes who was banned and who was released.
fn watched(policy: Policy) -> (Limiter, ManualClock, Arc<Mutex<Vec<String>>>) {
    let (clock, told) = (ManualClock::new(), Arc::new(Mutex::new(Vec::new())));
    let seen = told.clone();
    let observe = move |event: &Event<'_>| {
        seen.lock().unwrap().push(match event {
            Event::Banned { occasion, time, times } => {
                format!("{} banned for {time:?} ({times})", occasion.client())
            }
            Event::Released(occasion) => format!("{} released", occasion.client()),
            _ => return,
        });
    };
    let builder = Limiter::builder(policy).clock(clock.clone()).plain_addresses().observe(observe);
    (builder.build().unwrap(), clock, told)
}

/// Sends so many requests, and counts those that get this status.
async fn count(app: &impl App, requests: usize, status: u16) -> usize {
    let mut count = 0;
    for _ in 0..requests {
        count += usize::from(app.status(get("/")).await == status);
    }
    count
}

#[tokio::test]
async fn who_is_refused_too_often_is_banned_and_comes_back() {
    let (limiter, clock, told) = watched(strict());
    let app = ok(&limiter);
    assert_eq!(count(&app, 1, 200).await, 1);
    assert_eq!(count(&app, 3, 429).await, 3, "the refusal that leads to the ban is still one");
    let banned = app.send(get("/elsewhere")).await;
    assert_eq!((banned.status(), line(&banned, "retry-after")), (StatusCode::FORBIDDEN, Some("60")));
    assert_eq!(line(&banned, "cache-control"), Some("no-store"));
    let body = json(banned).await;
    assert_eq!(body["detail"], "This client is banned. Try again in 60 seconds.");
    assert_eq!(app.status(from("192.0.2.2", "GET", "/")).await, 200);
    clock.advance(MINUTE - SECOND);
    assert_eq!(count(&app, 10, 403).await, 10);
    clock.advance(SECOND);
    assert_eq!(app.status(get("/")).await, 200, "what it sent meanwhile has cost nothing");
    assert_eq!(*told.lock().unwrap(), ["192.0.2.1 banned for 60s (1)", "192.0.2.1 released"]);
}

#[tokio::test]
async fn bans_grow_and_after_a_quiet_time_they_are_short_again() {
    let (limiter, clock, told) = watched(strict());
    let app = ok(&limiter);
    for wait in [1, 2, 3, 3 + 10, 1] {
        count(&app, 4, 429).await;
        clock.advance(wait * MINUTE);
    }
    let told = told.lock().unwrap();
    let banned: Vec<_> = told.iter().filter_map(|told| told.strip_prefix("192.0.2.1 banned for ")).collect();
    assert_eq!(banned, ["60s (1)", "120s (2)", "180s (3)", "180s (4)", "60s (1)"]);
}

#[tokio::test]
async fn refusals_that_are_spread_out_ban_nobody() {
    let (limiter, clock, told) = watched(strict());
    let app = ok(&limiter);
    for _ in 0..20 {
        count(&app, 1, 429).await;
        clock.advance(25 * SECOND);
    }
    let (limiter, _) = build(Policy::per_client(Quota::per_minute(1)));
    assert_eq!(count(&ok(&limiter), 100, 429).await, 99, "nobody is banned unless the policy says so");
    assert_eq!(*told.lock().unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_client_does_not_answer_for_what_others_take_of_a_shared_limit() {
    let rule = Rule::new("rule")
        .limit(Limit::shared("all", Quota::per_minute(2)))
        .concurrency(Concurrency::shared("all-at-once", 1));
    let watch = Rule::new("watch").shadow().limit(Limit::per_client("watched", Quota::per_hour(1).burst(1)));
    let (limiter, ..) = watched(Policy::new().rule(rule).rule(watch).ban(Ban::after(1, MINUTE)));
    let app = ok(&limiter);
    assert_eq!(count(&app, 1, 200).await, 1);
    let held = app.send(from("192.0.2.2", "GET", "/")).await;
    assert_eq!(count(&app, 10, 429).await, 10);
    drop(held);
    assert_eq!(count(&app, 10, 429).await, 10);
    assert!(limiter.bans().is_empty());
}

#[tokio::test]
async fn permits_are_refused_too_often_as_well() {
    let rule = Rule::new("rule").concurrency(Concurrency::per_client("one", 1));
    let (limiter, ..) = watched(Policy::new().rule(rule).ban(Ban::after(2, MINUTE)));
    let app = ok(&limiter);
    let _held = app.send(get("/")).await;
    assert_eq!((count(&app, 2, 429).await, count(&app, 2, 403).await), (2, 2));
}

#[tokio::test]
async fn rules_that_only_watch_ban_nobody_and_anonymous_is_never_banned() {
    let limit = |name| Limit::per_client(name, Quota::per_minute(1));
    let policy = Policy::new()
        .identify(Source::bearer())
        .rule(Rule::new("watch").shadow().limit(limit("watched")))
        .rule(Rule::new("rule").limit(limit("rate")))
        .ban(Ban::after(1, MINUTE));
    let (limiter, _, told) = watched(policy);
    let app = ok(&limiter);
    assert_eq!(count(&app, 10, 429).await, 9);
    let known = || with(get("/"), "authorization", "Bearer ann");
    assert_eq!(app.status(known()).await, 200, "the watched limit refuses it, for one");
    assert_eq!(*told.lock().unwrap(), [""; 0]);
    assert_eq!((app.status(known()).await, app.status(known()).await), (429, 403));
}

/// A ban by the key that one rule goes by holds on the routes of others too.
#[tokio::test]
async fn a_ban_holds_for_whoever_a_rule_knows_on_every_route() {
    let login = Rule::new("login")
        .route("/login")
        .identify(Source::header("x-account"))
        .limit(Limit::per_client("login", Quota::per_minute(1)));
    let (limiter, ..) = watched(Policy::new().rule(login).ban(Ban::after(1, MINUTE)));
    let app = ok(&limiter);
    let send = |path, account| app.status(with(get(path), "x-account", account));
    assert_eq!((send("/login", "eve").await, send("/login", "eve").await), (200, 429));
    assert_eq!((send("/", "eve").await, send("/", "ann").await), (403, 200));
}

#[tokio::test]
async fn bans_are_imposed_listed_and_lifted_by_hand() {
    let policy = Policy::per_client(Quota::per_minute(9)).identify(Source::bearer()).ban(Ban::by_hand());
    let (limiter, clock, told) = watched(policy);
    let app = ok(&limiter);
    let as_eve = |peer| with(from(peer, "GET", "/"), "authorization", "Bearer eve");
    let eve = Identity::api_key("eve");
    limiter.ban(&eve, 2 * MINUTE).unwrap();
    limiter.ban(&Identity::address([192, 0, 2, 9].into()), MINUTE).unwrap();
    assert_eq!(app.status(as_eve("192.0.2.1")).await, 403);
    let as_ann = with(from("192.0.2.9", "GET", "/"), "authorization", "Bearer ann");
    assert_eq!(app.status(as_ann).await, 403, "by its address, whatever it is known by");
    clock.advance(SECOND);
    let bans = limiter.bans();
    let listed: Vec<_> = bans.iter().map(|ban| (ban.remaining().as_secs(), ban.times())).collect();
    assert_eq!(listed, [(59, 0), (119, 0)]);
    assert_eq!(bans[0].client().to_string(), "192.0.2.9");
    assert!(bans[1].client().to_string().starts_with("api_key#"));
    assert!(limiter.lift_ban_of(bans[0].key()) && !limiter.lift_ban_of(bans[0].key()));
    assert!(matches!(limiter.client(&eve).charge("client").await, Err(ChargeError::Banned { .. })));
    assert!(limiter.lift_ban(&eve));
    assert_eq!(app.status(as_eve("192.0.2.9")).await, 200);
    assert_eq!(told.lock().unwrap().len(), 4, "two banned, two released");
    let (none, _) = build(Policy::new());
    assert_eq!(none.ban(&eve, MINUTE), Err(BanError::Off));
    assert!(none.bans().is_empty() && !none.lift_ban(&eve));
}

#[tokio::test]
async fn charges_by_hand_are_refused_too_often_as_well() {
    let (limiter, ..) = watched(strict());
    let ann = limiter.client(&Identity::address([192, 0, 2, 1].into()));
    for allowed in [true, false, false, false] {
        assert_eq!(now(ann.charge("client")).is_allowed(), allowed);
    }
    let error = ann.charge("client").await.unwrap_err();
    assert_eq!(error.to_string(), "the client is banned for 60 seconds more");
    assert!(matches!(ann.hold("client").await, Err(ChargeError::Banned { retry_after: MINUTE })));
    assert_eq!(ok(&limiter).status(get("/")).await, 403);
    assert!(ann.reset("client").await.unwrap().is_allowed(), "an operator's own act");
}

/// One of them would lock out all others who do not say who they are.
#[tokio::test]
async fn anonymous_is_not_banned_by_charges_by_hand_either() {
    let (limiter, _, told) = watched(strict());
    let anonymous = limiter.client(&Identity::anonymous());
    for number in 0..9 {
        assert_eq!(anonymous.charge("client").await.unwrap().is_allowed(), number == 0);
    }
    assert_eq!(*told.lock().unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_flood_of_clients_bans_no_more_than_it_can_remember() {
    let policy = Policy::per_client(Quota::per_hour(1)).ban(Ban::after(1, MINUTE).remember(64));
    let (limiter, _, told) = watched(policy);
    let app = ok(&limiter);
    let send = |number: u32| -> Request<()> {
        from(&std::net::Ipv4Addr::from(0x0A00_0000 + number).to_string(), "GET", "/")
    };
    for number in 0..2_000 {
        app.status(send(number)).await;
        app.status(send(number)).await;
    }
    assert_eq!(limiter.bans().len(), 64);
    assert_eq!((told.lock().unwrap().len(), limiter.unnoted_refusals()), (64, 2_000 - 64));
    assert_eq!(limiter.ban(&Identity::name("eve"), MINUTE), Err(BanError::NoRoom));
}

#[test]
fn mistakes_are_told_with_their_mend() {
    let ban = Ban::after(5, MINUTE);
    for (ban, mend) in [
        (Ban::after(0, MINUTE), "set 1 at least"),
        (Ban::after(5, Duration::ZERO), "set a window"),
        (ban.clone().lasting(Duration::ZERO), "leave it out"),
        (ban.clone().doubling_up_to(MINUTE), "as long at least"),
        (ban.clone().remember(0), "set 1 client at least"),
        (ban.remember(usize::MAX), "set 16,777,216 at most"),
    ] {
        let error = Limiter::new(Policy::new().ban(ban)).unwrap_err().to_string();
        assert!(error.starts_with("ban: ") && error.contains(mend), "{error}");
    }
}
