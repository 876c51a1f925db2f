//! Bans are listed, imposed and lifted over HTTP.

use crate::stage::*;
use serde_json::{Value, json};
use std::{net::Ipv4Addr, time::Duration};
use tidegate::*;

async fn stage() -> Stage {
    let ban = Ban::after(2, Duration::from_secs(60)).lasting(Duration::from_secs(90));
    Stage::of(policy().ban(ban), Clients::new(crate::registry::new()), |admin| admin.key(KEY)).await
}

#[tokio::test]
async fn a_client_is_banned_by_its_id_and_shown_as_banned() {
    let stage = stage().await;
    stage.post("/admin/clients/set", json!({ "client_id": "ann" })).await;
    let key = Stage::expect(stage.ask("POST", "/admin/keys/issue", json!({ "client_id": "ann" })).await, 201);
    let by_key = [("x-api-key", key["api_key"].as_str().unwrap())];
    let by_id = [("x-client-id", "ann")];
    assert_eq!(stage.status("/", &by_key).await, 200);

    let ban = stage.post("/admin/bans/set", json!({ "client_id": "ann", "seconds": 60 })).await;
    let handle = ban["handle"].as_str().unwrap();
    assert!(handle.len() == 32 && ban["client"].as_str().unwrap().starts_with("name#"));
    let shown =
        json!({ "handle": handle, "client": ban["client"], "client_id": "ann", "remaining": 60, "times": 0 });
    assert_eq!(ban, shown);
    assert_eq!((stage.status("/", &by_id).await, stage.status("/", &by_key).await), (403, 403));
    assert_eq!(stage.status("/", &[("x-client-id", "bob")]).await, 200);
    assert_eq!(stage.get("/admin/bans").await, json!({ "bans": [shown], "count": 1 }));

    stage.clock.advance(Duration::from_millis(500));
    let usage = stage.get("/admin/clients/usage?client_id=ann").await;
    assert_eq!((&usage["banned"]["remaining"], &usage["limits"][0]["used"]), (&json!(60), &json!(1)));
    assert_eq!(stage.get("/admin/clients/usage?client_id=bob").await["banned"], Value::Null);
    let own = stage.send(None, "GET", "/v1/rate-limit", &by_key, "").await;
    own.is_problem(403, None);
    assert_eq!(own.headers["retry-after"], "60");
    let told = stage.send(None, "GET", "/v1/rate-limit?client_id=ann", &[("x-admin-key", KEY)], "").await;
    assert_eq!(told.status, 200, "admins are told all the same");
    assert!(stage.post("/admin/clients/reset?client_id=ann", Value::Null).await["banned"].is_object());

    stage.delete("/admin/clients/delete?client_id=ann").await;
    stage.post("/admin/clients/set", json!({ "client_id": "ann", "tier": "premium" })).await;
    assert_eq!(stage.status("/", &by_id).await, 403);
    let longer = Stage::expect(
        stage.ask("PUT", "/admin/bans/set", json!({ "client_id": "ann", "seconds": 600 })).await,
        200,
    );
    assert_eq!(longer["remaining"], 600);
    stage.delete("/admin/bans/delete?client_id=ann").await;
    assert_eq!(stage.status("/", &by_id).await, 200);
    assert_eq!(stage.get("/admin/bans").await["count"], 0);
}

#[tokio::test]
async fn who_was_refused_too_often_is_listed_with_its_id_and_let_in_by_the_handle() {
    let stage = stage().await;
    stage
        .post("/admin/clients/set", json!({ "client_id": "ann", "rate_limit": { "requests_per_min": 1 } }))
        .await;
    assert_eq!(stage.admits("ann", 5).await, 1);
    let bans = stage.get("/admin/bans").await["bans"].clone();
    assert_eq!(
        (&bans[0]["client_id"], &bans[0]["times"], &bans[0]["remaining"]),
        (&json!("ann"), &json!(1), &json!(90))
    );
    stage.delete(&format!("/admin/bans/delete?handle={}", bans[0]["handle"].as_str().unwrap())).await;
    assert_eq!(stage.status("/", &[("x-client-id", "ann")]).await, 429, "what it owes it owes");
}

