//! A path's disguises count against the path's own limit, in an axum `Router` and in a service that routes by itself.
#![allow(clippy::unwrap_used)]

use axum::{
    Router,
    body::Body,
    routing::{any, get},
};
use futures_util::FutureExt;
use http::{Method, Request, Response};
use std::{convert::Infallible, future};
use tidegate::{Limit, Limiter, ManualClock, Policy, Quota, Rule, ThrottleLayer};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneService};

/// The status of an answer is all that matters here.
type App = BoxCloneService<Request<Body>, u16, Infallible>;

fn in_axum(layer: ThrottleLayer) -> App {
    let ok = || async { "" };
    let router = Router::new()
        .route("/", get(ok))
        .route("/login", get(ok).post(ok))
        .route("/users/{id}", get(ok))
        .route("/static/{*rest}", any(ok));
    statuses(router.layer(layer))
}

fn bare(layer: ThrottleLayer) -> App {
    statuses(layer.layer(service_fn(|_| future::ready(Ok::<_, Infallible>(Response::new(String::new()))))))
}

fn statuses<S, B>(service: S) -> App
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    service.map_response(|response: Response<B>| response.status().as_u16()).boxed_clone()
}

/// Both kinds of app, each with a limiter of its own.
fn apps(policy: &Policy) -> [(&'static str, App); 2] {
    let layer = || Limiter::builder(policy.clone()).clock(ManualClock::new()).build().unwrap().layer();
    [("axum", in_axum(layer())), ("bare", bare(layer()))]
}

fn ask(app: &App, method: &Method, uri: &str) -> u16 {
    let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
    app.clone().oneshot(request).now_or_never().unwrap().unwrap()
}

fn passes(app: &App, uri: &str) -> bool {
    ask(app, &Method::GET, uri) != 429
}

fn three_logins() -> Policy {
    let login = Rule::new("login").route("/login").method(Method::GET).method(Method::POST);
    Policy::new().rule(login.limit(Limit::per_client("login", Quota::per_minute(3))))
}

const DISGUISES: [&str; 28] = [
    "/login",
    "/login?next=/",
    "http://example.com/login",
    "http://example.com//login",
    "//login",
    "/./login",
    "/.//login",
    "/%2e/login",
    "/%2E/login",
    "/%6cogin",
    "/%6C%6F%67%69%6E",
    "/login/",
    "/login//",
    "/login/.",
    "/login/x/..",
    "/login;x=1",
    "/login;x=1/",
    "/;x=1/login",
    "/a/../login",
    "/a/%2e%2e/login",
    "/a/..%2flogin",
    "/a/..%5clogin",
    "/a/..;/login",
    "/../login",
    "/login%2F",
    "/login%2f.",
    "/%2Flogin",
    "/%5clogin",
];

#[test]
fn every_disguise_counts_as_the_path_itself() {
    for disguise in DISGUISES {
        for method in [Method::GET, Method::POST, Method::HEAD] {
            for (name, app) in apps(&three_logins()) {
                let what = format!("{method} {disguise} in {name}");
                assert!(passes(&app, "/login"));
                assert_ne!(ask(&app, &method, disguise), 429, "{what}");
                assert_ne!(ask(&app, &method, disguise), 429, "{what}");
                assert!(!passes(&app, "/login"), "{what} was not counted");
                assert_eq!(ask(&app, &method, disguise), 429, "{what}");
            }
        }
    }
}

#[test]
fn changing_disguises_gains_nothing() {
    for (name, app) in apps(&three_logins()) {
        assert_eq!(DISGUISES.iter().rev().filter(|disguise| passes(&app, disguise)).count(), 3, "{name}");
    }
}

#[test]
fn other_paths_and_methods_are_left_alone() {
    for (name, app) in apps(&three_logins()) {
        for other in
            ["/", "/login.json", "/LOGIN", "/logi", "/login/x", "/%256cogin", "/login%00", "/users/login"]
        {
            for _ in 0..4 {
                assert!(passes(&app, other), "{other} in {name}");
            }
        }
        for _ in 0..4 {
            assert_ne!(ask(&app, &Method::DELETE, "/login"), 429, "{name}");
        }
        assert!(passes(&app, "/login"), "{name}");
    }
}

#[test]
fn head_counts_as_get_unless_a_rule_says_otherwise() {
    let by = |name: &str, method| {
        Rule::new(name).method(method).limit(Limit::per_client(name, Quota::per_minute(1)))
    };
    for (_, app) in apps(&Policy::new().rule(by("get", Method::GET))) {
        assert_eq!(ask(&app, &Method::HEAD, "/"), 200);
        assert_eq!(ask(&app, &Method::GET, "/"), 429);
    }
    for (_, app) in apps(&Policy::new().rule(by("head", Method::HEAD).only()).rule(by("get", Method::GET))) {
        assert_eq!([ask(&app, &Method::HEAD, "/"), ask(&app, &Method::GET, "/")], [200, 200]);
        assert_eq!([ask(&app, &Method::HEAD, "/"), ask(&app, &Method::GET, "/")], [429, 429]);
    }
}

fn two_on_each_route() -> Rule {
    Rule::new("routes").limit(Limit::per_client_and_route("routes", Quota::per_minute(2)))
}

#[test]
fn keys_hold_templates_and_never_paths() {
    let named = Rule::new("users").route("/users/{id}");
    for (name, app) in apps(&Policy::new().rule(two_on_each_route()).rule(named)) {
        for paths in [["/users/1", "/users/2", "/users/3"], ["/x", "/y/z", "/%7a"]] {
            assert_eq!(paths.map(|path| passes(&app, path)), [true, true, false], "{paths:?} in {name}");
        }
        assert!(
            ["//users/4", "/users/%35", "/users/6;x", "/none"].iter().all(|path| !passes(&app, path)),
            "{name}"
        );
    }
}

/// Else a client had as many quotas for one route as there are routes that its path could be taken for.
#[test]
fn an_ambiguous_path_counts_on_every_route_that_it_may_be() {
    let both = two_on_each_route().route("/users/{id}").route("/{*rest}");
    let named = [Rule::new("users").route("/users/{id}"), Rule::new("rest").route("/{*rest}")];
    let [users, rest] = named;
    for policy in [Policy::new().rule(both), Policy::new().rule(two_on_each_route()).rule(users).rule(rest)] {
        let limiter = Limiter::builder(policy).clock(ManualClock::new()).build().unwrap();
        let app = bare(limiter.layer());
        let paths = ["/users/1", "/x/../users/1", "/y/../users/2", "/users/1", "/other", "/other"];
        assert_eq!(paths.map(|path| passes(&app, path)), [true, true, false, false, true, false]);
    }
}

/// A policy without a single pattern goes by the routes of the app.
#[cfg(feature = "axum")]
#[test]
fn keys_hold_the_templates_that_axum_matched() {
    let [(_, app), _] = apps(&Policy::new().rule(two_on_each_route()));
    for paths in [
        ["/users/1", "/users/2", "/users/3"],
        ["/static/a", "/static/b/c", "/static/d"],
        ["/x", "//users/1", "/login/"],
    ] {
        assert_eq!(paths.map(|path| passes(&app, path)), [true, true, false], "{paths:?}");
    }
    assert_eq!(["/", "/", "/"].map(|path| passes(&app, path)), [true, true, false]);
}

#[test]
fn a_rule_that_ends_the_search_is_no_way_around_another() {
    let free = Rule::new("static").route("/static/{*rest}").only();
    let login = Rule::new("login").route("/login").limit(Limit::per_client("login", Quota::per_minute(1)));
    for (name, app) in apps(&Policy::new().rule(free).rule(login)) {
        assert!(
            (0..3).all(|_| passes(&app, "/static/login") && passes(&app, "/static/a/../app.js")),
            "{name}"
        );
        assert!(passes(&app, "/login"));
        for path in [
            "/static/../login",
            "/static/%2e%2e/login",
            "/static/..%2flogin",
            "/static/..%5clogin",
            "/static/..;/login",
            "/static;x/../login",
            "/static//../login",
            "/%73tatic/../login",
            "/static/a/../../login",
            "/login/../static/../login",
        ] {
            assert!(!passes(&app, path), "{path} in {name}");
        }
    }
}
