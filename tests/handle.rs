//! Charging without HTTP: charge, peek, refund and reset, beside a layer that counts for the same clients.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use futures_util::FutureExt;
use http::{HeaderName, Request};
use std::{sync::Arc, thread, time::Duration};
use tidegate::{
    Charge, ChargeError, Client, Cost, Decision, Identity, Limit, Limiter, PeerAddr, Place, Policy, Quota,
    Reading, Rejection, RequestHead, Rule, Settle, Source, Store, StoreError, StoreFuture, TrustedProxies,
};

/// A rule that requests do not go by, beside one that they do.
#[test]
fn a_rule_by_hand_is_charged_by_hand_alone_and_answers_as_the_layer_would() {
    let by_hand = Rule::new("messages").by_hand().limit(Limit::per_client("messages", Quota::per_minute(2)));
    let policy = policy().identify(Source::header("client")).rule(by_hand);
    let (limiter, clock) = build(policy);
    let layer = limiter.layer();
    let request = Request::get("/").header("client", "ann").body(()).unwrap();
    let (parts, ()) = request.into_parts();
    let head = RequestHead::from_parts(&parts);
    let client = limiter.identify(head).unwrap();
    assert!(now(client.charge("messages")).is_allowed());
    assert!(now(client.charge("messages")).is_allowed());
    let refused = now(client.charge("messages"));
    assert_eq!((refused.is_allowed(), refused.retry_after_secs()), (false, Some(30)));

    let answer = layer.refuse(&refused, head);
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "30");
    assert_eq!(answer.headers()["ratelimit"], "\"messages\";r=0;t=30");
    clock.advance(Duration::from_millis(29_500));
    assert_eq!(now(client.peek("messages")).retry_after_secs(), Some(1), "rounded up");

    let app = ok(&limiter);
    let status = app.status(Request::from_parts(parts, ())).now_or_never().unwrap();
    assert_eq!(status, 200, "the layer does not ask the rule");
    assert_eq!(peek(&client), [9, 99], "and the client is the layer's");
}

/// For logs, which want the address that the limiter goes by, and no keys.
#[test]
fn a_limiter_tells_where_requests_come_from_and_which_parameters_are_keys() {
    let keys = Source::api_key_query("key").or(Source::address());
    let rule = policy_rule().identify(Source::api_key_query("other"));
    let proxies = TrustedProxies::x_forwarded_for(["10.0.0.0/8"]).hops(2);
    let (limiter, _) = build(Policy::new().identify(keys).trust_proxies(proxies).rule(rule));
    assert_eq!(limiter.key_parameters(), ["key", "other"]);

    let from = |peer: &str, fields: &str| {
        let mut request = Request::get("/").header("x-forwarded-for", fields).body(()).unwrap();
        request.extensions_mut().insert(PeerAddr(peer.parse().unwrap()));
        limiter.client_address(RequestHead::new(&request))
    };
    let ip = |text: &str| Ok(Some(text.parse().unwrap()));
    assert_eq!(from("192.0.2.7:1", "203.0.113.1"), ip("192.0.2.7"));
    assert_eq!(from("[::ffff:10.0.0.1]:1", "203.0.113.1, 10.0.0.2"), ip("203.0.113.1"));
    assert_eq!(from("10.0.0.1:1", "203.0.113.1"), Err(Rejection::ShortChain));
    let request = Request::new(());
    assert_eq!(limiter.client_address(RequestHead::new(&request)), Ok(None));
}

fn policy_rule() -> Rule {
    Rule::new("r")
        .limit(Limit::per_client("own", Quota::per_minute(10)))
        .limit(Limit::shared("all", Quota::per_minute(100)))
}

fn policy() -> Policy {
    Policy::new().rule(policy_rule())
}

fn ann(limiter: &Limiter) -> Client {
    limiter.client(&Identity::name("ann"))
}

fn left(decision: &Decision) -> Vec<u32> {
    decision.limits().map(|limit| limit.remaining()).collect()
}

fn peek(client: &Client) -> Vec<u32> {
    left(&now(client.peek("r")))
}

#[test]
fn a_charge_takes_all_or_nothing_and_a_peek_takes_nothing() {
    let (limiter, clock) = build(policy());
    let ann = ann(&limiter);
    let charged = now(ann.charge("r").cost(7));
    assert!(charged.is_allowed());
    assert_eq!(left(&charged), [3, 93]);

    let refused = now(ann.charge("r").cost(4));
    assert!(!refused.is_allowed());
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(6)));
    assert!(!now(ann.peek("r").cost(4)).is_allowed());
    assert!(now(ann.peek("r").cost(3)).is_allowed());
    assert_eq!(peek(&ann), [3, 93], "neither took anything");

    let never = now(ann.charge("r").cost(11));
    assert!(!never.is_allowed() && never.retry_after().is_none(), "no waiting would help");
    assert!(now(ann.charge("r").cost(0)).is_allowed());
    clock.advance(Duration::from_secs(6));
    assert!(now(ann.charge("r").cost(4)).is_allowed());
    let bob = limiter.client(&Identity::name("bob"));
    assert_eq!(peek(&bob)[0], 10);
}

