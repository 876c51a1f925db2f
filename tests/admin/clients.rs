//! The contract: clients and tiers.

use crate::stage::*;
use serde_json::{Value, json};
use std::time::Duration;
use tidegate::*;

#[tokio::test]
async fn a_client_is_set_got_listed_and_deleted() {
    let stage = Stage::new().await;
    let start = "2026-01-01T01:00:00.000Z";
    let created = stage
        .post(
            "/admin/clients/set",
            json!({ "client_id": "premium-customer-456", "tier": "premium", "enabled": true }),
        )
        .await;
    let expected = json!({
        "client_id": "premium-customer-456",
        "tier": "premium",
        "rate_limit": { "max_concurrent": 20, "requests_per_min": 1000 },
        "own_rate_limit": null,
        "allowed_queues": null,
        "enabled": true,
        "created_at": start,
        "updated_at": start,
    });
    assert_eq!(created, expected);
    assert_eq!(stage.get("/admin/clients/get?client_id=premium-customer-456").await, expected);

    stage.clock.advance(Duration::from_secs(60));
    let custom = json!({
        "client_id": "custom-client-789",
        "tier": "custom",
        "rate_limit": { "max_concurrent": 15, "requests_per_min": 500 },
        "allowed_queues": ["default", "critical"],
        "webhook_url": "https://example.com/hook",
    });
    let custom = Stage::expect(stage.ask("PUT", "/admin/clients/set", custom).await, 200);
    assert_eq!(custom["rate_limit"], json!({ "max_concurrent": 15, "requests_per_min": 500 }));
    assert_eq!(custom["own_rate_limit"], custom["rate_limit"]);
    assert_eq!(custom["allowed_queues"], json!(["default", "critical"]));
    assert_eq!(
        (&custom["enabled"], &custom["webhook_url"]),
        (&json!(true), &json!("https://example.com/hook"))
    );

    let list = stage.get("/admin/clients").await;
    assert_eq!((&list["count"], &list["next"]), (&json!(2), &Value::Null));
    assert_eq!(list["clients"], json!([custom, expected]));

    for _ in 0..2 {
        let gone =
            stage.ask("DELETE", "/admin/clients/delete?client_id=custom-client-789", Value::Null).await;
        assert_eq!((gone.status.as_u16(), &*gone.text), (204, ""), "also when there is none");
    }
    stage
        .ask("GET", "/admin/clients/get?client_id=custom-client-789", Value::Null)
        .await
        .is_problem(404, None);
    assert_eq!(stage.get("/admin/clients").await["count"], 1);
}

#[tokio::test]
async fn a_field_left_out_keeps_its_value() {
    let stage = Stage::new().await;
    let set = async |patch: Value| stage.post("/admin/clients/set", patch).await;
    let own = json!({ "requests_per_min": 5 });
    set(json!({ "client_id": "ann", "tier": "basic", "allowed_queues": [], "rate_limit": own })).await;
    let off = set(json!({ "client_id": "ann", "enabled": false })).await;
    assert_eq!((&off["enabled"], &off["tier"]), (&json!(false), &json!("basic")));
    assert_eq!((&off["allowed_queues"], &off["own_rate_limit"]), (&json!([]), &own));
    stage.clock.advance(Duration::from_secs(1));
    let still = set(json!({ "client_id": "ann", "tier": "premium" })).await;
    assert_eq!((&still["enabled"], &still["rate_limit"]["max_concurrent"]), (&json!(false), &json!(20)));
    assert_eq!(still["rate_limit"]["requests_per_min"], 5);
    assert_eq!(still["created_at"], off["created_at"]);
    assert_ne!(still["updated_at"], off["updated_at"]);
    let none = set(json!({ "client_id": "ann", "rate_limit": null })).await;
    assert_eq!(
        (&none["own_rate_limit"], &none["rate_limit"]["requests_per_min"]),
        (&Value::Null, &json!(1000))
    );
    let bare = set(json!({ "client_id": "bob" })).await;
    assert_eq!((&bare["tier"], &bare["enabled"]), (&json!("default"), &json!(true)));
    // What was answered can be sent back.
    set(bare).await;
}

