//! Tricks by which a client might get more than its due, each of which once worked.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use http::{Request, Response};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};
use tidegate::*;
use tokio::sync::oneshot;
use tower::{Layer, Service, service_fn};

const MINUTE: Duration = Duration::from_secs(60);

fn bearer(request: Request<()>, token: &str) -> Request<()> {
    with(request, "authorization", &format!("Bearer {token}"))
}

/// Requests that are held open outlive what they were charged, and their refunds pay for others: the burst is as large
/// as there are requests held open.
#[tokio::test]
async fn refunds_that_come_late_pay_for_other_requests() {
    let failures = Limit::per_client("failed", Quota::per_minute(5).burst(1).strict())
        .settle(Settle::count(|status| status == 401));
    let (limiter, clock) = build(Policy::new().rule(Rule::new("login").limit(failures)));
    // A handler that waits for the request's body, as axum's extractors do. What is no text is a 400, and no wrong password.
    let held = Arc::new(Mutex::new(Vec::<oneshot::Sender<()>>::new()));
    let waiting = held.clone();
    let mut app = limiter.layer().layer(service_fn(move |request: Request<()>| {
        let slow = request.uri().path() == "/slow";
        let (open, opened) = oneshot::channel::<()>();
        if slow {
            waiting.lock().unwrap().push(open);
        }
        async move {
            if slow {
                let _ = opened.await;
                return Ok::<Response<Body>, Infallible>(reply(400));
            }
            Ok(reply(401))
        }
    }));
    let mut slow = Vec::new();
    for _ in 0..30 {
        slow.push(tokio::spawn(app.call(get("/slow"))));
        clock.advance(Duration::from_secs(12));
    }
    tokio::task::yield_now().await;
    let mut guesses = 0;
    let held = std::mem::take(&mut *held.lock().unwrap());
    for (request, open) in slow.into_iter().zip(held) {
        guesses += usize::from(app.call(get("/guess")).await.unwrap().status() == 401);
        open.send(()).unwrap();
        assert_eq!(request.await.unwrap().unwrap().status(), 400);
    }
    assert!(guesses <= 5, "{guesses} wrong passwords in one instant against 5/minute strict");
}

/// The same through the handle.
#[tokio::test]
async fn a_refund_gives_back_no_more_than_is_still_owed_of_its_charge() {
    let (limiter, clock) = build(Policy::per_client(Quota::per_minute(10)));
    let ann = limiter.client(&Identity::name("ann"));
    let first = ann.charge("client").cost(10).await.unwrap();
    clock.advance(MINUTE);
    assert!(ann.charge("client").cost(10).await.unwrap().is_allowed());
    ann.refund(&first);
    assert!(!ann.charge("client").await.unwrap().is_allowed(), "10 fit at once");
}

#[tokio::test]
async fn a_blocked_key_is_blocked_when_it_comes_twice() {
    let policy = Policy::new()
        .identify(Source::api_key_header("x-api-key"))
        .rule(Rule::new("api").route("/api").limit(Limit::per_client("api", Quota::per_minute(5))))
        .block(Identity::api_key("eve"));
    let app = ok(&build(policy).0);
    assert_eq!(app.status(with(get("/free"), "x-api-key", "eve")).await, 403);
    let twice = with(with(get("/free"), "x-api-key", "eve"), "x-api-key", "eve");
    assert_ne!(app.status(twice).await, 200);
}

/// A service behind the layer may well go by the first of the two.
#[tokio::test]
async fn a_banned_key_is_banned_when_it_comes_twice() {
    let policy = Policy::new()
        .identify(Source::api_key_header("x-api-key"))
        .rule(Rule::new("api").route("/api").limit(Limit::per_client("api", Quota::per_minute(5))))
        .ban(Ban::by_hand());
    let (limiter, _) = build(policy);
    let app = ok(&limiter);
    let twice = || with(with(get("/free"), "x-api-key", "eve"), "x-api-key", "eve");
    assert_eq!(app.status(twice()).await, 200, "while nobody is banned");
    limiter.ban(&Identity::api_key("eve"), MINUTE).unwrap();
    assert_eq!(app.status(with(get("/free"), "x-api-key", "eve")).await, 403);
    assert_eq!(app.status(twice()).await, 401);
    assert_eq!(app.status(get("/free")).await, 200);
    assert_eq!(app.status(with(get("/free"), "x-api-key", "ann")).await, 200);
}

#[tokio::test]
async fn a_blocked_address_is_blocked_whatever_key_it_invents() {
    let policy = Policy::per_client(Quota::per_minute(5))
        .identify(Source::bearer().or(Source::address()))
        .block(Identity::address([192, 0, 2, 1].into()));
    let app = ok(&build(policy).0);
    assert_eq!(app.status(get("/")).await, 403);
    assert_eq!(app.status(bearer(get("/"), "invented")).await, 403);
}

#[tokio::test]
async fn a_blocked_host_is_blocked_by_hand_too() {
    let host: std::net::IpAddr = "2001:db8::5".parse().unwrap();
    let policy = Policy::per_client(Quota::per_minute(5)).block_networks(["2001:db8::5"]);
    let (limiter, _) = build(policy);
    assert_eq!(ok(&limiter).status(from("2001:db8::5", "GET", "/")).await, 403);
    let charged = limiter.client(&Identity::address(host)).charge("client").await;
    assert!(matches!(charged, Err(ChargeError::Blocked)), "{charged:?}");
}