#[test]
fn a_charge_costs_what_the_limit_says_unless_it_says_otherwise() {
    let limit = |name, cost: Cost| Limit::per_client(name, Quota::per_minute(10)).cost(cost);
    let rule = Rule::new("r")
        .limit(limit("fixed", Cost::fixed(3)))
        .limit(limit("by head", Cost::by(|_| 9)))
        .limit(limit("header", Cost::header("x-cost", 2..=9).trusting(["::1"])))
        .limit(limit("settled", Cost::fixed(2)).settle(Settle::count(|_| false)));
    let (limiter, _) = build(Policy::new().rule(rule.route("/x").when(|_| false)));
    let ann = ann(&limiter);
    assert_eq!(left(&now(ann.charge("r"))), [7, 9, 9, 8]);
    assert_eq!(left(&now(ann.charge("r").cost(2))), [5, 7, 7, 6]);
}

#[test]
fn a_refund_happens_once_and_gives_back_what_was_taken() {
    let (limiter, _) = build(policy());
    let ann = ann(&limiter);
    now(ann.charge("r").cost(5));
    let charged = now(ann.charge("r").cost(4));
    assert_eq!(peek(&ann), [1, 91]);
    ann.refund(&charged);
    assert_eq!(peek(&ann), [5, 95]);
    ann.refund(&charged);
    limiter.refund(&charged);
    limiter.client(&Identity::name("bob")).refund(&charged);
    assert_eq!(peek(&ann), [5, 95]);

    let charged = Arc::new(now(ann.charge("r").cost(2)));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| ann.refund(&charged));
        }
    });
    assert_eq!(peek(&ann), [5, 95], "nor where many do it at the same time");
}

#[test]
fn what_took_nothing_gives_nothing_back() {
    let (limiter, clock) = build(policy());
    let ann = ann(&limiter);
    now(ann.charge("r").cost(8));
    for decision in [now(ann.charge("r").cost(3)), now(ann.peek("r").cost(2)), now(ann.charge("r").cost(0))] {
        ann.refund(&decision);
        assert_eq!(peek(&ann), [2, 92]);
    }

    let (other, _) = build(policy());
    let elsewhere = now(self::ann(&other).charge("r").cost(5));
    ann.refund(&elsewhere);
    assert_eq!(peek(&ann), [2, 92]);
    assert_eq!(peek(&self::ann(&other)), [5, 95], "another limiter's decision is left alone");

    let late = now(ann.charge("r").cost(2));
    clock.advance(Duration::from_secs(3_600));
    ann.refund(&late);
    assert_eq!(peek(&ann), [10, 100], "nobody is owed anything");
}

#[test]
fn watched_limits_give_back_what_they_counted() {
    let watched = Rule::new("r").limit(Limit::per_client("w", Quota::per_minute(3))).shadow();
    let (limiter, _) = build(Policy::new().rule(watched));
    let ann = ann(&limiter);
    let counted = now(ann.charge("r").cost(2));
    let over = now(ann.charge("r").cost(2));
    assert!(over.is_allowed() && over.retry_after().is_none());
    ann.refund(&over);
    assert_eq!(peek(&ann), [1], "it was not counted");
    ann.refund(&counted);
    assert_eq!(peek(&ann), [3]);
}

#[test]
fn a_reset_forgives_the_client_and_not_what_all_share() {
    let (limiter, _) = build(policy());
    let (ann, bob) = (ann(&limiter), limiter.client(&Identity::name("bob")));
    now(ann.charge("r").cost(10));
    now(bob.charge("r").cost(10));
    assert_eq!(left(&now(ann.reset("r"))), [10, 80]);
    assert_eq!(peek(&ann), [10, 80]);
    assert_eq!(peek(&bob), [0, 80]);
}

#[test]
fn limits_per_route_go_by_the_template_given() {
    let limit = Limit::per_client_and_route("l", Quota::per_minute(5));
    let (limiter, _) = build(Policy::new().rule(Rule::new("r").route("/items/{id}").limit(limit)));
    let client = limiter.client(&Identity::address([192, 0, 2, 1].into()));
    assert_eq!(left(&now(client.charge("r").route("/items/{id}").cost(2))), [3]);
    assert_eq!(left(&now(client.charge("r").cost(4))), [1], "without one it is unmatched");
    let app = ok(&limiter);
    assert_eq!(app.admits(9, || get("/items/7")).now_or_never().unwrap(), 3, "the layer finds the same");
    assert_eq!(left(&now(client.reset("r").route("/items/{id}"))), [5]);
    assert_eq!(left(&now(client.peek("r"))), [1]);
}

#[test]
fn an_unknown_rule_is_named_with_those_that_there_are() {
    let (limiter, _) = build(policy().rule(Rule::new("other")));
    let ann = ann(&limiter);
    for charging in [ann.charge("s"), ann.peek("s"), ann.reset("s")] {
        let error = charging.into_future().now_or_never().unwrap().unwrap_err();
        assert!(matches!(error, ChargeError::UnknownRule { .. }));
        assert_eq!(error.to_string(), "no rule is named \"s\"; there are [\"r\", \"other\"]");
    }
    assert!(now(ann.charge("other")).is_allowed(), "a rule without limits admits everything");
}

