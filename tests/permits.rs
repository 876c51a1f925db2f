//! How many at once: permits are taken before the charge and held until the response's body has ended or is dropped.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use futures_util::FutureExt as _;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use std::{
    future::{IntoFuture as _, pending},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};
use tidegate::*;
use tokio::time::sleep;
use tower::{Layer as _, ServiceExt as _, service_fn};

const SECOND: Duration = Duration::from_secs(1);

fn one() -> Concurrency {
    Concurrency::per_client("one", 1)
}

fn policy(concurrency: Concurrency) -> Policy {
    Policy::new().rule(Rule::new("rule").concurrency(concurrency))
}

/// Requests wait on tokio's time, which stands still in these tests until all wait for it.
fn patient(policy: Policy) -> (Limiter, ManualClock) {
    let clock = ManualClock::new();
    (Limiter::builder(policy).clock(clock.clone()).timer(sleep).build().unwrap(), clock)
}

fn by(peer: &str) -> Request<()> {
    from(peer, "GET", "/")
}

#[track_caller]
fn idle(limiter: &Limiter) {
    assert_eq!((limiter.in_flight(), limiter.waiting()), (0, 0));
}

#[tokio::test]
async fn a_request_too_many_is_refused_until_a_body_is_dropped_or_has_ended() {
    let (limiter, _) = build(policy(Concurrency::per_client("few", 2)));
    let app = ok(&limiter);
    let first = app.send(get("/")).await;
    let second = app.send(get("/")).await;
    assert_eq!(app.status(get("/")).await, 429);
    assert_eq!(app.status(by("192.0.2.2")).await, 200, "that is another client");
    drop(first);
    let third = app.send(get("/")).await;
    assert_eq!((third.status().as_u16(), app.status(get("/")).await), (200, 429));
    let mut body = second.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!(app.status(get("/")).await, 429, "its end was not seen yet");
    assert!(body.frame().await.is_none());
    assert_eq!(app.status(get("/")).await, 200, "it has ended, though it is still there");
    drop((body, third));
    idle(&limiter);
}

