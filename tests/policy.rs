//! Which rules and limits a request is held to, who shares them, and whom they leave alone.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use http::{HeaderName, Method, Request};
use tidegate::{Cost, Identity, Limit, Policy, Quota, Rule, Source};

fn minute(amount: u64) -> Quota {
    Quota::per_minute(amount)
}

fn rule(name: &str, amount: u64) -> Rule {
    Rule::new(name).limit(Limit::per_client(name, minute(amount)))
}

fn keyed(key: &str, path: &str) -> Request<()> {
    with(get(path), "x-api-key", key)
}

#[tokio::test]
async fn every_rule_that_matches_applies_and_a_refusal_burns_nothing() {
    let login = rule("login", 2).route("/login").method(Method::POST);
    for policy in [
        Policy::new().rule(rule("all", 10)).rule(login.clone()),
        Policy::new().rule(login.clone()).rule(rule("all", 10)),
    ] {
        let app = ok(&build(policy).0);
        let post = || from("192.0.2.1", "POST", "/login");
        assert_eq!(app.admits(50, post).await, 2);
        assert_eq!(app.admits(50, || get("/login")).await, 8, "48 refused logins took nothing of the rest");
        assert_eq!(app.status(post()).await, 429);
    }
}

#[tokio::test]
async fn nine_limits_of_a_client_are_charged_together_or_not_at_all() {
    let limits = (1..=9).rev().map(|n| Limit::per_client(format!("l{n}"), minute(n + 3)));
    let rule = limits.fold(Rule::new("all"), Rule::limit);
    let (limiter, _) = build(Policy::new().rule(rule));
    let app = ok(&limiter);
    assert_eq!(app.admits(50, || get("/")).await, 4);

    let client = limiter.client(&Identity::address([192, 0, 2, 1].into()));
    let peek = client.peek("all").await.unwrap();
    let remaining: Vec<_> = peek.limits().map(|limit| limit.remaining()).collect();
    assert_eq!(remaining, [8, 7, 6, 5, 4, 3, 2, 1, 0], "46 refusals took nothing");
}

#[tokio::test]
async fn only_ends_the_search() {
    let policy = Policy::new()
        .rule(Rule::new("health").route("/health").only())
        .rule(rule("static", 3).route("/static/{*file}").only())
        .rule(rule("rest", 1));
    let app = ok(&build(policy).0);
    assert_eq!(app.admits(20, || get("/health")).await, 20);
    assert_eq!(app.admits(20, || get("/static/a")).await, 3);
    assert_eq!(app.admits(20, || get("/")).await, 1);

    // Some servers read this as `/login`, so it is held to both rules.
    let disguised = || from("192.0.2.2", "GET", "/static/../login");
    assert_eq!(app.admits(20, disguised).await, 1);
}

#[tokio::test]
async fn a_shadow_rule_never_refuses_and_never_shows() {
    let watched = rule("watched", 1).shadow();
    let app = ok(&build(Policy::new().rule(watched.clone()).rule(rule("all", 3))).0);
    let answers = [app.send(get("/")).await, app.send(get("/")).await, app.send(get("/")).await];
    for answer in &answers {
        assert_eq!(answer.status(), 200);
        assert!(!line(answer, "ratelimit-policy").unwrap().contains("watched"));
        assert!(!line(answer, "ratelimit").unwrap().contains("watched"));
    }
    let refused = app.send(get("/")).await;
    assert_eq!(refused.status(), 429);
    assert!(!line(&refused, "ratelimit").unwrap().contains("watched"));
    assert_eq!(json(refused).await["violated-policies"], serde_json::json!(["all"]));

    let alone = ok(&build(Policy::new().rule(watched)).0);
    assert_eq!(alone.admits(5, || get("/")).await, 5);
}

/// Whoever tries out a rule for API keys must not lock out all who have none.
#[tokio::test]
async fn a_shadow_rule_lets_nobody_by_the_rules_behind_it() {
    let (limiter, _) = build(Policy::new().rule(rule("watched", 9).shadow().only()).rule(rule("held", 1)));
    assert_eq!(ok(&limiter).admits(3, || get("/")).await, 1);
}

