//! Requests that a rule rejects: the other rules count them, or guessing would be free.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use http::Request;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tidegate::*;

const MINUTE: Duration = Duration::from_secs(60);

fn keys() -> Rule {
    Rule::new("keys")
        .identify(Source::bearer().or_refuse())
        .limit(Limit::per_client("keys", Quota::per_minute(2)))
}

fn addresses() -> Rule {
    Rule::new("addresses")
        .identify(Source::address())
        .limit(Limit::per_client("addresses", Quota::per_minute(3)))
}

fn with_token(token: &str) -> Request<()> {
    with(get("/"), "authorization", &format!("Bearer {token}"))
}

async fn statuses<const N: usize>(app: &impl App, request: impl Fn() -> Request<()>) -> [u16; N] {
    let mut statuses = [0; N];
    for status in &mut statuses {
        *status = app.status(request()).await;
    }
    statuses
}

#[tokio::test]
async fn whoever_is_rejected_pays_by_its_address_before_or_after() {
    for [first, second] in [[keys(), addresses()], [addresses(), keys()]] {
        for request in [get as fn(&str) -> _, |_| with_token("two words")] {
            let (limiter, clock) = build(Policy::new().rule(first.clone()).rule(second.clone()));
            let app = ok(&limiter);
            assert_eq!(statuses(&app, || request("/")).await, [401, 401, 401, 429, 429]);
            assert_eq!(app.status(with_token("ann")).await, 429, "a good one too, from there");
            clock.advance(MINUTE / 3);
            assert_eq!(statuses(&app, || request("/")).await, [401, 429]);
            clock.advance(MINUTE / 3);
            assert_eq!(app.status(with_token("ann")).await, 200);
        }
    }
}

#[tokio::test]
async fn what_else_is_wrong_with_a_request_is_counted_too() {
    let cost = Cost::header("x-cost", 1..=5).trusting(["192.0.2.0/24"]);
    let priced = Rule::new("priced")
        .limit(Limit::per_client("plain", Quota::per_hour(1)))
        .limit(Limit::per_client("priced", Quota::per_minute(5)).cost(cost));
    let (limiter, clock) = build(Policy::new().rule(priced).rule(addresses()));
    let app = ok(&limiter);
    assert_eq!(statuses(&app, || with(get("/"), "x-cost", "many")).await, [400, 400, 400, 429]);
    clock.advance(MINUTE);
    assert_eq!(app.status(get("/")).await, 200, "nothing of its own was charged");

    let tenants = Rule::new("tenants").identify(Source::header("x-tenant").or_refuse());
    let tenants = tenants.limit(Limit::per_client("tenants", Quota::per_minute(1)));
    let (limiter, _) = build(Policy::new().rule(tenants).rule(addresses()));
    assert_eq!(statuses(&ok(&limiter), || get("/")).await, [400, 400, 400, 429]);
}

#[tokio::test]
async fn a_rejection_tells_what_it_has_cost_and_nothing_else() {
    let (limiter, _) = build(Policy::new().rule(keys()).rule(addresses()));
    let app = app(&limiter.layer().expose_decision(), |_| reply(200));
    let rejected = app.send(get("/")).await;
    assert_eq!(line(&rejected, "www-authenticate"), Some("Bearer"));
    assert_eq!(line(&rejected, "cache-control"), Some("no-store"));
    assert_eq!(line(&rejected, "ratelimit-policy"), Some("\"addresses\";q=3;w=60"));
    assert_eq!(line(&rejected, "ratelimit"), Some("\"addresses\";r=2;t=20"));
    assert_eq!(line(&rejected, "retry-after"), None, "waiting does not help");
    let decision = rejected.extensions().get::<Arc<Decision>>().unwrap().clone();
    limiter.refund(&decision);
    assert_eq!(json(rejected).await["violated-policies"], serde_json::Value::Null);
    let limits = || async {
        let address = limiter.client(&Identity::address([192, 0, 2, 1].into()));
        address.peek("addresses").await.unwrap().limits().next().unwrap().remaining()
    };
    assert_eq!(limits().await, 3, "it can be given back");

    let (limiter, _) = build(Policy::new().rule(keys()));
    let layer = limiter.layer().expose_decision();
    let alone = common::app(&layer, |_| reply(200)).send(get("/")).await;
    assert_eq!((alone.status().as_u16(), line(&alone, "ratelimit")), (401, None));
    assert!(alone.extensions().get::<Arc<Decision>>().is_none(), "no limit was asked");
}