#[test]
fn the_lists_hold_for_charges_too() {
    let policy = policy()
        .block(Identity::name("bad"))
        .allow(Identity::name("good"))
        .allow(Identity::name("bad"))
        .block_networks(["203.0.113.0/24"])
        .allow_networks(["10.0.0.0/8"]);
    let (limiter, _) = build(policy);
    for identity in [Identity::name("bad"), Identity::address([203, 0, 113, 9].into())] {
        let client = limiter.client(&identity);
        for charging in [client.charge("r"), client.peek("r")] {
            let answer = charging.into_future().now_or_never().unwrap();
            assert!(matches!(answer, Err(ChargeError::Blocked)));
        }
    }
    for identity in [Identity::name("good"), Identity::address([10, 1, 1, 1].into())] {
        let client = limiter.client(&identity);
        for charging in [client.charge("r").cost(99), client.peek("r").cost(99)] {
            let decision = now(charging);
            assert!(decision.is_allowed());
            assert_eq!(decision.limits().count(), 0);
        }
    }
    assert_eq!(peek(&ann(&limiter)), [10, 100]);
}

#[test]
fn a_handler_s_client_is_the_layer_s_client() {
    #[derive(Clone)]
    struct User(&'static str);
    let tenant = HeaderName::from_static("x-tenant");
    let mut user = Request::new(());
    user.extensions_mut().insert(User("ann"));
    let mut mapped = get("/");
    mapped.extensions_mut().insert(tidegate::PeerAddr("[::ffff:192.0.2.1]:80".parse().unwrap()));
    for (source, request, identity) in [
        (Source::address(), get("/"), Identity::address([192, 0, 2, 1].into())),
        (Source::address(), mapped, Identity::address([192, 0, 2, 1].into())),
        (
            Source::peer(),
            from("2001:db8::1", "GET", "/"),
            Identity::address("2001:db8::ffff".parse().unwrap()),
        ),
        (
            Source::address().ipv6_prefix(48),
            from("2001:db8::1", "GET", "/"),
            Identity::network("2001:db8:0:9::".parse().unwrap(), 48),
        ),
        (Source::bearer(), with(get("/"), "authorization", "Bearer abc"), Identity::api_key("abc")),
        (Source::api_key_header("x-key"), with(get("/"), "x-key", "abc"), Identity::api_key("abc")),
        (Source::api_key_query("key"), get("/?key=a%20c"), Identity::api_key("a c")),
        (Source::api_key_cookie("key"), with(get("/"), "cookie", "a=b; key=abc"), Identity::api_key("abc")),
        (Source::header("X-Tenant"), with(get("/"), "x-tenant", "acme"), Identity::header(tenant, "acme")),
        (Source::extension(|user: &User| Identity::name(user.0)), user, Identity::name("ann")),
        (Source::bearer(), get("/"), Identity::anonymous()),
    ] {
        let (limiter, _) = build(policy().identify(source));
        let handle = limiter.clone();
        let client = identity.clone();
        let app = app(&limiter.layer(), move |_| {
            now(handle.client(&client).charge("r").cost(3));
            reply(200)
        });
        let answer = app.send(request).now_or_never().unwrap();
        assert_eq!(param(line(&answer, "ratelimit").unwrap(), "r"), Some(9), "as the request found it");
        assert_eq!(peek(&limiter.client(&identity)), [6, 96], "{identity}");
    }
}

/// A store that answers later, or not at all.
#[derive(Clone)]
struct Remote(Option<Reading>);

impl Store for Remote {
    fn charge(&self, charges: Vec<Charge>) -> StoreFuture {
        let reading = self.0;
        Box::pin(async move {
            tokio::task::yield_now().await;
            assert!(charges.iter().any(|charge| matches!(charge.place, Place::Shared(0))));
            let readings = charges.iter().map(|_| reading.ok_or_else(|| StoreError::new("it is gone")));
            readings.collect()
        })
    }

    fn settle(&self, _: Vec<Charge>) {}
}

#[tokio::test]
async fn the_same_future_waits_for_a_remote_store() {
    let limiter = |reading| Limiter::builder(policy()).store(Remote(reading)).build().unwrap();
    let debt = Duration::from_secs(12);
    let decision = ann(&limiter(Some(Reading::allowed(debt)))).charge("r").route("/x").await.unwrap();
    assert!(decision.is_allowed());
    assert_eq!(left(&decision)[0], 8);
    let wait = Duration::from_secs(3);
    let decision = ann(&limiter(Some(Reading::refused(debt, wait)))).charge("r").await.unwrap();
    assert_eq!(decision.retry_after(), Some(wait));
    let error = ann(&limiter(None)).charge("r").await.unwrap_err();
    assert_eq!(error.to_string(), "the store could not decide: it is gone");
    assert_eq!(ok(&limiter(Some(Reading::refused(debt, wait)))).status(get("/")).await, 429);
    let down = ok(&limiter(None)).send(get("/")).await;
    assert_eq!((down.status().as_u16(), line(&down, "retry-after")), (503, Some("1")));
}