#[tokio::test]
async fn a_refusal_names_the_limit_and_when_to_come_back() {
    let rule = Rule::new("rule")
        .limit(Limit::per_client("rate", Quota::per_minute(9)))
        .concurrency(Concurrency::per_client("a \"few\"", 2))
        .concurrency(Concurrency::shared("all", 5));
    let (limiter, _) = build(Policy::new().rule(rule));
    let app = ok(&limiter);
    let first = app.send(get("/")).await;
    let policies =
        r#""rate";q=9;w=60, "a \"few\"";q=2;qu="concurrent-requests", "all";q=5;qu="concurrent-requests""#;
    assert_eq!(line(&first, "ratelimit-policy"), Some(policies));
    assert_eq!(line(&first, "ratelimit"), Some(r#""rate";r=8;t=7, "a \"few\"";r=1, "all";r=4"#));
    let _second = app.send(get("/")).await;
    let refused = app.send(get("/")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(line(&refused, "retry-after"), Some("1"));
    assert_eq!(line(&refused, "ratelimit"), Some(r#""a \"few\"";r=0, "all";r=3"#));
    assert_eq!(
        line(&refused, "ratelimit-policy"),
        policies.strip_prefix(r#""rate";q=9;w=60, "#),
        "no rate was asked"
    );
    let body = json(refused).await;
    assert_eq!(body["violated-policies"], serde_json::json!([r#"a "few""#]));
    assert_eq!(body["detail"], r#"Limit exceeded: a "few" (2 at once). Try again in 1 second."#);
    assert_eq!(body["retry-after"], 1);
    let ann = limiter.client(&Identity::address([192, 0, 2, 1].into()));
    let peek = now(ann.peek("rule"));
    assert_eq!(peek.limits().next().unwrap().remaining(), 7, "the refusal has cost nothing");
}

#[tokio::test]
async fn older_fields_have_no_words_for_it_and_grpc_gets_its_own() {
    let (limiter, _) = build(policy(one()));
    for style in [HeaderStyle::Draft7, HeaderStyle::XRateLimit, HeaderStyle::Off] {
        let app = app(&limiter.layer().headers(style), |_| reply(200));
        let _held = app.send(get("/")).await;
        let refused = app.send(get("/")).await;
        assert_eq!((refused.status().as_u16(), line(&refused, "retry-after")), (429, Some("1")));
        assert!(refused.headers().keys().all(|name| !name.as_str().contains("ratelimit")), "{style:?}");
    }
    let app = ok(&limiter);
    let _held = app.send(get("/")).await;
    let call = with(from("192.0.2.1", "POST", "/"), "content-type", "application/grpc");
    let refused = app.send(call).await;
    assert_eq!(
        (line(&refused, "grpc-status"), line(&refused, "grpc-retry-pushback-ms")),
        (Some("8"), Some("1000"))
    );
    assert_eq!(
        line(&refused, "grpc-message"),
        Some("Limit exceeded: one (1 at once). Try again in 1 second.")
    );
}

#[tokio::test]
async fn a_refused_charge_gives_the_permit_back_at_once() {
    let rule = Rule::new("rule").limit(Limit::per_client("rate", Quota::per_minute(1))).concurrency(one());
    let (limiter, _) = build(Policy::new().rule(rule));
    let app = ok(&limiter);
    drop(app.send(get("/")).await);
    let refused = app.send(get("/")).await;
    assert_eq!(json(refused).await["violated-policies"], serde_json::json!(["rate"]));
    let exposing = limiter.layer().expose_decision();
    let refused = self::app(&exposing, |_| reply(200)).send(get("/")).await;
    assert_eq!((refused.status().as_u16(), limiter.in_flight()), (429, 0));
    let ann = limiter.client(&Identity::address([192, 0, 2, 1].into()));
    let refused = ann.hold("rule").await.unwrap();
    assert!(!refused.is_allowed());
    idle(&limiter);
}

#[tokio::test]
async fn a_permit_comes_back_however_the_request_ends() {
    let (limiter, _) = build(policy(one()));
    let app = limiter.layer().layer(service_fn(async |request: Request<()>| match request.uri().path() {
        "/fail" => Err("failed"),
        "/panic" => panic!("as a handler may"),
        "/hang" => pending().await,
        _ => Ok(Response::new(reply(200).into_body())),
    }));
    let mut failed = Box::pin(app.clone().oneshot(get("/fail")));
    assert!((&mut failed).await.is_err());
    idle(&limiter);
    let panicked = AssertUnwindSafe(app.clone().oneshot(get("/panic"))).catch_unwind().await;
    assert!(panicked.is_err());
    idle(&limiter);
    let mut hanging = Box::pin(app.clone().oneshot(get("/hang")));
    assert!((&mut hanging).now_or_never().is_none());
    assert_eq!(app.clone().oneshot(get("/")).await.unwrap().status(), 429);
    drop(hanging);
    idle(&limiter);
    drop(app.clone().oneshot(get("/never-polled")));
    idle(&limiter);
    assert_eq!(app.oneshot(get("/")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn clients_routes_and_all_together_are_counted_apart() {
    let rule = Rule::new("rule")
        .route("/a")
        .route("/b")
        .concurrency(Concurrency::per_client_and_route("route", 1))
        .concurrency(Concurrency::shared("all", 3));
    let (limiter, _) = build(Policy::new().rule(rule));
    let app = ok(&limiter);
    let _a = app.send(get("/a")).await;
    assert_eq!(app.status(get("//a/")).await, 429, "the same route");
    let b = app.send(get("/b")).await;
    assert_eq!(b.status(), 200);
    assert_eq!(app.status(get("/c")).await, 200, "no rule is about that");
    let _third = app.send(from("192.0.2.2", "GET", "/a")).await;
    let refused = app.send(from("192.0.2.3", "GET", "/a")).await;
    assert_eq!(json(refused).await["violated-policies"], serde_json::json!(["all"]));
    drop(b);
    assert_eq!(app.status(from("192.0.2.3", "GET", "/a")).await, 200);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_when_a_permit_comes_back_and_charged_only_then() {
    let rule = Rule::new("rule")
        .limit(Limit::per_client("rate", Quota::per_minute(60)))
        .concurrency(one().wait(1, 10 * SECOND));
    let (limiter, clock) = patient(Policy::new().rule(rule));
    let app = ok(&limiter);
    let remaining = || {
        let ann = limiter.client(&Identity::address([192, 0, 2, 1].into()));
        now(ann.peek("rule")).limits().next().unwrap().remaining()
    };
    let held = app.send(get("/")).await;
    let mut waiting = Box::pin(app.send(get("/")));
    assert!((&mut waiting).now_or_never().is_none());
    assert_eq!((limiter.waiting(), remaining()), (1, 59));
    assert_eq!(app.status(get("/")).await, 429, "one may wait");
    clock.advance(SECOND);
    limiter.set_quota("rate", Quota::per_minute(30)).unwrap();
    drop(held);
    let answer = waiting.await;
    assert_eq!((answer.status().as_u16(), remaining()), (200, 29));
    assert!(
        line(&answer, "ratelimit-policy").unwrap().starts_with(r#""rate";q=30;w=60, "#),
        "the quota of now"
    );
    drop(answer);
    idle(&limiter);
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_long_enough_is_refused() {
    let rule = Rule::new("rule")
        .concurrency(one().wait(5, 10 * SECOND))
        .concurrency(Concurrency::shared("all", 1).wait(5, 3 * SECOND));
    let (limiter, _) = patient(Policy::new().rule(rule));
    let app = ok(&limiter);
    let _held = app.send(get("/")).await;
    let start = tokio::time::Instant::now();
    let other = app.send(by("192.0.2.2")).await;
    assert_eq!((other.status().as_u16(), start.elapsed().as_secs()), (429, 3));
    assert_eq!(json(other).await["violated-policies"], serde_json::json!(["all"]));
    let same = app.send(get("/")).await;
    assert_eq!((same.status().as_u16(), start.elapsed().as_secs()), (429, 6), "as the least patient says");
    assert_eq!(limiter.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_the_line_holds_nothing() {
    let (limiter, _) = patient(policy(one().wait(3, 10 * SECOND)));
    let app = ok(&limiter);
    let held = app.send(get("/")).await;
    let mut line = [0, 1, 2].map(|_| Box::pin(app.send(get("/"))));
    for waiting in &mut line {
        assert!(waiting.now_or_never().is_none());
    }
    let [first, second, third] = line;
    drop(first);
    assert_eq!(limiter.waiting(), 2);
    drop(held);
    drop(second);
    assert_eq!(third.await.status(), 200, "served with what the second was given and never saw");
    idle(&limiter);
}

#[tokio::test(start_paused = true)]
async fn clients_take_turns_at_what_they_share() {
    let (limiter, _) = patient(policy(Concurrency::shared("all", 1).wait(3, 10 * SECOND)));
    let app = ok(&limiter);
    let held = app.send(by("192.0.2.9")).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let line: Vec<_> = [1, 1, 1, 2, 2, 3]
        .map(|client| {
            let (app, order) = (app.clone(), order.clone());
            let request = from(&format!("192.0.2.{client}"), "GET", "/");
            let mut waiting = Box::pin(async move {
                let answer = app.send(request).await;
                order.lock().unwrap().push(client);
                drop(answer);
            });
            assert!((&mut waiting).now_or_never().is_none());
            waiting
        })
        .into();
    drop(held);
    futures_util::future::join_all(line).await;
    assert_eq!(*order.lock().unwrap(), [1, 2, 3, 1, 2, 1]);
}

#[tokio::test]
async fn a_hold_by_hand_is_kept_as_long_as_the_work_goes_on() {
    let rule =
        Rule::new("jobs").by_hand().limit(Limit::per_client("rate", Quota::per_minute(5))).concurrency(one());
    let (limiter, _) = build(Policy::new().rule(rule));
    let ann = limiter.client(&Identity::name("ann"));
    let hold = ann.hold("jobs").cost(2).await.unwrap();
    assert!(hold.is_allowed());
    let permits: Vec<_> =
        hold.permits().map(|permit| (permit.limit(), permit.used(), permit.max())).collect();
    assert_eq!(permits, [("one", 1, 1)]);
    let refused = ann.hold("jobs").await.unwrap();
    assert!(!refused.is_allowed());
    assert_eq!((refused.retry_after(), refused.retry_after_secs()), (Some(SECOND), Some(1)));
    assert!(refused.permits().next().unwrap().refuses());
    assert!(now(ann.charge("jobs")).is_allowed(), "a charge alone takes no permit");
    let decision = hold.release();
    ann.refund(&decision);
    let again = ann.hold("jobs").await.unwrap();
    assert!(again.is_allowed(), "a dropped hold that was refused has given nothing back");
    assert_eq!(again.limits().next().unwrap().remaining(), 3);
    drop((again, refused));
    idle(&limiter);
    assert!(matches!(ann.hold("job").await, Err(ChargeError::UnknownRule { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_hold_waits_as_requests_do() {
    let (limiter, _) = patient(policy(one().wait(1, 10 * SECOND)));
    let ann = limiter.client(&Identity::name("ann"));
    let first = ann.hold("rule").await.unwrap();
    let mut second = ann.hold("rule").into_future();
    assert!((&mut second).now_or_never().is_none());
    drop(first);
    let second = second.await.unwrap();
    assert!(second.is_allowed());
    assert!(!ann.hold("rule").await.unwrap().is_allowed(), "after ten seconds");
    drop(second);
    idle(&limiter);
}

/// As with `block_on(client.hold(..).into_future())`: a timer that needs a runtime is made where it is polled.
#[test]
fn a_hold_may_be_made_outside_of_the_runtime_that_polls_it() {
    let (limiter, _) = patient(policy(one().wait(1, SECOND / 100)));
    let ann = limiter.client(&Identity::name("ann"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _held = runtime.block_on(ann.hold("rule").into_future()).unwrap();
    let waiting = ann.hold("rule").into_future();
    assert!(!runtime.block_on(waiting).unwrap().is_allowed());
}

#[tokio::test(start_paused = true)]
async fn the_maximum_changes_while_requests_run_and_wait() {
    let (limiter, _) = patient(policy(Concurrency::shared("all", 2).wait(2, 10 * SECOND)));
    let app = ok(&limiter);
    let first = app.send(get("/")).await;
    let _second = app.send(get("/")).await;
    assert_eq!(limiter.set_concurrency("all", 1).unwrap(), 2);
    drop(first);
    let mut waiting = Box::pin(app.send(get("/")));
    assert!((&mut waiting).now_or_never().is_none(), "one of one is running");
    assert_eq!(limiter.set_concurrency("all", 2).unwrap(), 1);
    let answer = waiting.now_or_never().unwrap();
    assert_eq!(line(&answer, "ratelimit-policy"), Some(r#""all";q=2;qu="concurrent-requests""#));
    let unknown = limiter.set_concurrency("none", 1).unwrap_err().to_string();
    assert_eq!(unknown, r#"nothing is named "none"; there are ["all"]"#);
    assert!(limiter.set_concurrency("all", 0).unwrap_err().to_string().contains("allow 1 at least"));
}

#[tokio::test]
async fn a_rule_that_only_watches_lets_all_pass_and_reports() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = told.clone();
    let observe = move |event: &Event<'_>| {
        let (what, occasion) = match event {
            Event::Allowed(occasion) => ("allowed", occasion),
            Event::ShadowRefused(occasion) => ("would refuse", occasion),
            Event::Refused(occasion) => ("refused", occasion),
            _ => return,
        };
        let limits = occasion.violated_permits().map(|permit| permit.limit()).collect::<Vec<_>>().join(",");
        seen.lock().unwrap().push(format!("{what} {limits}"));
    };
    let policy =
        policy(Concurrency::per_client("two", 2)).rule(Rule::new("watch").shadow().concurrency(one()));
    let limiter = Limiter::builder(policy).clock(ManualClock::new()).observe(observe).build().unwrap();
    let app = ok(&limiter);
    let first = app.send(get("/")).await;
    assert_eq!(line(&first, "ratelimit"), Some(r#""two";r=1"#), "watched limits are not shown");
    let second = app.send(get("/")).await;
    assert_eq!(app.status(get("/")).await, 429);
    drop(first);
    let third = app.send(get("/")).await;
    drop((second, third));
    idle(&limiter);
    let told = told.lock().unwrap();
    // The second request would not have run, so the third finds room.
    assert_eq!(*told, ["allowed ", "would refuse one", "refused two", "allowed "]);
}

#[tokio::test]
async fn an_exposed_decision_holds_nothing() {
    let (limiter, _) = build(policy(one()));
    let app = app(&limiter.layer().expose_decision(), |request| {
        let mut response = reply(200);
        response.extensions_mut().insert(Kept(request.extensions().get::<Arc<Decision>>().unwrap().clone()));
        response
    });
    let mut answer = app.send(get("/")).await;
    let Kept(kept) = answer.extensions_mut().remove().unwrap();
    assert_eq!(kept.permits().next().unwrap().used(), 1);
    drop(answer);
    idle(&limiter);
}

#[derive(Clone)]
struct Kept(Arc<Decision>);

/// A store whose answers are `true` for allowed, `false` for refused, and which fails when it has none left.
struct Oracle(Mutex<Vec<bool>>);

impl Store for Oracle {
    fn charge(&self, charges: Vec<Charge>) -> StoreFuture {
        let answer = self.0.lock().unwrap().pop();
        Box::pin(async move {
            tokio::task::yield_now().await;
            let reading = match answer.ok_or_else(|| StoreError::new("gone"))? {
                true => Reading::allowed(SECOND),
                false => Reading::refused(SECOND, SECOND),
            };
            Ok(charges.iter().map(|_| reading).collect())
        })
    }

    fn settle(&self, _: Vec<Charge>) {}
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_held_while_a_store_is_asked_and_comes_back_unless_it_allows() {
    let rule = Rule::new("rule")
        .limit(Limit::per_client("rate", Quota::per_minute(9)))
        .concurrency(one().wait(3, 10 * SECOND));
    let store = Oracle(Mutex::new(vec![false, true]));
    let limiter = Limiter::builder(Policy::new().rule(rule)).store(store).timer(sleep).build().unwrap();
    let app = ok(&limiter);
    let mut line = [0, 1, 2].map(|_| Box::pin(app.send(get("/"))));
    for waiting in &mut line {
        assert!(waiting.now_or_never().is_none());
    }
    assert_eq!((limiter.in_flight(), limiter.waiting()), (1, 2), "one is being charged");
    let [allowed, refused, failed] = line;
    assert_eq!(allowed.await.status(), 200);
    assert_eq!(refused.await.status(), 429);
    assert_eq!(failed.await.status(), 503);
    idle(&limiter);
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_room_left_the_server_says_so() {
    let rejections = Arc::new(Mutex::new(Vec::new()));
    let seen = rejections.clone();
    let observe = move |event: &Event<'_>| {
        if let Event::Rejected { reason, .. } = event {
            seen.lock().unwrap().push(reason.to_string());
        }
    };
    let builder =
        Limiter::builder(policy(one().wait(9, SECOND))).timer(sleep).max_in_flight(2).max_waiting(1);
    let limiter = builder.observe(observe).build().unwrap();
    let app = ok(&limiter);
    let _held = [app.send(by("192.0.2.1")).await, app.send(by("192.0.2.2")).await];
    let refused = app.send(by("192.0.2.3")).await;
    assert_eq!((refused.status().as_u16(), line(&refused, "retry-after")), (503, Some("1")));
    assert!(json(refused).await["type"].as_str().unwrap().ends_with("#temporary-reduced-capacity"));
    let mut waiting = Box::pin(app.send(by("192.0.2.1")));
    assert!((&mut waiting).now_or_never().is_none());
    assert_eq!(app.status(by("192.0.2.1")).await, 503);
    let ann = limiter.client(&Identity::name("ann"));
    let error = ann.hold("rule").await.unwrap_err();
    assert!(matches!(error, ChargeError::NoRoom) && error.to_string().contains("max_in_flight"), "{error}");
    let rejections = rejections.lock().unwrap();
    assert_eq!(rejections.len(), 2);
    assert!(rejections.iter().all(|reason| reason.contains("max_in_flight")));
}

/// A client that may wait more often than there is room cannot keep all others from waiting.
#[tokio::test(start_paused = true)]
async fn who_waits_leaves_as_much_room_to_others() {
    let limiter = Limiter::builder(policy(one().wait(9, SECOND))).timer(sleep).max_waiting(4);
    let app = ok(&limiter.build().unwrap());
    let (greedy, modest) = ("192.0.2.1", "192.0.2.2");
    let _held = [app.send(by(greedy)).await, app.send(by(modest)).await];
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(app.status(by(greedy)))).collect();
    assert!(waiting.iter_mut().all(|waiting| waiting.now_or_never().is_none()));
    assert_eq!(app.status(by(greedy)).now_or_never(), Some(503));
    assert_eq!(app.status(by(modest)).now_or_never(), None);
}

#[tokio::test]
async fn who_is_exempt_needs_no_permit() {
    let (limiter, _) = build(policy(one()).allow_networks(["192.0.2.1"]));
    let app = ok(&limiter);
    let _held = [app.send(get("/")).await, app.send(get("/")).await];
    idle(&limiter);
    let ann = limiter.client(&Identity::address([192, 0, 2, 1].into()));
    let _hold = ann.hold("rule").await.unwrap();
    idle(&limiter);
}

#[test]
fn memory_is_taken_only_where_it_is_needed() {
    let none = Limiter::new(Policy::per_client(Quota::per_minute(1))).unwrap();
    assert_eq!(none.permit_bytes(), 0);
    let (refusing, _) = build(policy(one()));
    // Keys that a former secret may have made too are larger.
    let most = if cfg!(feature = "redis") { 72 } else { 60 };
    assert!((16_384 * 40..16_384 * most).contains(&refusing.permit_bytes()), "{}", refusing.permit_bytes());
    let (waiting, _) = patient(policy(one().wait(1, SECOND)));
    let waiters = waiting.permit_bytes() - refusing.permit_bytes();
    assert!((1_024 * 100..1_024 * 200).contains(&waiters), "{waiters}");
}

#[test]
fn mistakes_are_told_with_their_mend() {
    let rule = |concurrency| Rule::new("rule").concurrency(concurrency);
    let twice = rule(one()).limit(Limit::per_client("one", Quota::per_minute(1)));
    for (policy, mend) in [
        (policy(Concurrency::shared("all", 0)), "allow 1 at least"),
        (policy(one().wait(0, SECOND)), "a queue of 1 at least"),
        (policy(one().wait(1, Duration::ZERO)), "give some, or no wait"),
        (policy(one().wait(1, SECOND)), ".timer(tokio::time::sleep)"),
        (Policy::new().rule(twice), "give each one its own"),
        (policy(Concurrency::per_client("", 1)), "printable ASCII"),
    ] {
        let error = Limiter::new(policy).unwrap_err();
        assert_eq!(error.mistakes().len(), 1, "{error}");
        assert!(error.to_string().contains(mend), "{error}");
    }
    let error = Limiter::builder(policy(one())).max_in_flight(usize::MAX).build().unwrap_err();
    assert!(error.to_string().contains("16777216 at most"), "{error}");
}