/// What counts failures alone counts these, and what counts something else gives them back.
#[tokio::test]
async fn a_rejection_is_settled_by_its_status() {
    for (counted, expected) in [(401, [401, 401, 401, 429]), (404, [401; 4])] {
        let settle = Settle::count(move |status| status == counted);
        let failures = Limit::per_client("failures", Quota::per_minute(3)).settle(settle);
        let rule = Rule::new("failures").identify(Source::address()).limit(failures);
        let (limiter, _) = build(Policy::new().rule(keys()).rule(rule));
        assert_eq!(statuses(&ok(&limiter), || get("/")).await, expected, "{counted}");
    }
}

#[tokio::test]
async fn a_rule_that_only_watches_refuses_nobody_and_counts_all() {
    let (limiter, _) = build(Policy::new().rule(keys()).rule(addresses().shadow()));
    assert_eq!(statuses(&ok(&limiter), || get("/")).await, [401; 5]);
    let address = limiter.client(&Identity::address([192, 0, 2, 1].into()));
    assert_eq!(address.peek("addresses").await.unwrap().limits().next().unwrap().remaining(), 0);

    let (limiter, _) = build(Policy::new().rule(keys().shadow()).rule(addresses()));
    assert_eq!(statuses(&ok(&limiter), || get("/")).await, [200, 200, 200, 429]);
}

#[tokio::test]
async fn an_only_rule_that_rejects_ends_the_search() {
    let (limiter, _) = build(Policy::new().rule(keys().route("/keys").only()).rule(addresses()));
    let app = ok(&limiter);
    assert_eq!(statuses(&app, || get("/keys")).await, [401; 5]);
    assert_eq!(statuses(&app, || get("/")).await, [200, 200, 200, 429], "nothing was charged before");
    let (limiter, _) = build(Policy::new().rule(keys().route("/keys")).rule(addresses()));
    assert_eq!(statuses(&ok(&limiter), || get("/keys")).await, [401, 401, 401, 429]);
}

#[tokio::test]
async fn a_request_that_is_rejected_takes_no_permit() {
    let busy = Rule::new("busy").identify(Source::address()).concurrency(Concurrency::per_client("one", 1));
    let (limiter, _) = build(Policy::new().rule(busy).rule(keys()).rule(addresses()));
    let app = ok(&limiter);
    let rejected = app.send(get("/")).await;
    assert_eq!((rejected.status().as_u16(), limiter.in_flight()), (401, 0));
    let running = app.send(with_token("ann")).await;
    assert_eq!((running.status().as_u16(), limiter.in_flight()), (200, 1));
    assert_eq!(app.status(get("/")).await, 401, "and waits for none");
    assert_eq!(app.status(get("/")).await, 429, "of the rate");
}

#[tokio::test]
async fn who_goes_on_guessing_is_banned_by_its_address() {
    let policy = Policy::new().rule(keys()).rule(addresses()).ban(Ban::after(2, MINUTE).lasting(MINUTE));
    let (limiter, clock) = build(policy);
    let app = ok(&limiter);
    assert_eq!(statuses(&app, || get("/")).await, [401, 401, 401, 429, 429, 403, 403]);
    assert_eq!(app.status(with_token("ann")).await, 403);
    let elsewhere = with(from("192.0.2.2", "GET", "/"), "authorization", "Bearer ann");
    assert_eq!(app.status(elsewhere).await, 200, "what was guessed is nobody's fault");
    clock.advance(MINUTE);
    assert_eq!(app.status(with_token("ann")).await, 200);

    let (limiter, _) = build(Policy::new().rule(keys()).ban(Ban::after(2, MINUTE)));
    assert_eq!(statuses(&ok(&limiter), || get("/")).await, [401; 9], "a rejection alone is no refusal");
}

