//! The OpenAPI document says what there is.

use crate::stage::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[tokio::test]
async fn the_document_has_each_path_method_and_status() {
    let stage = Stage::new().await;
    let document = stage.get("/admin/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 28);
    let mut ids = BTreeSet::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
            let responses = operation["responses"].as_object().unwrap();
            for (status, response) in responses {
                let content = response["content"].as_object();
                let kind = content.and_then(|content| content.keys().next().cloned());
                let expected = match status.as_str() {
                    "204" => None,
                    "200" | "201" => Some("application/json"),
                    _ => Some("application/problem+json"),
                };
                assert_eq!(kind.as_deref(), expected, "{method} {path} {status}");
            }
            let secured = operation["security"].as_array().unwrap().contains(&json!({ "admin_key": [] }));
            assert!(secured, "{method} {path}");
            // It is there, and the statuses that are answered are those that are told.
            let answer = stage.ask(&method.to_uppercase(), path, json!({})).await;
            let status = answer.status.as_u16().to_string();
            assert!(responses.contains_key(&status), "{method} {path} {status} {}", answer.text);
        }
    }
}

/// What the document cannot say by a bound is held against it by `scripts/fuzz-api`.
#[tokio::test]
async fn the_bounds_that_the_document_tells_are_those_that_are_kept() {
    let stage = Stage::new().await;
    stage.post("/admin/clients/set", json!({ "client_id": "ann" })).await;
    let document = stage.get("/admin/openapi.json").await;
    let schemas = &document["components"]["schemas"];
    for (schema, field, path, body) in [
        ("Granted", "max_concurrent", "/admin/grants/set", json!({ "client_id": "ann", "expires_in": 9 })),
        ("Granted", "requests_per_min", "/admin/grants/set", json!({ "client_id": "ann", "expires_in": 9 })),
        ("SetLimits", "max_concurrent", "/admin/clients/set", json!({ "client_id": "ann" })),
        ("SetLimits", "requests_per_min", "/admin/clients/set", json!({ "client_id": "ann" })),
        ("SetOtherTier", "requests_per_min", "/admin/tiers/set", json!({ "tier": "free" })),
        ("GrantFor", "expires_in", "/admin/grants/set", json!({ "client_id": "ann" })),
    ] {
        let bounds = &schemas[schema]["properties"][field];
        let (least, most) = (bounds["minimum"].as_u64().unwrap(), bounds["maximum"].as_u64().unwrap());
        for (number, status) in [(least - 1, 400), (least, 200), (most, 200), (most + 1, 400)] {
            let mut body = body.clone();
            match schema {
                "SetOtherTier" => body[field] = json!(number),
                "GrantFor" => {
                    body["rate_limit"] = json!({ "max_concurrent": 1 });
                    body[field] = json!(number);
                }
                _ => body["rate_limit"] = json!({ field: number }),
            }
            let answer = stage.ask("POST", path, body).await;
            assert_eq!(answer.status, status, "{schema}.{field} {number} {}", answer.text);
        }
    }
    assert_eq!(schemas["Granted"]["minProperties"], 1);
    assert_eq!(schemas["Granted"]["maxProperties"], Value::Null);
}

/// Each reference leads to something.
#[tokio::test]
async fn the_document_is_whole() {
    let stage = Stage::new().await;
    let document = stage.get("/admin/openapi.json").await;
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(reference)) = members.get("$ref") {
                    found.insert(reference.clone());
                }
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() >= 15);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let set = &document["components"]["schemas"]["SetClient"];
    assert_eq!((&set["additionalProperties"], &set["required"]), (&json!(false), &json!(["client_id"])));
}
