//! Beyond the contract: usage, reset, grants, keys, limits, the policy, and what clients see themselves.

use crate::stage::*;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn usage_is_told_and_forgiven() {
    let stage = Stage::new().await;
    stage.post("/admin/clients/set", json!({ "client_id": "ann", "tier": "free" })).await;
    assert_eq!(stage.admits("ann", 4).await, 4);
    for _ in 0..3 {
        stage.send(None, "GET", "/exports/7", &[("x-client-id", "ann")], "").await;
    }
    let usage = stage.get("/admin/clients/usage?client_id=ann").await;
    let expected = json!({ "client_id": "ann", "limits": [
        { "rule": "api", "limit": "requests", "quota": "10/minute", "used": 4, "remaining": 6, "reset": 24, "shadow": false },
        { "rule": "api", "limit": "all", "quota": "1000/hour", "used": 4, "remaining": 996, "reset": 15, "shadow": false },
    ], "concurrency": [], "banned": null });
    assert_eq!(usage, expected);
    let path = "/admin/clients/usage?client_id=ann&route=/exports/%7Bid%7D";
    let exports = stage.get(path).await["limits"][2].clone();
    assert_eq!((&exports["limit"], &exports["used"]), (&json!("exports"), &json!(3)));

    let reset = stage.post("/admin/clients/reset?client_id=ann", Value::Null).await;
    assert_eq!((&reset["limits"][0]["used"], &reset["limits"][0]["reset"]), (&json!(0), &json!(0)));
    assert_eq!(reset["limits"][1]["used"], 4, "what all share is not forgiven");
    assert_eq!(stage.get(path).await["limits"][2]["used"], 3);
    stage.post("/admin/clients/reset?client_id=ann&route=/exports/%7Bid%7D", Value::Null).await;
    assert_eq!(stage.get(path).await["limits"][2]["used"], 0);
    assert_eq!(stage.admits("ann", 20).await, 10);
    for path in ["/admin/clients/usage", "/admin/clients/reset"] {
        let method = if path.ends_with("usage") { "GET" } else { "POST" };
        stage.ask(method, path, Value::Null).await.is_problem(400, Some("client_id"));
        stage.ask(method, &format!("{path}?client_id=bob"), Value::Null).await.is_problem(404, None);
    }
}

#[tokio::test]
async fn a_grant_ends_by_itself_or_by_an_admin() {
    let stage = Stage::new().await;
    stage.post("/admin/clients/set", json!({ "client_id": "ann", "tier": "free" })).await;
    let grant = json!({ "client_id": "ann", "rate_limit": { "requests_per_min": 30 }, "expires_in": 600 });
    let view = stage.post("/admin/grants/set", grant.clone()).await;
    assert_eq!(view["rate_limit"], json!({ "max_concurrent": 1, "requests_per_min": 30 }));
    let shown = json!({ "rate_limit": { "requests_per_min": 30 }, "expires_at": "2026-01-01T01:10:00.000Z" });
    assert_eq!(view["temporary_grant"], shown);
    assert_eq!(view["own_rate_limit"], Value::Null);
    let got = stage.get("/admin/grants/get?client_id=ann").await;
    assert_eq!(got, json!({ "client_id": "ann", "temporary_grant": shown }));
    assert_eq!(stage.admits("ann", 40).await, 30);
    stage.clock.advance(Duration::from_secs(600));
    assert_eq!(stage.get("/admin/grants/get?client_id=ann").await["temporary_grant"], Value::Null);
    assert_eq!(stage.admits("ann", 20).await, 10);

    let at = json!({ "client_id": "ann", "rate_limit": { "requests_per_min": 30 }, "expires_at": "2026-01-01T02:00:00Z" });
    Stage::expect(stage.ask("PUT", "/admin/grants/set", at).await, 200);
    assert_eq!(stage.admits("ann", 40).await, 20);
    let ended = stage.ask("DELETE", "/admin/grants/delete?client_id=ann", Value::Null).await;
    assert_eq!(ended.status, 204);
    assert_eq!(stage.admits("ann", 5).await, 0);

    for (field, value, named) in [
        ("expires_in", json!(0), "expires_in"),
        ("expires_in", json!("soon"), "expires_in"),
        ("expires_in", Value::Null, "expires_in"),
        ("expires_at", json!("2026-01-01T02:00:00Z"), "expires_in"),
        ("rate_limit", json!({}), "rate_limit"),
        ("rate_limit", Value::Null, "rate_limit"),
        ("rate_limit", json!({ "requests_per_min": 0 }), "rate_limit.requests_per_min"),
        ("rate_limit", json!({ "requests_per_min": null }), "rate_limit.requests_per_min"),
        ("rate_limit", json!({ "limits": {} }), "rate_limit"),
        ("rate_limit", json!({ "limits": { "exports": null } }), "rate_limit.limits.exports"),
        ("expires_in", json!(3_153_600_001u64), "expires_in"),
        ("client_id", Value::Null, "client_id"),
        ("more", json!(1), "more"),
    ] {
        let mut body = grant.clone();
        body[field] = value;
        stage.ask("POST", "/admin/grants/set", body).await.is_problem(400, Some(named));
    }
    let past = json!({ "client_id": "ann", "rate_limit": { "requests_per_min": 3 }, "expires_at": "2025-01-01T00:00:00Z" });
    stage.ask("POST", "/admin/grants/set", past).await.is_problem(400, Some("expires_at"));
    let mut unknown = grant;
    unknown["client_id"] = json!("bob");
    stage.ask("POST", "/admin/grants/set", unknown).await.is_problem(404, None);
    for (method, path) in [("GET", "/admin/grants/get"), ("DELETE", "/admin/grants/delete")] {
        stage.ask(method, path, Value::Null).await.is_problem(400, Some("client_id"));
        stage.ask(method, &format!("{path}?client_id=bob"), Value::Null).await.is_problem(404, None);
    }
}

