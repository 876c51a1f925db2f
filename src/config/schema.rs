//! The JSON Schema of a file, from the types of its sections.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// The schema of a type, with its own definitions.
pub(super) fn of<T: JsonSchema>() -> Value {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    let mut schema = schema.to_value();
    tidy(&mut schema);
    schema
}

/// TOML has no null: what may be left out is just not required.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(members) => {
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = &**types {
                    let only = only.clone();
                    members.insert("type".into(), only);
                }
            }
            if members.get("default").is_some_and(Value::is_null) {
                members.remove("default");
            }
            // Readers of the schema see texts before variables are put into them.
            if let Some(Value::String(pattern)) = members.get_mut("pattern") {
                *pattern = format!(r"(?:{pattern})|\$\{{");
            }
            lift(members);
            // A comment's line breaks are none of the reader's.
            if let Some(Value::String(text)) = members.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            members.values_mut().for_each(tidy);
        }
        _ => {}
    }
}

/// Puts in the place of a choice between something and nothing what there is to choose.
fn lift(members: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = members.get_mut("anyOf") else { return };
    choices.retain(|choice| choice["type"] != "null");
    if let [Value::Object(only)] = &**choices {
        let only = only.clone();
        members.remove("anyOf");
        for (key, value) in only {
            members.entry(key).or_insert(value);
        }
    }
}

/// Adds a section to the schema of a file.
pub(super) fn add(whole: &mut Value, name: &str, mut section: Value) {
    if let Some(Value::Object(definitions)) = section.get_mut("$defs").map(Value::take) {
        if whole["$defs"].is_null() {
            whole["$defs"] = json!({});
        }
        for (key, value) in definitions {
            whole["$defs"][key] = value;
        }
    }
    if let Value::Object(members) = &mut section {
        members.remove("$defs");
        members.remove("$schema");
        members.remove("title");
    }
    whole["properties"][name] = section;
}

/// The schema that a reference leads to.
pub(super) fn resolve<'s>(root: &'s Value, mut schema: &'s Value) -> &'s Value {
    while let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        match reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer)) {
            Some(next) => schema = next,
            None => break,
        }
    }
    schema
}