#[tokio::test]
async fn a_shadow_rule_does_not_refuse_what_it_cannot_identify_or_price() {
    let cost = Cost::header("x-cost", 1..=5).trusting(["192.0.2.0/24"]);
    let watched = Rule::new("watched")
        .identify(Source::api_key_header("x-api-key").or_refuse())
        .limit(Limit::per_client("first", minute(100)))
        .limit(Limit::per_client("priced", minute(5)).cost(cost))
        .shadow();
    let (limiter, _) = build(Policy::new().rule(watched.clone()).rule(rule("all", 4)));
    let app = ok(&limiter);
    assert_eq!(app.status(get("/")).await, 200);
    assert_eq!(app.status(with(keyed("a", "/"), "x-cost", "many")).await, 200);
    let peek = limiter.client(&Identity::api_key("a")).peek("watched").await.unwrap();
    assert_eq!(peek.limits().map(|limit| limit.remaining()).collect::<Vec<_>>(), [100, 5], "all or nothing");
    assert_eq!(app.status(with(keyed("a", "/"), "x-api-key", "b")).await, 200);
    assert_eq!(app.admits(9, || get("/")).await, 1, "the enforced rule counted all of them");

    let alone = ok(&build(Policy::new().rule(watched)).0);
    assert_eq!(alone.status(get("/")).await, 200);
}

#[tokio::test]
async fn when_decides_by_the_head() {
    let batch = rule("batch", 1).when(|head| head.header("x-batch").is_some());
    let app = ok(&build(Policy::new().rule(batch)).0);
    assert_eq!(app.admits(5, || with(get("/"), "x-batch", "1")).await, 1);
    assert_eq!(app.admits(5, || get("/")).await, 5);
}

#[tokio::test]
async fn a_rule_can_tell_clients_apart_in_its_own_way() {
    let policy = Policy::new()
        .identify(Source::api_key_header("x-api-key").or(Source::address()))
        .rule(rule("api", 4))
        .rule(rule("login", 3).route("/login").identify(Source::address()));
    let app = ok(&build(policy).0);
    assert_eq!(app.admits(2, || keyed("ann", "/login")).await, 2);
    assert_eq!(app.admits(9, || keyed("bob", "/login")).await, 1, "one address, whatever the keys");
    assert_eq!(app.admits(9, || keyed("ann", "/")).await, 2);
    assert_eq!(app.admits(9, || keyed("bob", "/")).await, 3);
}

#[tokio::test]
async fn preflights_pass_uncounted_where_they_are_exempt() {
    let preflight = || {
        let request = with(from("192.0.2.1", "OPTIONS", "/"), "origin", "https://example.com");
        with(request, "access-control-request-method", "PUT")
    };
    let refusing = Policy::new().identify(Source::bearer().or_refuse());
    let app = ok(&build(refusing.rule(rule("all", 1)).exempt_preflights()).0);
    assert_eq!(app.admits(5, preflight).await, 5, "a preflight carries no credentials");

    let app = ok(&build(Policy::new().rule(rule("all", 1)).exempt_preflights()).0);
    assert_eq!(app.admits(5, preflight).await, 5);
    assert_eq!(app.admits(5, || from("192.0.2.1", "OPTIONS", "/")).await, 1, "a bare OPTIONS is none");
    let app = ok(&build(Policy::new().rule(rule("all", 1))).0);
    assert_eq!(app.admits(5, preflight).await, 1);

    let blocked = Policy::new().rule(rule("all", 1)).exempt_preflights().block_networks(["192.0.2.0/24"]);
    assert_eq!(ok(&build(blocked).0).status(preflight()).await, 403);
}

#[tokio::test]
async fn listed_networks_pass_uncounted_or_not_at_all() {
    let policy = Policy::new()
        .rule(rule("login", 1).route("/login"))
        .allow_networks(["10.0.0.0/8", "2001:db8:1::/48"])
        .block_networks(["10.6.0.0/16", "203.0.113.9"]);
    let app = ok(&build(policy).0);
    let login = |peer: &'static str| move || from(peer, "GET", "/login");
    assert_eq!(app.admits(5, login("10.1.1.1")).await, 5);
    assert_eq!(app.admits(5, login("::ffff:10.1.1.1")).await, 5);
    assert_eq!(app.admits(5, login("2001:db8:1::1")).await, 5);
    assert_eq!(app.admits(5, login("192.0.2.1")).await, 1);
    for peer in ["10.6.0.1", "203.0.113.9", "::ffff:203.0.113.9"] {
        let answer = app.send(from(peer, "GET", "/")).await;
        assert_eq!(answer.status(), 403, "{peer} is blocked, on a route without a rule too");
        assert_eq!(line(&answer, "cache-control"), Some("no-store"));
        assert_eq!(line(&answer, "retry-after"), None);
    }
}

