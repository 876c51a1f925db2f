//! Allow and block lists come before all rules, and whoever is on both is refused.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tidegate::{ChargeError, Event, Identity, Limit, Limiter, Lists, PeerAddr, Policy, Quota, Rule, Source};
use tower::{Layer, ServiceExt, service_fn};

async fn status(policy: Policy, path: &str) -> StatusCode {
    status_by(&Limiter::new(policy).unwrap(), path).await
}

async fn status_by(limiter: &Limiter, path: &str) -> StatusCode {
    let hello =
        service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())));
    let mut request = Request::get(path).header("x-api-key", "eve").body(()).unwrap();
    request.extensions_mut().insert(PeerAddr("10.0.0.1:1".parse().unwrap()));
    limiter.layer().layer(hello).oneshot(request).await.unwrap().status()
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

#[tokio::test]
async fn lists_change_while_requests_come() {
    let (told, seen) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let log = told.clone();
    let policy = Policy::per_client(Quota::per_hour(1)).rule(login_by(Source::api_key_header("x-api-key")));
    let limiter = Limiter::builder(policy).observe(move |event: &Event<'_>| {
        if let Event::ListChanged { list, old, new } = event {
            log.lock().unwrap().push(format!("{list} {old} {new}"));
        }
    });
    let limiter = limiter.build().unwrap();
    let see = async || {
        let statuses =
            [status_by(&limiter, "/login").await.as_u16(), status_by(&limiter, "/login").await.as_u16()];
        seen.lock().unwrap().push(statuses);
    };
    see().await;
    let friends = Lists::new().allow_networks(["10.0.0.0/8"]).allow_networks(["192.0.2.0/24"]);
    limiter.add_to_lists(&friends).unwrap();
    see().await;
    let eve = || Lists::new().block(Identity::api_key("eve"));
    limiter.add_to_lists(&eve()).unwrap();
    see().await;
    let charge = limiter.charge(&Identity::api_key("eve"), "client").await;
    assert!(matches!(charge, Err(ChargeError::Blocked)));
    let entries: Vec<_> = limiter.lists().iter().map(|entry| (entry.is_block(), entry.network())).collect();
    assert_eq!(
        entries,
        [(false, Some("10.0.0.0/8".into())), (false, Some("192.0.2.0/24".into())), (true, None)]
    );
    let key = limiter.lists()[2].key().unwrap();
    assert!(!limiter.remove_listed(key, false) && limiter.remove_listed(key, true));
    see().await;
    assert_eq!(limiter.remove_from_lists(&eve()), Ok(0));
    assert_eq!(limiter.remove_from_lists(&friends), Ok(2));
    see().await;
    assert_eq!(*seen.lock().unwrap(), [[200, 429], [200, 200], [403, 403], [200, 200], [429, 429]]);
    let told = told.lock().unwrap();
    assert_eq!(*told, ["allow list 0 2", "block list 0 1", "block list 1 0", "allow list 2 0"]);
}

/// An address that is an identity counts by whatever its client is known, and is told as an identity.
#[tokio::test]
async fn an_address_is_put_on_a_list_and_taken_off_as_an_identity() {
    let limiter = Limiter::new(Policy::new().rule(login_by(Source::api_key_header("x-api-key")))).unwrap();
    let address = Lists::new().block(Identity::address([10, 0, 0, 1].into()));
    limiter.add_to_lists(&address).unwrap();
    assert_eq!(status_by(&limiter, "/").await, StatusCode::FORBIDDEN);
    assert_eq!(limiter.remove_from_lists(&Lists::new().block_networks(["10.0.0.1"])), Ok(0));
    assert_eq!(limiter.remove_from_lists(&address), Ok(1));
    assert_eq!(status_by(&limiter, "/").await, StatusCode::OK);
}

#[test]
fn a_change_with_mistakes_changes_nothing_and_tells_all_of_them() {
    let limiter = Limiter::new(Policy::new()).unwrap();
    let lists = Lists::new().allow_networks(["10.0.0.0/99", "10.0.0.0/8"]).block_networks(["localhost"]);
    for error in [limiter.add_to_lists(&lists).unwrap_err(), limiter.remove_from_lists(&lists).unwrap_err()] {
        let text = error.to_string();
        assert!(error.mistakes().len() == 2 && text.contains("allow list: \"10.0.0.0/99\""), "{text}");
    }
    assert!(limiter.lists().is_empty());
    let many = (0..100_001u32).map(|number| std::net::Ipv4Addr::from(number).to_string());
    let error = limiter.add_to_lists(&Lists::new().block_networks(many)).unwrap_err().to_string();
    assert!(error.contains("100001 entries are too many"), "{error}");
}
