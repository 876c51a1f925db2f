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