#[tokio::test]
async fn api_keys_are_issued_rotated_and_revoked() {
    let stage = Stage::new().await;
    stage.post("/admin/clients/set", json!({ "client_id": "ann", "tier": "free" })).await;
    let issue = async |path: &str, body: Value| Stage::expect(stage.ask("POST", path, body).await, 201);
    let first = issue("/admin/keys/issue", json!({ "client_id": "ann" })).await;
    let (secret, prefix) = (first["api_key"].as_str().unwrap(), first["prefix"].as_str().unwrap());
    assert!(secret.starts_with(prefix) && secret.len() > 64);
    let by_key =
        async |secret: &str| stage.send(None, "GET", "/", &[("x-api-key", secret)], "").await.status.as_u16();
    assert_eq!(by_key(secret).await, 200);
    let rotate = json!({ "client_id": "ann", "prefix": prefix, "overlap": 60 });
    let second = issue("/admin/keys/rotate", rotate).await;
    let listed = stage.get("/admin/keys?client_id=ann").await;
    assert_eq!((&listed["client_id"], listed["keys"].as_array().unwrap().len()), (&json!("ann"), 2));
    assert_eq!(listed["keys"][0]["expires_at"], "2026-01-01T01:01:00.000Z");
    assert!(!listed.to_string().contains(secret));
    stage.clock.advance(Duration::from_secs(60));
    assert_eq!((by_key(secret).await, by_key(second["api_key"].as_str().unwrap()).await), (401, 200));
    let revoke = format!("/admin/keys/revoke?client_id=ann&prefix={}", second["prefix"].as_str().unwrap());
    assert_eq!(stage.ask("DELETE", &revoke, Value::Null).await.status, 204);
    assert_eq!(by_key(second["api_key"].as_str().unwrap()).await, 401);
    stage.ask("DELETE", &revoke, Value::Null).await.is_problem(404, None);
    let audit = stage.audit.lock().unwrap().join("\n");
    assert!(!audit.contains(secret) && audit.contains("issue key") && audit.contains(prefix), "{audit}");

    for (path, body, status, field) in [
        ("issue", json!({}), 400, Some("client_id")),
        ("issue", json!({ "client_id": "ann", "x": 1 }), 400, Some("x")),
        ("issue", json!({ "client_id": "bob" }), 404, None),
        ("rotate", json!({ "client_id": "ann" }), 400, Some("prefix")),
        ("rotate", json!({ "client_id": "ann", "prefix": "tg_x" }), 404, None),
        ("rotate", json!({ "client_id": "ann", "prefix": prefix, "overlap": -1 }), 400, Some("overlap")),
        ("rotate", json!({ "client_id": "ann", "prefix": "tg_x", "overlap": null }), 404, None),
    ] {
        stage.ask("POST", &format!("/admin/keys/{path}"), body).await.is_problem(status, field);
    }
    stage.ask("GET", "/admin/keys?client_id=bob", Value::Null).await.is_problem(404, None);
    stage
        .ask("DELETE", "/admin/keys/revoke?client_id=ann", Value::Null)
        .await
        .is_problem(400, Some("prefix"));
}

