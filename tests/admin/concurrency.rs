//! Limits on how many requests run at once.

use crate::stage::KEY;
use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use std::{net::Ipv4Addr, time::Duration};
use tidegate::*;
use tower::ServiceExt;

async fn ask(admin: &Admin, method: &str, path: &str, body: Value) -> (u16, Value) {
    let peer = PeerAddr((Ipv4Addr::LOCALHOST, 1234).into());
    let request = Request::builder().method(method).uri(path).extension(peer).header("x-admin-key", KEY);
    let answer = admin.router().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn they_are_shown_changed_and_told_of_each_client() {
    let own = Concurrency::per_client("own", 7).granted().wait(4, Duration::from_secs(9));
    let policy = Policy::new().identify(Source::header("x-client-id").registered()).rule(
        Rule::new("jobs")
            .concurrency(own)
            .concurrency(Concurrency::per_client_and_route("each", 6))
            .concurrency(Concurrency::shared("all", 5)),
    );
    let clients = Clients::new(crate::registry::new());
    let limiter = Limiter::builder(policy).clients(clients).timer(tokio::time::sleep).build().unwrap();
    let admin = Admin::builder(&limiter).key(KEY).build().unwrap();
    limiter.clients().unwrap().set("ann", ClientPatch::new().tier("default")).await.unwrap();
    limiter.clients().unwrap().set("bob", ClientPatch::new()).await.unwrap();

    let view = |limit, max: u32, counted_for, granted, queue: u32| {
        json!({
            "rule": "jobs", "limit": limit, "max": max, "counted_for": counted_for, "granted": granted,
            "queue": queue,
        })
    };
    let shown = json!([
        view("own", 7, "client", true, 4),
        view("each", 6, "client_and_route", false, 0),
        view("all", 5, "shared", false, 0),
    ]);
    assert_eq!(ask(&admin, "GET", "/admin/limits", Value::Null).await.1["concurrency"], shown);
    let policy = ask(&admin, "GET", "/admin/policy", Value::Null).await.1;
    assert_eq!(policy["rules"][0]["concurrency"], shown);

    let set = async |body: Value| ask(&admin, "PUT", "/admin/concurrency/set", body).await;
    let changed = set(json!({ "limit": "all", "max": 3 })).await;
    assert_eq!(changed, (200, json!({ "limit": "all", "old": 5, "new": 3 })));
    for (body, status, field) in [
        (json!({ "limit": "all" }), 400, json!("max")),
        (json!({ "limit": "all", "max": 0 }), 400, json!("max")),
        (json!({ "limit": "all", "max": 1.5 }), 400, json!("max")),
        (json!({ "limit": "all", "max": 1_u64 << 32 }), 400, json!("max")),
        (json!({ "max": 1 }), 400, json!("limit")),
        (json!({ "limit": "all", "max": 1, "queue": 2 }), 400, json!("queue")),
        (json!({ "limit": "none", "max": 1 }), 404, Value::Null),
    ] {
        let (answered, problem) = set(body.clone()).await;
        assert_eq!((answered, &problem["field"]), (status, &field), "{body}");
    }

    let (ann, bob) = (limiter.client(&Identity::name("ann")), limiter.client(&Identity::name("bob")));
    let held = [ann.hold("jobs").await.unwrap(), ann.hold("jobs").route("/a").await.unwrap()];
    let other = bob.hold("jobs").await.unwrap();
    assert!(held.iter().chain([&other]).all(|hold| hold.is_allowed()));
    let used = |limit, max: u32, used: u32| {
        let remaining = max.saturating_sub(used);
        json!({ "rule": "jobs", "limit": limit, "max": max, "used": used, "remaining": remaining, "shadow": false })
    };
    let usage = async |query: &str| {
        let path = format!("/admin/clients/usage?client_id=ann{query}");
        ask(&admin, "GET", &path, Value::Null).await.1["concurrency"].clone()
    };
    assert_eq!(usage("").await, json!([used("own", 3, 2), used("all", 3, 3)]));
    let on_route = usage("&route=/a").await;
    assert_eq!(on_route, json!([used("own", 3, 2), used("each", 6, 1), used("all", 3, 3)]));
    drop((held, other));
    assert_eq!(usage("").await, json!([used("own", 3, 0), used("all", 3, 0)]));
    assert_eq!(limiter.in_flight(), 0, "to look takes nothing");
}
