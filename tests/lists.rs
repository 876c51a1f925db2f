//! Allow and block lists come before all rules, and whoever is on both is refused.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use std::convert::Infallible;
use tidegate::{Identity, Limit, Limiter, PeerAddr, Policy, Quota, Rule, Source};
use tower::{Layer, ServiceExt, service_fn};

async fn status(policy: Policy, path: &str) -> StatusCode {
    let hello =
        service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())));
    let mut request = Request::get(path).header("x-api-key", "eve").body(()).unwrap();
    request.extensions_mut().insert(PeerAddr("10.0.0.1:1".parse().unwrap()));
    Limiter::new(policy).unwrap().layer().layer(hello).oneshot(request).await.unwrap().status()
}

fn login_by(source: Source) -> Rule {
    Rule::new("login")
        .route("/login")
        .identify(source)
        .limit(Limit::per_client("login", Quota::per_minute(5)))
}

#[tokio::test]
async fn a_blocked_client_is_refused_where_no_limit_applies_too() {
    let key = || Source::api_key_header("x-api-key");
    let policy = Policy::new().identify(key()).rule(login_by(key())).block(Identity::api_key("eve"));
    for path in ["/login", "/"] {
        assert_eq!(status(policy.clone(), path).await, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn whoever_is_on_both_lists_is_refused() {
    let key = || Source::api_key_header("x-api-key");
    let blocked = Policy::new().rule(login_by(key())).block(Identity::api_key("eve"));
    let both = blocked.clone().allow_networks(["10.0.0.0/8"]);
    assert_eq!(status(both, "/login").await, StatusCode::FORBIDDEN);
    let both = blocked.allow(Identity::address([10, 0, 0, 1].into()));
    assert_eq!(status(both, "/login").await, StatusCode::FORBIDDEN);
    let both = Policy::new().allow(Identity::address([10, 0, 0, 1].into())).block_networks(["10.0.0.1"]);
    assert_eq!(status(both.rule(login_by(Source::address())), "/login").await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_block_list_does_not_ask_for_credentials() {
    let policy = Policy::new()
        .identify(Source::bearer().or_refuse())
        .rule(login_by(Source::address()))
        .block(Identity::api_key("mallory"));
    assert_eq!(status(policy, "/").await, StatusCode::OK);
}