/// To JSON both are the same number, and some languages write it so.
#[tokio::test]
async fn whole_numbers_may_be_written_with_a_point() {
    let stage = Stage::new().await;
    let limits = json!({ "requests_per_min": 5.0, "max_concurrent": 2.0 });
    let set = stage.post("/admin/clients/set", json!({ "client_id": "ann", "rate_limit": limits })).await;
    assert_eq!(set["rate_limit"], json!({ "requests_per_min": 5, "max_concurrent": 2 }));
    let grant = json!({ "client_id": "ann", "rate_limit": limits, "expires_in": 60.0 });
    stage.post("/admin/grants/set", grant).await;
    for number in [json!(5.5), json!(-5.0), json!(1e300), json!("5"), json!(true)] {
        let body = json!({ "client_id": "ann", "rate_limit": { "requests_per_min": number } });
        let answer = stage.ask("POST", "/admin/clients/set", body).await;
        answer.is_problem(400, Some("rate_limit.requests_per_min"));
    }
}

#[tokio::test]
async fn names_of_resources_are_counted_in_characters() {
    let stage = Stage::new().await;
    let set = async |name: String| {
        stage.ask("POST", "/admin/clients/set", json!({ "client_id": "ann", "allowed_queues": [name] })).await
    };
    assert_eq!(set("\u{4e00}".repeat(256)).await.status, 200);
    for name in [String::new(), "x".repeat(257)] {
        set(name).await.is_problem(400, Some("allowed_queues"));
    }
}