#[tokio::test]
async fn listed_identities_pass_uncounted_or_not_at_all() {
    let policy = Policy::new()
        .identify(Source::api_key_header("x-api-key").or(Source::address()))
        .rule(rule("login", 1).route("/login"))
        .rule(rule("tenants", 1).route("/tenant").identify(Source::header("x-tenant")))
        .allow(Identity::api_key("partner"))
        .block(Identity::api_key("stolen"))
        .block(Identity::address([203, 0, 113, 9].into()))
        .block(Identity::header(HeaderName::from_static("x-tenant"), "gone"));
    let app = ok(&build(policy).0);
    assert_eq!(app.admits(5, || keyed("partner", "/login")).await, 5);
    assert_eq!(app.admits(5, || keyed("else", "/login")).await, 1);
    assert_eq!(app.status(keyed("stolen", "/login")).await, 403);
    assert_eq!(app.status(keyed("stolen", "/")).await, 403, "on a route without a rule too");
    assert_eq!(app.status(from("203.0.113.9", "GET", "/")).await, 403);
    assert_eq!(app.status(with(get("/tenant"), "x-tenant", "gone")).await, 403);
    assert_eq!(app.status(with(get("/tenant"), "x-tenant", "here")).await, 200);
}

/// Being known by an allowed key, or coming from an allowed network, must not undo a block.
#[tokio::test]
async fn whoever_is_on_both_lists_is_refused() {
    let policy = || {
        let by_key = rule("keys", 9).identify(Source::api_key_header("x-api-key").or(Source::address()));
        Policy::new().rule(by_key).rule(rule("addresses", 9))
    };
    let address = || Identity::address([192, 0, 2, 1].into());
    for (policy, what) in [
        (policy().allow(Identity::api_key("k")).block(address()), "identities"),
        (policy().allow(address()).block(Identity::api_key("k")), "identities, the other way round"),
        (policy().allow_networks(["192.0.2.0/24"]).block(Identity::api_key("k")), "network and identity"),
        (policy().allow(Identity::api_key("k")).block_networks(["192.0.2.0/24"]), "identity and network"),
        (policy().allow_networks(["192.0.2.0/24"]).block_networks(["192.0.2.1"]), "networks"),
    ] {
        assert_eq!(ok(&build(policy).0).status(keyed("k", "/")).await, 403, "{what}");
    }
}

/// A rule that knows nobody must not let somebody pass whom the policy knows.
#[tokio::test]
async fn an_anonymous_client_is_listed_only_as_the_policy_finds_it() {
    let policy = Policy::new()
        .rule(rule("all", 1))
        .rule(rule("keys", 9).identify(Source::bearer()))
        .allow(Identity::anonymous());
    let app = ok(&build(policy).0);
    assert_eq!(app.admits(5, || get("/")).await, 1);
    assert_eq!(app.admits(5, || Request::new(())).await, 5);
}

#[tokio::test]
async fn a_quota_is_a_client_s_or_a_client_s_on_a_route_or_everybody_s() {
    let app_of = |limit: fn(&'static str, Quota) -> Limit| {
        let items = Rule::new("items").route("/items/{id}").route("/users/{id}");
        let rest = Rule::new("rest").limit(limit("l", minute(2)));
        ok(&build(Policy::new().rule(items).rule(rest)).0)
    };
    let (own, on_route, shared) =
        (app_of(Limit::per_client), app_of(Limit::per_client_and_route), app_of(Limit::shared));
    let other = |path: &'static str| move || from("192.0.2.2", "GET", path);

    assert_eq!(own.admits(9, || get("/items/1")).await, 2);
    assert_eq!(own.admits(9, || get("/users/1")).await, 0);
    assert_eq!(own.admits(9, other("/users/1")).await, 2);

    assert_eq!(on_route.admits(9, || get("/items/1")).await, 2);
    assert_eq!(on_route.admits(9, || get("/items/2")).await, 0, "the template counts, not the path");
    assert_eq!(on_route.admits(9, || get("/users/1")).await, 2);
    assert_eq!(on_route.admits(9, || get("/nowhere")).await, 2);
    assert_eq!(on_route.admits(9, || get("/elsewhere")).await, 0, "what has no route shares one");
    assert_eq!(on_route.admits(9, other("/items/1")).await, 2);

    assert_eq!(shared.admits(9, || get("/items/1")).await, 2);
    assert_eq!(shared.admits(9, other("/users/1")).await, 0);
}

#[tokio::test]
async fn head_counts_as_get_unless_a_rule_says_otherwise() {
    let method = |method: &'static str| move || from("192.0.2.1", method, "/");
    let app = ok(&build(Policy::new().rule(rule("reads", 3).method(Method::GET))).0);
    assert_eq!(app.admits(9, method("HEAD")).await, 3);
    assert_eq!(app.admits(9, method("GET")).await, 0);
    assert_eq!(app.admits(9, method("POST")).await, 9);

    let heads = Rule::new("heads").method(Method::HEAD).only();
    let app = ok(&build(Policy::new().rule(heads).rule(rule("reads", 3).method(Method::GET))).0);
    assert_eq!(app.admits(9, method("HEAD")).await, 9);
    assert_eq!(app.admits(9, method("GET")).await, 3);
}