/// `new URL("//x/login", base).pathname` is `/login`, in Node, Deno and Workers; so is `Url::join`.
#[tokio::test]
async fn a_path_that_looks_like_a_host_is_read_as_the_url_standard_does() {
    let login = Rule::new("login").route("/login").limit(Limit::per_client("login", Quota::per_minute(2)));
    let app = ok(&build(Policy::new().rule(login)).0);
    assert_eq!(app.admits(10, || get("//x/login")).await, 2);
}

/// gRPC is POST. Whoever takes the status for the verdict (`auth_request`, forward auth, a cache) must not read a refusal,
/// let alone a block, as 200 because the client wrote a content type.
#[tokio::test]
async fn a_content_type_does_not_turn_a_refusal_into_200() {
    let policy = Policy::per_client(Quota::per_minute(1)).block_networks(["192.0.2.66"]);
    let app = ok(&build(policy).0);
    let grpc = |peer| with(from(peer, "GET", "/"), "content-type", "application/grpc");
    assert_eq!(app.status(grpc("192.0.2.66")).await, 403);
    assert_eq!(app.admits(10, || grpc("192.0.2.1")).await, 1);
}

/// Downloads that are held open and then dropped give back grains that had drained long ago.
#[tokio::test]
async fn grains_that_are_not_sent_pay_for_no_others() {
    let limit = Limit::per_client("l", Quota::per_minute(10)).cost(10).settle(Settle::body_bytes(1));
    let (limiter, clock) = build(Policy::new().rule(Rule::new("r").limit(limit)));
    let app = ok(&limiter);
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(app.send(get("/")).await);
        clock.advance(MINUTE);
    }
    let ann = limiter.client(&Identity::address([192, 0, 2, 1].into()));
    let mut units = 0;
    for answer in held {
        units += if ann.charge("r").cost(10).await.unwrap().is_allowed() { 10 } else { 0 };
        drop(answer);
    }
    assert!(units <= 10, "{units} units in one instant of 10");
}

/// In the smallest memory that is accepted, too.
#[tokio::test]
async fn all_limits_of_a_rule_count_in_the_least_memory() {
    let rule = (0..24).fold(Rule::new("r"), |rule, n| {
        rule.limit(Limit::per_client(
            format!("l{n}"),
            if n == 23 { Quota::per_hour(3) } else { Quota::per_hour(1000) },
        ))
    });
    let least = |bytes| Limiter::builder(Policy::new().rule(rule.clone())).memory_bytes(bytes).build();
    let limiter = (1..).find_map(|lines| least(lines * 128).ok()).unwrap();
    assert_eq!(ok(&limiter).admits(50, || get("/")).await, 3);
}

#[cfg(feature = "axum")]
mod axum_app {
    use super::*;
    use axum::{
        Router,
        body::Body as AxumBody,
        routing::{any, get as route_get},
    };
    use tower::ServiceExt;

    async fn admits(app: &Router, most: usize, path: &str) -> usize {
        let mut passed = 0;
        for _ in 0..most {
            let mut request = Request::get(path).body(AxumBody::empty()).unwrap();
            request.extensions_mut().insert(PeerAddr("192.0.2.1:1".parse().unwrap()));
            passed += usize::from(app.clone().oneshot(request).await.unwrap().status() == 200);
        }
        passed
    }

    fn rule(name: &str, route: &str, amount: u64) -> Rule {
        Rule::new(name).route(route).limit(Limit::per_client(name, Quota::per_hour(amount)))
    }

    /// An exemption for `/health` is none for what the router serves by another route.
    #[tokio::test]
    async fn an_exempt_route_exempts_no_route_beside_it() {
        let policy = Policy::new()
            .rule(Rule::new("health").route("/health").only())
            .rule(Rule::new("all").limit(Limit::per_client("all", Quota::per_hour(3))));
        let app = Router::new()
            .route("/health", route_get(|| async {}))
            .route("/{*path}", any(|| async {}))
            .layer(build(policy).0.layer());
        assert_eq!(admits(&app, 9, "/health").await, 9);
        assert_eq!(admits(&app, 9, "/health/").await, 3);
    }

    /// Inside a nested router axum has cut the prefix off the path.
    #[tokio::test]
    async fn a_rule_holds_inside_a_nested_router() {
        let layer = build(Policy::new().rule(rule("me", "/api/users/me", 3))).0.layer();
        let inner = Router::new().route("/users/{id}", route_get(|| async {}));
        let outside = Router::new().nest("/api", inner.clone()).layer(layer);
        assert_eq!(admits(&outside, 9, "/api/users/me").await, 3);
        let layer = build(Policy::new().rule(rule("me", "/api/users/me", 3))).0.layer();
        let inside = Router::new().nest("/api", inner.layer(layer));
        assert_eq!(admits(&inside, 9, "/api/users/me").await, 3);
    }

    #[tokio::test]
    async fn an_exemption_at_the_root_is_none_inside_a_nested_router() {
        let policy = Policy::new()
            .rule(Rule::new("health").route("/health").only())
            .rule(Rule::new("all").limit(Limit::per_client("all", Quota::per_hour(3))));
        let inner = Router::new().route("/{page}", route_get(|| async {})).layer(build(policy).0.layer());
        let app = Router::new().nest("/api", inner);
        assert_eq!(admits(&app, 9, "/api/health").await, 3);
    }
}