#[tokio::test]
async fn what_is_not_accepted_names_its_field() {
    let stage = Stage::new().await;
    for (body, field) in [
        ("", "body"),
        ("{", "body"),
        ("[]", "body"),
        ("{}", "client_id"),
        (r#"{"client_id":""}"#, "client_id"),
        (r#"{"client_id":7}"#, "client_id"),
        (r#"{"client_id":"a b"}"#, "client_id"),
        (r#"{"client_id":"ann","tier":"gold"}"#, "tier"),
        (r#"{"client_id":"ann","rate_limit":{"requests_per_min":0}}"#, "rate_limit.requests_per_min"),
        (r#"{"client_id":"ann","rate_limit":{"max_concurrent":-1}}"#, "rate_limit.max_concurrent"),
        (r#"{"client_id":"ann","allowed_queues":"all"}"#, "allowed_queues"),
        (r#"{"client_id":"ann","enabled":"no"}"#, "enabled"),
        (r#"{"client_id":"ann","webhook_url":"x"}"#, "webhook_url"),
        (r#"{"client_id":"ann","teir":"free"}"#, "teir"),
    ] {
        let answer = stage.send(None, "POST", "/admin/clients/set", &[("x-admin-key", KEY)], body).await;
        answer.is_problem(400, Some(field));
    }
    for path in
        ["/admin/clients/get", "/admin/clients/get?client_id=", "/admin/clients/get?client_id=a&client_id=b"]
    {
        stage.ask("GET", path, Value::Null).await.is_problem(400, Some("client_id"));
    }
    stage.ask("DELETE", "/admin/clients/delete", Value::Null).await.is_problem(400, Some("client_id"));
    for limit in ["0", "1001", "-1", "x", "%2B1"] {
        let path = format!("/admin/clients?limit={limit}");
        stage.ask("GET", &path, Value::Null).await.is_problem(400, Some("limit"));
    }
    let long = format!(r#"{{"client_id":"ann","tier":"{}"}}"#, "x".repeat(300 << 10));
    stage
        .send(None, "POST", "/admin/clients/set", &[("x-admin-key", KEY)], &long)
        .await
        .is_problem(413, None);
    assert_eq!(stage.get("/admin/clients").await["count"], 0);
}

#[tokio::test]
async fn the_list_goes_page_by_page() {
    let stage = Stage::new().await;
    let clients = stage.limiter.clients().unwrap();
    for number in 0..1_005 {
        clients.set(&format!("client-{number:04}"), ClientPatch::new()).await.unwrap();
    }
    let first = stage.get("/admin/clients").await;
    assert_eq!((first["clients"].as_array().unwrap().len(), &first["count"]), (1_000, &json!(1_005)));
    let next = first["next"].as_str().unwrap();
    let second = stage.get(&format!("/admin/clients?cursor={next}")).await;
    assert_eq!((second["clients"].as_array().unwrap().len(), &second["next"]), (5, &Value::Null));
    assert_eq!(second["clients"][0]["client_id"], "client-1000");
    let few = stage.get("/admin/clients?limit=2&cursor=client-0001").await;
    assert_eq!(
        (&few["clients"][0]["client_id"], &few["next"]),
        (&json!("client-0002"), &json!("client-0003"))
    );
}

#[tokio::test]
async fn tiers_are_listed_and_changed_live() {
    let stage = Stage::new().await;
    let tiers = stage.get("/admin/tiers").await;
    let expected = json!({ "tiers": {
        "free": { "max_concurrent": 1, "requests_per_min": 10 },
        "basic": { "max_concurrent": 5, "requests_per_min": 100 },
        "premium": { "max_concurrent": 20, "requests_per_min": 1000 },
        "enterprise": { "max_concurrent": 50, "requests_per_min": 5000 },
        "default": { "max_concurrent": 3, "requests_per_min": 50 },
    } });
    assert_eq!(tiers, expected);

    stage.post("/admin/clients/set", json!({ "client_id": "ann", "tier": "free" })).await;
    assert_eq!(stage.admits("ann", 15).await, 10);
    let changed = stage.post("/admin/tiers/set", json!({ "tier": "free", "requests_per_min": 12 })).await;
    let expected = json!({
        "tier": "free",
        "old": { "max_concurrent": 1, "requests_per_min": 10 },
        "new": { "requests_per_min": 12 },
    });
    assert_eq!(changed, expected);
    assert_eq!(stage.admits("ann", 5).await, 2);
    let view = stage.get("/admin/clients/get?client_id=ann").await;
    assert_eq!(view["rate_limit"], json!({ "max_concurrent": 3, "requests_per_min": 12 }));
    let limits = json!({ "tier": "partner", "limits": { "exports": "9/hour" } });
    assert_eq!(Stage::expect(stage.ask("PUT", "/admin/tiers/set", limits).await, 200)["old"], Value::Null);

    for (body, field) in [
        (json!({ "requests_per_min": 1 }), "tier"),
        (json!({ "tier": "free", "requests_per_min": 0 }), "requests_per_min"),
        (json!({ "tier": "free", "burst": 1 }), "burst"),
        (json!({ "tier": "default", "requests_per_min": 1 }), "tiers.default"),
    ] {
        stage.ask("POST", "/admin/tiers/set", body).await.is_problem(400, Some(field));
    }
    let delete =
        async |query: &str| stage.ask("DELETE", &format!("/admin/tiers/delete{query}"), Value::Null).await;
    assert_eq!(delete("?tier=free").await.status, 204);
    delete("?tier=free").await.is_problem(404, None);
    delete("?tier=default").await.is_problem(400, Some("tier"));
    delete("").await.is_problem(400, Some("tier"));
    assert_eq!(stage.get("/admin/clients/get?client_id=ann").await["rate_limit"]["requests_per_min"], 50);
}

#[tokio::test]
async fn other_methods_are_answered_with_405_and_allow() {
    let stage = Stage::new().await;
    for (path, allow) in [
        ("/admin/clients", "GET, HEAD"),
        ("/admin/clients/set", "POST, PUT"),
        ("/admin/clients/get", "GET, HEAD"),
        ("/admin/clients/delete", "DELETE"),
        ("/admin/clients/usage", "GET, HEAD"),
        ("/admin/clients/reset", "POST"),
        ("/admin/keys", "GET, HEAD"),
        ("/admin/keys/issue", "POST"),
        ("/admin/keys/rotate", "POST"),
        ("/admin/keys/revoke", "DELETE"),
        ("/admin/grants/get", "GET, HEAD"),
        ("/admin/grants/set", "POST, PUT"),
        ("/admin/grants/delete", "DELETE"),
        ("/admin/tiers", "GET, HEAD"),
        ("/admin/tiers/set", "POST, PUT"),
        ("/admin/tiers/delete", "DELETE"),
        ("/admin/limits", "GET, HEAD"),
        ("/admin/limits/set", "POST, PUT"),
        ("/admin/concurrency/set", "POST, PUT"),
        ("/admin/policy", "GET, HEAD"),
        ("/admin/openapi.json", "GET, HEAD"),
        ("/v1/rate-limit", "GET, HEAD"),
    ] {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            if !allow.contains(method) {
                let answer = stage.ask(method, path, Value::Null).await;
                answer.is_problem(405, None);
                let lines: Vec<_> = answer.headers.get_all("allow").iter().collect();
                assert_eq!(lines, [allow], "{method} {path}");
            }
        }
    }
    stage.ask("GET", "/admin/nonsense", Value::Null).await.is_problem(404, None);
}
