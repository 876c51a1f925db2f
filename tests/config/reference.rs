//! `docs/configuration.md` and the schema say the same.

use crate::stage::format;
use serde_json::Value;
use std::fmt::Write as _;

const BEGIN: &str = "<!-- reference, written by the test `write_reference` -->\n";

fn path() -> String {
    format!("{}/docs/configuration.md", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_reference_has_every_key_of_the_schema() {
    let text = std::fs::read_to_string(path()).unwrap();
    let (_, reference) = text.split_once(BEGIN).expect("the reference begins somewhere");
    let hint = "run `cargo test --all-features --test config write_reference -- --ignored`";
    assert!(reference == self::reference(), "{hint}");
}

#[test]
#[ignore = "it writes the reference anew"]
fn write_reference() {
    let text = std::fs::read_to_string(path()).unwrap();
    let (before, _) = text.split_once(BEGIN).unwrap_or((&text, ""));
    std::fs::write(path(), format!("{before}{BEGIN}{}", reference())).unwrap();
}

fn reference() -> String {
    let schema = format().schema();
    let mut out = String::new();
    for (name, section) in schema["properties"].as_object().unwrap() {
        table(&mut out, &schema, name, section, "##");
    }
    out
}

/// A section with its keys, and then the sections below it.
fn table(out: &mut String, root: &Value, name: &str, schema: &Value, level: &str) {
    let about = schema["description"].as_str().unwrap_or_default();
    let (mut header, mut schema) = (format!("[{name}]"), resolve(root, schema));
    if schema["type"] == "array" {
        header = format!("[[{name}]]");
        schema = resolve(root, &schema["items"]);
    } else if schema.get("properties").is_none() && schema["additionalProperties"].is_object() {
        header = format!("[{name}.NAME]");
        schema = resolve(root, &schema["additionalProperties"]);
    }
    let name = header.trim_matches(['[', ']']);
    write!(out, "\n{level} `{header}`\n\n{about}\n\n| key | value | |\n|---|---|---|\n").unwrap();
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let properties = schema["properties"].as_object().unwrap();
    for (key, property) in properties.iter().filter(|(_, property)| !is_section(root, property)) {
        let mut about = property["description"].as_str().unwrap_or_default().replace('|', "\\|");
        if required.iter().any(|name| name == key) {
            about = format!("**Required.** {about}");
        }
        for (value, about_value) in values(root, property) {
            write!(about, "<br>{value}: {about_value}").unwrap();
        }
        writeln!(out, "| `{key}` | {} | {about} |", kind(root, property)).unwrap();
    }
    for (key, property) in properties.iter().filter(|(_, property)| is_section(root, property)) {
        table(out, root, &format!("{name}.{key}"), property, "###");
    }
}

/// Whether a value is a table, or a list or a map of tables, with keys of its own.
fn is_section(root: &Value, schema: &Value) -> bool {
    let schema = resolve(root, schema);
    let inner = [&schema["items"], &schema["additionalProperties"]].map(|inner| resolve(root, inner));
    schema.get("properties").is_some() || inner.iter().any(|inner| inner.get("properties").is_some())
}

fn kind(root: &Value, schema: &Value) -> String {
    let schema = resolve(root, schema);
    let example =
        schema["examples"][0].as_str().map_or(String::new(), |example| format!(", `\"{example}\"`"));
    let one = |kind: &str| match kind {
        "string" => format!("text{example}"),
        "integer" => "whole number".to_owned(),
        "number" => "number".to_owned(),
        "boolean" => "`true` or `false`".to_owned(),
        "array" => format!("list of: {}", self::kind(root, &schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("table of: {}", self::kind(root, &schema["additionalProperties"]))
        }
        _ => "one of these".to_owned(),
    };
    match &schema["type"] {
        Value::String(kind) => one(kind),
        Value::Array(kinds) => {
            kinds.iter().map(|kind| one(kind.as_str().unwrap())).collect::<Vec<_>>().join(" or ")
        }
        _ => "one of these".to_owned(),
    }
}

/// What a value may be one of, each with what it means.
fn values(root: &Value, schema: &Value) -> Vec<(String, String)> {
    let schema = resolve(root, schema);
    let items = resolve(root, &schema["items"]);
    let choices = ["oneOf", "anyOf"].iter().find_map(|key| schema.get(*key).or(items.get(*key)));
    let mut all = Vec::new();
    for choice in choices.and_then(Value::as_array).into_iter().flatten() {
        let about = choice["description"].as_str().unwrap_or_default().replace('|', "\\|");
        let choice = resolve(root, choice);
        if let Some(word) = choice["const"].as_str() {
            all.push((format!("`\"{word}\"`"), about));
        } else if let Some(properties) = choice["properties"].as_object() {
            let (key, inner) = properties.iter().next().unwrap();
            let inner = resolve(root, inner);
            let fields = inner["properties"].as_object().map(|fields| {
                let field = |(name, field): (&String, &Value)| {
                    format!(
                        "`{name}` ({}) {}",
                        kind(root, field),
                        field["description"].as_str().unwrap_or_default()
                    )
                };
                fields.iter().map(field).collect::<Vec<_>>().join(" ")
            });
            let value =
                if fields.is_some() { "{ .. }".to_owned() } else { format!("({})", kind(root, inner)) };
            all.push((
                format!("`{{ {key} = {} }}`", value.replace('`', "")),
                format!("{about} {}", fields.unwrap_or_default()),
            ));
        } else if choice.get("oneOf").is_some() {
            all.extend(values(root, choice));
        } else {
            all.push((kind(root, choice), about));
        }
    }
    all
}

fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    match schema["$ref"].as_str() {
        Some(reference) => resolve(root, root.pointer(&reference[1..]).unwrap()),
        None => schema,
    }
}