#[tokio::test]
async fn addresses_keys_and_headers_are_banned_too() {
    let stage = stage().await;
    if cfg!(target_os = "linux") {
        let other = Some(Ipv4Addr::new(127, 0, 0, 2).into());
        stage.post("/admin/bans/set", json!({ "address": "::ffff:127.0.0.2", "seconds": 60 })).await;
        assert_eq!(stage.send(other, "GET", "/", &[], "").await.status, 403);
        assert_eq!(stage.status("/", &[]).await, 200);
        stage.delete("/admin/bans/delete?address=127.0.0.2").await;
        assert_eq!(stage.send(other, "GET", "/", &[], "").await.status, 200);
    }
    stage.post("/admin/bans/set", json!({ "api_key": "leaked", "seconds": 60 })).await;
    let header = json!({ "name": "X-Client-Id", "value": "eve" });
    stage.post("/admin/bans/set", json!({ "header": header, "seconds": 70 })).await;
    assert_eq!(stage.status("/", &[("x-api-key", "leaked")]).await, 403);
    assert_eq!(stage.status("/", &[("x-client-id", "eve")]).await, 403);
    let listed = stage.get("/admin/bans").await;
    assert_eq!((&listed["count"], &listed["bans"][0]["client_id"]), (&json!(2), &Value::Null));
    assert!(!listed.to_string().contains("leaked"));
    for ban in listed["bans"].as_array().unwrap() {
        stage.delete(&format!("/admin/bans/delete?handle={}", ban["handle"].as_str().unwrap())).await;
    }
    assert_eq!(stage.status("/", &[("x-client-id", "eve")]).await, 200);
}

#[tokio::test]
async fn what_is_wrong_is_told_and_each_change_is_an_audit_event() {
    let stage = stage().await;
    for (body, field) in [
        (json!({ "seconds": 60 }), "client_id"),
        (json!({ "client_id": "ann", "address": "192.0.2.1", "seconds": 60 }), "client_id"),
        (json!({ "client_id": "a b", "seconds": 60 }), "client_id"),
        (json!({ "client_id": "ann" }), "seconds"),
        (json!({ "client_id": "ann", "seconds": 0 }), "seconds"),
        (json!({ "client_id": "ann", "seconds": -1 }), "seconds"),
        (json!({ "client_id": "ann", "seconds": 3_153_600_001u64 }), "seconds"),
        (json!({ "client_id": "ann", "seconds": 60, "why": "" }), "why"),
        (json!({ "address": "10.0.0.0/8", "seconds": 60 }), "address"),
        (json!({ "api_key": "", "seconds": 60 }), "api_key"),
        (json!({ "header": { "name": "a b", "value": "x" }, "seconds": 60 }), "header"),
        (json!({ "header": { "name": "a" }, "seconds": 60 }), "header"),
    ] {
        stage.ask("POST", "/admin/bans/set", body).await.is_problem(400, Some(field));
    }
    for (query, field) in [
        ("", "client_id"),
        ("?client_id=ann&address=192.0.2.1", "client_id"),
        ("?handle=+0000000000000000000000000000000", "handle"),
        ("?handle=12", "handle"),
        ("?address=x", "address"),
    ] {
        let path = format!("/admin/bans/delete{query}");
        stage.ask("DELETE", &path, Value::Null).await.is_problem(400, Some(field));
    }
    assert!(stage.audit.lock().unwrap().is_empty());
    stage.post("/admin/bans/set", json!({ "client_id": "ann", "seconds": 3_153_600_000u64 })).await;
    stage.post("/admin/bans/set", json!({ "client_id": "ann", "seconds": 60 })).await;
    stage.delete("/admin/bans/delete?client_id=ann").await;
    stage.delete("/admin/bans/delete?client_id=ann").await;
    let audit = stage.audit.lock().unwrap().clone();
    assert_eq!(audit.len(), 3, "{audit:?}");
    assert!(audit[0].contains(" set ban Some(\"ann\") None Some("));
    assert!(audit[1].contains("\\\"remaining\\\":60") && !audit[1].contains(" None "), "{}", audit[1]);
    assert!(audit[2].contains(" delete ban Some(\"ann\") Some(") && audit[2].ends_with("None"));

    let without = Stage::new().await;
    without
        .ask("POST", "/admin/bans/set", json!({ "client_id": "ann", "seconds": 60 }))
        .await
        .is_problem(409, None);
    assert_eq!(without.get("/admin/bans").await, json!({ "bans": [], "count": 0 }));
    let get = without.ask("GET", "/admin/bans/set", Value::Null).await;
    get.is_problem(405, None);
    assert_eq!(get.headers["allow"], "POST, PUT");
}
