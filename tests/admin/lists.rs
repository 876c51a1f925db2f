//! The allow and block lists change over HTTP while requests come.

use crate::stage::*;
use serde_json::{Value, json};
use tidegate::*;

#[tokio::test]
async fn networks_clients_and_keys_are_put_on_lists_and_taken_off() {
    let stage = Stage::new().await;
    assert_eq!(stage.get("/admin/lists").await, json!({ "allow": [], "block": [] }));
    stage.post("/admin/clients/set", json!({ "client_id": "ann", "tier": "free" })).await;
    let key = Stage::expect(stage.ask("POST", "/admin/keys/issue", json!({ "client_id": "ann" })).await, 201);
    let (by_id, by_key) = ([("x-client-id", "ann")], [("x-api-key", key["api_key"].as_str().unwrap())]);
    assert_eq!(stage.status("/", &by_key).await, 200);

    let added = stage.post("/admin/lists/add", json!({ "list": "block", "client_ids": ["ann"] })).await;
    assert_eq!((&added[0]["client_id"], &added[0]["network"]), (&json!("ann"), &Value::Null));
    assert_eq!(
        (stage.status("/", &by_id).await, stage.status("/", &by_key).await),
        (403, 403),
        "however it comes"
    );
    assert_eq!(stage.status("/", &[("x-client-id", "bob")]).await, 200);
    assert_eq!(stage.get("/admin/clients/usage?client_id=ann").await["limits"][0]["used"], 1);
    let handle = added[0]["handle"].as_str().unwrap();
    stage.delete(&format!("/admin/lists/delete?list=allow&handle={handle}")).await;
    assert_eq!(stage.status("/", &by_key).await, 403, "that is the other list");
    stage.delete(&format!("/admin/lists/delete?list=block&handle={handle}")).await;
    assert_eq!((stage.status("/", &by_id).await, stage.status("/", &by_key).await), (200, 200));

    let allowed = json!({ "list": "allow", "client_ids": ["ann"] });
    Stage::expect(stage.ask("PUT", "/admin/lists/add", allowed).await, 200);
    assert_eq!(stage.admits("ann", 20).await, 20, "nothing is counted");
    stage.delete("/admin/lists/delete?list=allow&client_id=ann").await;
    assert_eq!(stage.admits("ann", 20).await, 7);

    let keys = json!({ "list": "block", "api_keys": ["leaked"], "networks": ["127.0.0.7/8", "2001:db8::1"] });
    let added = stage.post("/admin/lists/add", keys).await;
    assert_eq!(
        (&added[0]["network"], &added[1]["network"]),
        (&json!("127.0.0.0/8"), &json!("2001:db8::1/128"))
    );
    assert_eq!(stage.status("/", &[]).await, 403);
    stage.delete("/admin/lists/delete?list=block&network=127.0.0.1").await;
    assert_eq!(stage.status("/", &[]).await, 403, "nothing is cut out of a wider one");
    stage.delete("/admin/lists/delete?list=block&network=127.0.0.0/8").await;
    assert_eq!(
        (stage.status("/", &[]).await, stage.status("/", &[("x-api-key", "leaked")]).await),
        (200, 403)
    );
    let lists = stage.get("/admin/lists").await;
    assert_eq!(lists["block"].as_array().unwrap().len(), 2);
    assert!(
        !lists.to_string().contains("leaked") && !stage.audit.lock().unwrap().join("").contains("leaked")
    );
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once_and_then_nothing_is_changed() {
    let stage = Stage::new().await;
    for (body, field) in [
        (json!({ "networks": ["10.0.0.0/8"] }), "list"),
        (json!({ "list": "grey", "networks": ["10.0.0.0/8"] }), "list"),
        (json!({ "list": "block" }), "networks"),
        (json!({ "list": "block", "networks": [] }), "networks"),
        (json!({ "list": "block", "networks": "10.0.0.0/8" }), "networks"),
        (json!({ "list": "block", "networks": [""] }), "networks"),
        (json!({ "list": "block", "client_ids": ["a b", "ann"] }), "client_ids"),
        (json!({ "list": "block", "api_keys": [7] }), "api_keys"),
        (json!({ "list": "block", "addresses": ["10.0.0.1"] }), "addresses"),
    ] {
        stage.ask("POST", "/admin/lists/add", body).await.is_problem(400, Some(field));
    }
    let wrong = json!({ "list": "block", "networks": ["10.0.0.0/99", "127.0.0.0/8", "localhost"] });
    let answer = stage.ask("POST", "/admin/lists/add", wrong).await;
    answer.is_problem(400, Some("networks"));
    assert!(answer.text.contains("10.0.0.0/99") && answer.text.contains("localhost"), "{}", answer.text);
    for (query, field) in [
        ("", "list"),
        ("?list=block", "network"),
        ("?list=grey&network=10.0.0.0/8", "list"),
        ("?list=block&network=x", "network"),
        ("?list=block&handle=x", "handle"),
        // A network may be of one address, and nobody would be told that it is on the list yet.
        ("?list=block&address=192.0.2.7", "network"),
        ("?list=block&network=192.0.2.7&client_id=ann", "network"),
    ] {
        let path = format!("/admin/lists/delete{query}");
        stage.ask("DELETE", &path, Value::Null).await.is_problem(400, Some(field));
    }
    assert_eq!(stage.get("/admin/lists").await, json!({ "allow": [], "block": [] }));
    assert!(stage.audit.lock().unwrap().is_empty());
}

#[tokio::test]
async fn audit_events_have_what_was_there_and_what_is() {
    let stage =
        Stage::of(policy().block_networks(["192.0.2.7"]), Clients::new(crate::registry::new()), |admin| {
            admin.key(KEY)
        })
        .await;
    let networks = json!({ "list": "block", "networks": ["192.0.2.7", "198.51.100.0/24"] });
    stage.post("/admin/lists/add", networks).await;
    stage.delete("/admin/lists/delete?list=block&network=192.0.2.7/32").await;
    stage.delete("/admin/lists/delete?list=block&network=192.0.2.7").await;
    let audit = stage.audit.lock().unwrap().clone();
    assert_eq!(audit.len(), 2, "{audit:?}");
    let (old, new) = audit[0].split_once("}]\") ").unwrap();
    assert!(
        old.contains(" add to list Some(\"block\")")
            && old.contains("192.0.2.7/32")
            && !old.contains("198.51"),
        "{old}"
    );
    assert!(new.contains("192.0.2.7/32") && new.contains("198.51.100.0/24"));
    assert!(audit[1].contains(" delete from list ") && audit[1].ends_with("None"), "{}", audit[1]);
}
