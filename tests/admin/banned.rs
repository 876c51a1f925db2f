//! Clients who are banned or on a list.

use crate::stage::*;
use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use std::{net::Ipv4Addr, time::Duration};
use tidegate::*;
use tower::ServiceExt;

#[tokio::test]
async fn an_operator_sees_and_forgives_whoever_is_banned_or_on_a_list() {
    let policy = policy().ban(Ban::by_hand()).block(Identity::name("bob")).allow(Identity::name("cid"));
    let limiter = Limiter::builder(policy).clients(Clients::new(crate::registry::new())).build().unwrap();
    let clients = limiter.clients().unwrap();
    for id in ["ann", "bob", "cid"] {
        clients.set(id, ClientPatch::new()).await.unwrap();
    }
    limiter.charge(&Identity::name("ann"), "api").await.unwrap();
    limiter.ban(&Identity::name("ann"), Duration::from_secs(60)).unwrap();
    let admin = Admin::builder(&limiter).key(KEY).build().unwrap();
    let app = admin.router().merge(admin.self_service());
    let ask = async |method: &str, path: &str, name: &str, value: &str| {
        let peer = PeerAddr((Ipv4Addr::LOCALHOST, 1234).into());
        let request = Request::builder().method(method).uri(path).extension(peer).header(name, value);
        app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    };
    for id in ["ann", "bob", "cid"] {
        for (method, path) in [
            ("GET", format!("/v1/rate-limit?client_id={id}")),
            ("GET", format!("/admin/clients/usage?client_id={id}")),
            ("POST", format!("/admin/clients/reset?client_id={id}")),
        ] {
            let answer = ask(method, &path, "x-admin-key", KEY).await;
            assert_eq!(answer.status(), 200, "{path}");
            let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
            let limits = serde_json::from_slice::<Value>(&body).unwrap()["limits"].clone();
            let used = u64::from(id == "ann" && method == "GET");
            assert_eq!(
                (&limits[0]["limit"], &limits[0]["used"]),
                (&json!("requests"), &json!(used)),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn whoever_is_banned_is_told_so() {
    let source = Source::extension(|name: &&'static str| Identity::name(*name)).registered();
    let policy = Policy::new()
        .identify(source)
        .ban(Ban::by_hand())
        .rule(Rule::new("api").limit(Limit::per_client("requests", Quota::per_minute(7)).granted()));
    let limiter = Limiter::builder(policy).clients(Clients::new(crate::registry::new())).build().unwrap();
    limiter.ban(&Identity::name("ann"), Duration::from_secs(60)).unwrap();
    let app = Admin::builder(&limiter).key(KEY).build().unwrap().self_service();
    let request = Request::builder().uri("/v1/rate-limit").extension("ann").body(Body::empty()).unwrap();
    let answer = app.oneshot(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (403, &"60".parse().unwrap()));
}
