//! What a request costs on the way in: by constant, by closure, by a header from callers that may say so.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use http::Request;
use std::time::Duration;
use tidegate::{Cost, Identity, Limit, Policy, Quota, Rule, Source, TrustedProxies};

fn policy(cost: impl Into<Cost>) -> Policy {
    Policy::new().rule(Rule::new("work").limit(Limit::per_client("work", Quota::per_minute(10)).cost(cost)))
}

fn remaining(answer: &Answer) -> u64 {
    param(line(answer, "ratelimit").unwrap(), "r").unwrap()
}

#[tokio::test]
async fn a_constant_cost_is_taken_as_a_whole() {
    let (limiter, clock) = build(policy(4));
    let app = ok(&limiter);
    assert_eq!(app.admits(9, || get("/")).await, 2);
    let refused = app.send(get("/")).await;
    assert_eq!(line(&refused, "retry-after"), Some("12"), "2 are left, and 2 more take 12 s");
    clock.advance(Duration::from_secs(12));
    assert_eq!(app.admits(9, || get("/")).await, 1);
}

#[tokio::test]
async fn a_cost_of_nothing_is_never_refused_and_never_counted() {
    let app = ok(&build(policy(Cost::by(|head| u32::from(head.path() != "/free")))).0);
    assert_eq!(app.admits(20, || get("/free")).await, 20);
    assert_eq!(app.admits(20, || get("/")).await, 10);
    assert_eq!(app.admits(20, || get("/free")).await, 20);
}

#[tokio::test]
async fn a_closure_prices_the_head() {
    let app = ok(&build(policy(Cost::by(|head| if head.path().ends_with("/batch") { 7 } else { 1 }))).0);
    assert_eq!(remaining(&app.send(get("/items/batch")).await), 3);
    assert_eq!(remaining(&app.send(get("/items")).await), 2);
    assert_eq!(app.status(get("/items/batch")).await, 429);
    assert_eq!(app.admits(9, || get("/items")).await, 2);
}

#[tokio::test]
async fn what_never_fits_is_told_so() {
    let app = ok(&build(policy(Cost::by(|head| if head.path() == "/huge" { u32::MAX } else { 1 }))).0);
    let refused = app.send(get("/huge")).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(line(&refused, "retry-after"), None, "no waiting would help");
    assert_eq!(remaining(&refused), 10);
    let detail = json(refused).await["detail"].to_string();
    assert!(detail.contains("more than a limit ever admits: work (10/minute)"), "{detail}");
    assert_eq!(app.admits(20, || get("/")).await, 10, "and it took nothing");

    // Another limit would admit it in a while, but that does not help either.
    let limit = |name| Limit::per_client(name, Quota::per_minute(90)).cost(Cost::by(|_| 9));
    let rule = Rule::new("work").limit(limit("small")).limit(limit("large"));
    let (limiter, _) = build(Policy::new().rule(rule));
    let client = limiter.client(&Identity::address([192, 0, 2, 1].into()));
    client.charge("work").cost(85).await.unwrap();
    limiter.set_quota("small", Quota::per_minute(5)).unwrap();
    let refused = ok(&limiter).send(get("/")).await;
    assert_eq!((refused.status().as_u16(), line(&refused, "retry-after")), (429, None));
}

#[tokio::test]
async fn a_header_prices_what_trusted_callers_send() {
    let cost = Cost::header("x-cost", 2..=10).trusting(["10.0.0.0/8", "2001:db8::/32"]);
    let app = ok(&build(policy(cost)).0);
    let costing = |peer: &str, cost: &str| with(from(peer, "GET", "/"), "x-cost", cost);

    assert_eq!(remaining(&app.send(costing("10.0.0.1", "2")).await), 8);
    assert_eq!(remaining(&app.send(costing("2001:db8::1", "10")).await), 0);
    assert_eq!(remaining(&app.send(costing("::ffff:10.0.0.2", "005")).await), 5);
    assert_eq!(remaining(&app.send(from("10.0.0.3", "GET", "/")).await), 9, "absent is 1");
    for (i, cost) in ["2", "10", "0", "x"].into_iter().enumerate() {
        let peer = format!("192.0.2.{i}");
        assert_eq!(remaining(&app.send(costing(&peer, cost)).await), 9, "{cost:?} from anybody is 1");
    }
    let nobody = with(Request::new(()), "x-cost", "5");
    assert_eq!(remaining(&app.send(nobody).await), 9, "who is unknown is not trusted");
}

#[tokio::test]
async fn a_malformed_cost_is_answered_with_400_and_takes_nothing() {
    let cost = Cost::header("x-cost", 2..=10).trusting(["192.0.2.0/24"]);
    let app = ok(&build(policy(cost)).0);
    let costing = |cost: &str| with(get("/"), "x-cost", cost);
    for cost in
        ["", "1", "11", "0", "-2", "+2", "2.0", "0x2", "two", "2,3", "4294967298", &"9".repeat(65_536)]
    {
        let answer = app.send(costing(cost)).await;
        assert_eq!(answer.status(), 400, "{cost:.20?}");
        assert_eq!(line(&answer, "cache-control"), Some("no-store"));
        assert_eq!(line(&answer, "retry-after"), None);
        let body = json(answer).await;
        assert_eq!(body["detail"], "header \"x-cost\" must be one whole number from 2 to 10.", "{cost:.20?}");
    }
    assert_eq!(app.status(with(costing("2"), "x-cost", "2")).await, 400, "repeated");
    let mut odd = get("/");
    odd.headers_mut().insert("x-cost", http::HeaderValue::from_bytes(b"\xff2").unwrap());
    assert_eq!(app.status(odd).await, 400);
    assert_eq!(remaining(&app.send(get("/")).await), 9, "nothing was taken so far");
}

/// The caller is whom the proxies forward for, so that nobody can send a cost through a trusted proxy.
#[tokio::test]
async fn behind_proxies_the_client_is_the_caller() {
    let cost = Cost::header("x-cost", 1..=10).trusting(["10.0.0.0/8"]);
    let policy = policy(cost).trust_proxies(TrustedProxies::x_forwarded_for(["10.0.0.1"]));
    let app = ok(&build(policy).0);
    let through = |client| with(with(from("10.0.0.1", "GET", "/"), "x-cost", "5"), "x-forwarded-for", client);
    assert_eq!(remaining(&app.send(through("192.0.2.9")).await), 9);
    assert_eq!(remaining(&app.send(through("10.0.0.9")).await), 5);
}

#[tokio::test]
async fn limits_of_one_rule_have_costs_of_their_own() {
    let rule = Rule::new("work")
        .limit(Limit::per_client("requests", Quota::per_minute(10)))
        .limit(Limit::per_client("units", Quota::per_minute(10)).cost(4));
    let (limiter, _) = build(Policy::new().identify(Source::peer()).rule(rule));
    assert_eq!(ok(&limiter).admits(9, || get("/")).await, 2);
    let client = limiter.client(&Identity::address([192, 0, 2, 1].into()));
    let peek = client.peek("work").await.unwrap();
    assert_eq!(peek.limits().map(|limit| limit.remaining()).collect::<Vec<_>>(), [8, 2]);
}