#[tokio::test]
async fn limits_and_the_policy_are_told_and_changed() {
    let stage = Stage::new().await;
    let limits = stage.get("/admin/limits").await["limits"].clone();
    let all = json!({ "rule": "api", "limit": "all", "quota": "1000/hour", "counted_for": "shared", "granted": false });
    let requests = json!({ "rule": "api", "limit": "requests", "quota": "7/minute", "counted_for": "client", "granted": true });
    assert_eq!((&limits[0], &limits[1]), (&requests, &all));
    assert_eq!(limits[2]["counted_for"], "client_and_route");
    let changed = stage.post("/admin/limits/set", json!({ "limit": "all", "quota": "3/hour" })).await;
    assert_eq!(changed, json!({ "limit": "all", "old": "1000/hour", "new": "3/hour" }));
    assert_eq!(stage.admits("ann", 9).await, 3);
    let policy = stage.get("/admin/policy").await;
    let rule = json!({
        "rule": "exports", "methods": [], "routes": ["/exports/{id}"], "shadow": false, "only": false,
        "by_hand": false, "registered": true, "limits": [limits[2]], "concurrency": [],
    });
    assert_eq!(policy["rules"][1], rule);
    assert_eq!(policy["rules"][0]["limits"][1]["quota"], "3/hour");
    assert_eq!(policy["tiers"]["free"]["requests_per_min"], 10);
    for (body, status, field) in [
        (json!({ "limit": "all" }), 400, Some("quota")),
        (json!({ "quota": "1/s" }), 400, Some("limit")),
        (json!({ "limit": "all", "quota": "lots" }), 400, Some("quota")),
        (json!({ "limit": "all", "quota": "0/s" }), 400, Some("quota")),
        (json!({ "limit": "all", "quota": "1/s", "burst": 2 }), 400, Some("burst")),
        (json!({ "limit": "none", "quota": "1/s" }), 404, None),
    ] {
        stage.ask("POST", "/admin/limits/set", body).await.is_problem(status, field);
    }
}

#[tokio::test]
async fn a_client_sees_its_own_limits_and_is_not_charged_for_it() {
    let stage = Stage::new().await;
    stage.post("/admin/clients/set", json!({ "client_id": "ann", "tier": "free" })).await;
    assert_eq!(stage.admits("ann", 4).await, 4);
    let own = async |query: &str, headers: &[(&str, &str)]| {
        stage.send(None, "GET", &format!("/v1/rate-limit{query}"), headers, "").await
    };
    let ann = ("x-client-id", "ann");
    for _ in 0..3 {
        let answer = Stage::expect(own("", &[ann]).await, 200);
        assert_eq!(answer["client_id"], "ann");
        assert_eq!(answer["rate_limit"], json!({ "max_concurrent": 1, "requests_per_min": 10 }));
        assert_eq!((&answer["current_usage"], &answer["remaining"]), (&json!(4), &json!(6)));
        assert_eq!(answer["limits"][0]["reset"], 24);
    }
    assert_eq!(own("?client_id=ann", &[ann]).await.status, 200);
    own("?client_id=bob", &[ann]).await.is_problem(403, None);
    own("", &[]).await.is_problem(401, None);
    own("?client_id=ann", &[]).await.is_problem(401, None);
    own("", &[("x-client-id", "x")]).await.is_problem(400, None);
    own("", &[("x-api-key", "tg_guess")]).await.is_problem(401, None);
    let admin = ("x-admin-key", KEY);
    assert_eq!(Stage::expect(own("?client_id=ann", &[admin]).await, 200)["current_usage"], 4);
    own("?client_id=bob", &[admin]).await.is_problem(404, None);
    own("?client_id=ann", &[ann, ("x-admin-key", "wrong")]).await.is_problem(401, None);
    assert_eq!(Stage::expect(own("", &[("x-client-id", "new-one")]).await, 200)["remaining"], 50);
    assert_eq!(stage.get("/admin/clients").await["count"], 1, "to ask does not create a client");
    stage.post("/admin/clients/set", json!({ "client_id": "ann", "enabled": false })).await;
    own("", &[ann]).await.is_problem(401, None);
}

#[tokio::test]
async fn each_change_is_an_audit_event() {
    let stage = Stage::new().await;
    stage.post("/admin/clients/set", json!({ "client_id": "ann" })).await;
    stage.post("/admin/clients/set", json!({ "client_id": "ann", "tier": "free" })).await;
    stage.post("/admin/tiers/set", json!({ "tier": "free", "requests_per_min": 3 })).await;
    stage.post("/admin/limits/set", json!({ "limit": "all", "quota": "3/hour" })).await;
    stage.post("/admin/clients/reset?client_id=ann", Value::Null).await;
    stage.ask("DELETE", "/admin/clients/delete?client_id=ann", Value::Null).await;
    stage.ask("DELETE", "/admin/tiers/delete?tier=free", Value::Null).await;
    stage.get("/admin/clients").await;
    let audit = stage.audit.lock().unwrap().clone();
    let actor = audit[0].split(' ').next().unwrap();
    assert!(actor.starts_with("key#") && actor.len() == 12 && !audit.join("").contains(KEY));
    let acts: Vec<_> = audit.iter().map(|line| line.strip_prefix(actor).unwrap()).collect();
    assert!(acts[0].starts_with(" set client Some(\"ann\") None Some("), "{acts:?}");
    assert!(acts[1].contains("default") && acts[1].contains("free"));
    assert!(acts[2].starts_with(" set tier Some(\"free\")"));
    assert!(acts[3].contains("1000/hour") && acts[3].contains("3/hour"));
    assert!(acts[4].starts_with(" reset client Some(\"ann\")"));
    assert!(acts[5].starts_with(" delete client Some(\"ann\")") && acts[5].ends_with("None"));
    assert!(acts[6].starts_with(" delete tier Some(\"free\")") && acts.len() == 7, "reading is no change");
}