/// A credential that comes twice must not be a way past the block list, nor past the limits.
#[tokio::test]
async fn what_the_lists_cannot_read_is_counted_unless_the_address_is_allowed() {
    let policy = Policy::new()
        .rule(keys())
        .rule(addresses())
        .block(Identity::api_key("mallory"))
        .allow_networks(["192.0.2.7/32"]);
    let (limiter, _) = build(policy);
    let app = ok(&limiter);
    let twice = |peer| {
        let request = with(from(peer, "GET", "/"), "authorization", "Bearer ann");
        with(request, "authorization", "Bearer mallory")
    };
    assert_eq!(statuses(&app, || twice("192.0.2.1")).await, [401, 401, 401, 429]);
    assert_eq!(statuses(&app, || twice("192.0.2.7")).await, [401; 5]);
    assert_eq!(app.status(with_token("mallory")).await, 403);
}

#[tokio::test]
async fn an_observer_is_told_once_of_each() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = told.clone();
    let observe = move |event: &Event<'_>| {
        let (what, occasion) = match event {
            Event::Rejected { occasion, .. } => ("rejected", occasion),
            Event::Refused(occasion) => ("refused", occasion),
            Event::Allowed(occasion) => ("allowed", occasion),
            _ => return,
        };
        let limits: Vec<_> = occasion.limits().iter().map(|limit| limit.limit()).collect();
        log.lock().unwrap().push(format!(
            "{what} {} violated {}",
            limits.join(" "),
            occasion.violated().count()
        ));
    };
    let policy = Policy::new().rule(keys()).rule(addresses());
    let limiter = Limiter::builder(policy).clock(ManualClock::new()).observe(observe).build().unwrap();
    statuses::<4>(&ok(&limiter), || get("/")).await;
    let rejected = "rejected addresses violated 0";
    assert_eq!(*told.lock().unwrap(), [rejected, rejected, rejected, "refused addresses violated 1"]);
}

/// A store that answers later, with what a limiter in memory would say of the number of charges so far.
#[derive(Clone, Default)]
struct Elsewhere(Arc<Mutex<Vec<usize>>>);

impl Store for Elsewhere {
    fn charge(&self, charges: Vec<Charge>) -> StoreFuture {
        let asked = self.0.clone();
        Box::pin(async move {
            tokio::task::yield_now().await;
            let mut asked = asked.lock().unwrap();
            asked.push(charges.len());
            let reading = match asked.len() {
                1..=3 => Reading::allowed(MINUTE),
                4 => Reading::refused(MINUTE, MINUTE),
                _ => return Err(StoreError::new("gone")),
            };
            Ok(charges.iter().map(|_| reading).collect())
        })
    }

    fn settle(&self, _: Vec<Charge>) {}
}

#[tokio::test]
async fn a_store_elsewhere_is_charged_before_a_rejection_is_told() {
    let store = Elsewhere::default();
    let policy = Policy::new().rule(keys()).rule(addresses());
    let limiter = Limiter::builder(policy).store(store.clone()).build().unwrap();
    let app = ok(&limiter);
    let rejected = app.send(get("/")).await;
    assert_eq!((rejected.status().as_u16(), line(&rejected, "www-authenticate")), (401, Some("Bearer")));
    assert_eq!(line(&rejected, "ratelimit"), Some("\"addresses\";r=0;t=20"));
    assert_eq!(app.status(with_token("ann")).await, 200);
    assert_eq!(statuses(&app, || get("/")).await, [401, 429, 503], "nothing is free while it is gone");
    assert_eq!(*store.0.lock().unwrap(), [1, 2, 1, 1, 1], "never the limits of who was rejected");

    let store = Elsewhere::default();
    let limiter = Limiter::builder(Policy::new().rule(keys())).store(store.clone()).build().unwrap();
    assert_eq!(statuses(&ok(&limiter), || get("/")).await, [401; 9]);
    assert!(store.0.lock().unwrap().is_empty(), "there was nothing to ask");
}
