//! The JSON Schema, as a validator of its own reads it.

use crate::stage::{format, parse};
use jsonschema::Validator;
use serde_json::{Value, json};

fn validator() -> Validator {
    jsonschema::draft202012::new(&format().schema()).unwrap()
}

/// A file as an editor hands it to a validator.
fn value(text: &str) -> Value {
    toml::from_str::<Value>(text).unwrap()
}

#[test]
fn every_example_is_valid() {
    let validator = validator();
    for name in ["asgi", "dispatcher", "enqueue", "kafka", "ray"] {
        let path = format!("{}/examples/config/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let value = value(&std::fs::read_to_string(path).unwrap());
        let mistakes: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(mistakes.is_empty(), "{name}: {mistakes:#?}");
    }
}

/// What is wrong in its form, in the smallest file that has it.
const WRONG: [&str; 26] = [
    "[rules]",
    "rule = 3",
    "[[rule]]\nname = \"\"",
    "[[rule]]\nroutes = []",
    "[[rule]]\nname = \"a\"\nmethods = [\"get\"]",
    "[[rule]]\nname = \"a\"\nshadow = \"yes\"",
    "[[rule]]\nname = \"a\"\nlimits = []",
    "[[rule]]\nname = \"a\"\n[[rule.limit]]\nname = \"b\"",
    "[[rule]]\nname = \"a\"\n[[rule.limit]]\nquota = \"lots\"",
    "[[rule]]\nname = \"a\"\n[[rule.limit]]\nquota = 5",
    "[[rule]]\nname = \"a\"\n[[rule.limit]]\nquota = \"1/s\"\nper = \"everybody\"",
    "[[rule]]\nname = \"a\"\n[[rule.limit]]\nquota = \"1/s\"\ncost = -1",
    "[[rule]]\nname = \"a\"\n[[rule.limit]]\nquota = \"1/s\"\nsettle = { count = [\"6xx\"] }",
    "[[rule]]\nname = \"a\"\n[[rule.limit]]\nquota = \"1/s\"\nsettle = { keep = [\"200\"] }",
    "[[rule]]\nname = \"a\"\n[[rule.concurrency]]\nmax = 0",
    "[[rule]]\nname = \"a\"\n[[rule.concurrency]]\nmax = 1\nwait = { queue = 1, patience = \"soon\" }",
    "[identity]\nsources = [\"ip\"]",
    "[identity]\nsources = []",
    "[identity]\nsources = [{ header = \"no header\" }]",
    "[identity]\nipv6_prefix = 129",
    "[trusted_proxies]\nheader = \"x-real-ip\"\nnetworks = []",
    "[block]\nnetworks = [\"everywhere\"]",
    "[ban]\nrefusals = 0",
    "[store]\nmemory = \"4 lightyears\"",
    "[store]\nsecret = \"too short\"",
    "[tier.gold]\nrequests_per_min = 60000001",
];

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let validator = validator();
    for text in WRONG {
        assert!(parse(text).is_err(), "the reader takes {text:?}");
        assert!(!validator.is_valid(&value(text)), "the schema takes {text:?}");
    }
}

#[test]
fn texts_with_variables_are_valid() {
    let text = "[store]\nmemory = \"${SIZE}\"\n[block]\nnetworks = [\"${NET:-10.0.0.0/8}\"]";
    assert!(validator().is_valid(&value(text)));
    assert!(!validator().is_valid(&value(&text.replace("${", "{"))));
}

#[test]
fn the_schema_says_what_it_is_about() {
    let schema = format().schema();
    assert_eq!(schema["$schema"], json!("https://json-schema.org/draft/2020-12/schema"));
    assert_eq!(schema["additionalProperties"], json!(false));
    // Each section and key has a description.
    fn check(schema: &Value, path: &str) {
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string(), "{path}{key}");
        }
    }
    check(&schema, "");
    schema["$defs"].as_object().unwrap().iter().for_each(|(name, schema)| check(schema, &format!("{name}.")));
    // Secrets are marked.
    for (section, key) in [("StoreSection", "secret"), ("RedisSection", "password"), ("RedisSection", "url")]
    {
        assert_eq!(schema["$defs"][section]["properties"][key]["writeOnly"], json!(true), "{key}");
    }
}
