//! The tree held against the schema: every mistake of form, told by where it stands.
//!
//! It knows as much of JSON Schema as schemas of sections need, and says what is wrong in the words of a TOML file.

use super::{
    document::{Kind, Member, Node, Place},
    kinds,
    mistake::Found,
    near::advice,
    schema::resolve,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Finds all mistakes of form, and makes of variables' texts what belongs in their places.
pub(super) fn check(node: &mut Node, schema: &Value, found: &mut Found) {
    Checker { root: schema, found }.check(node, schema);
}

struct Checker<'c> {
    root: &'c Value,
    found: &'c mut Found,
}

impl<'c> Checker<'c> {
    fn check(&mut self, node: &mut Node, schema: &'c Value) {
        // A value that is no value is not told twice.
        if matches!(node.kind, Kind::Text(_) | Kind::Whole(_) | Kind::Number(_))
            && self.found.has(&node.place)
        {
            return;
        }
        let schema = resolve(self.root, schema);
        let choices = choices(schema);
        if !choices.is_empty() {
            return self.choose(node, &choices);
        }
        if !takes(schema, &node.kind) && !self.convert(node, &[schema]) {
            let reason = format!("{} stands where {} belongs", shown_kind(&node.kind), expected(schema));
            return self.found.add(&node.place, reason);
        }
        match &mut node.kind {
            Kind::Text(_) => self.text(node, schema),
            Kind::Whole(number) => self.number(*number as f64, &node.place, schema),
            Kind::Number(number) => self.number(*number, &node.place, schema),
            Kind::List(items) => self.list(items, &node.place, schema),
            Kind::Table(members) => self.table(members, &node.place, schema),
            Kind::Flag(_) | Kind::Moment => {}
        }
    }

    /// Makes of a variable's text what one of the schemas takes, if that is possible.
    fn convert(&self, node: &mut Node, schemas: &[&Value]) -> bool {
        let Some(text) = node.text().filter(|_| node.is_from_variable) else { return false };
        let converted = Node::parse_value(text.trim(), &node.place);
        let Some(converted) = converted else { return false };
        let fits = schemas.iter().any(|schema| takes(resolve(self.root, schema), &converted.kind));
        if fits {
            *node = converted;
        }
        fits
    }

    /// Holds a value against that of several schemas which it seems to be meant for.
    fn choose(&mut self, node: &mut Node, choices: &[&'c Value]) {
        let root = self.root;
        let flat: Vec<&'c Value> = choices.iter().flat_map(|choice| flattened(root, choice)).collect();
        if !flat.iter().any(|choice| takes(choice, &node.kind)) && !self.convert(node, &flat) {
            let all: Vec<_> = flat.iter().map(|choice| expected(choice)).collect();
            let reason = format!("{} stands where {} belongs", shown_kind(&node.kind), all.join(" or "));
            return self.found.add(&node.place, reason);
        }
        let fitting: Vec<_> = flat.into_iter().filter(|choice| takes(choice, &node.kind)).collect();
        match (&node.kind, &*fitting) {
            (_, [only]) => self.check(node, only),
            (Kind::Text(text), all) => match all.iter().find(|choice| words(choice).is_empty()) {
                Some(_) if all.iter().any(|choice| words(choice).contains(&text.as_str())) => {}
                Some(open) => self.check(node, open),
                None => {
                    let known: Vec<_> = all.iter().flat_map(|choice| words(choice)).collect();
                    self.word(node, &known, false);
                }
            },
            (Kind::Table(_), all) => self.choose_table(node, all),
            (_, all) => {
                if let Some(first) = all.first() {
                    self.check(node, first);
                }
            }
        }
    }

    /// Holds a table against the schema whose keys it has.
    fn choose_table(&mut self, node: &mut Node, all: &[&'c Value]) {
        let Kind::Table(members) = &node.kind else { return };
        let has = |key: &&str| members.contains_key(*key);
        let whole = all.iter().find(|choice| required(choice).iter().all(has));
        match whole.or_else(|| all.iter().find(|choice| keys(choice).iter().any(has))) {
            Some(choice) => self.check(node, choice),
            None => {
                let known: Vec<_> = all.iter().flat_map(|choice| keys(choice)).collect();
                let (place, reason) = match members.iter().next() {
                    Some((key, member)) => {
                        (&member.key, format!("{key:?} is not known here; {}", advice(key, &known)))
                    }
                    None => (&node.place, format!("nothing is in this table; {}", advice("", &known))),
                };
                self.found.add(place, reason);
            }
        }
    }

    fn text(&mut self, node: &Node, schema: &Value) {
        let Some(text) = node.text() else { return };
        let is_hidden = node.is_from_variable || schema["writeOnly"] == true;
        let known = words(schema);
        if !known.is_empty() {
            return self.word(node, &known, is_hidden);
        }
        let length = text.chars().count() as u64;
        if schema["minLength"].as_u64().is_some_and(|least| length < least) {
            self.found.add(&node.place, "this text is empty; write what is meant, or leave the key out");
        }
        let reason = schema["format"].as_str().and_then(|format| kinds::mistake(format, text));
        if let Some(reason) = reason {
            let like = schema["examples"][0].as_str().unwrap_or_default();
            let general = || format!("the value is not accepted; write one like {like:?}");
            self.found.add(&node.place, if is_hidden { general() } else { reason });
        }
    }

    fn word(&mut self, node: &Node, known: &[&str], is_hidden: bool) {
        let Some(text) = node.text().filter(|text| !known.contains(text)) else { return };
        let reason = match is_hidden || node.is_from_variable {
            true => format!("the value is not known here; {}", advice("", known)),
            false => format!("{text:?} is not known here; {}", advice(text, known)),
        };
        self.found.add(&node.place, reason);
    }

    fn number(&mut self, number: f64, place: &Place, schema: &Value) {
        let least = schema["minimum"].as_f64();
        let most = schema["maximum"].as_f64().or_else(|| match schema["format"].as_str() {
            Some("uint32") => Some(u32::MAX.into()),
            _ => None,
        });
        let above = schema["exclusiveMinimum"].as_f64();
        let below = schema["exclusiveMaximum"].as_f64();
        let fits = least.is_none_or(|least| number >= least)
            && most.is_none_or(|most| number <= most)
            && above.is_none_or(|above| number > above)
            && below.is_none_or(|below| number < below);
        if !fits {
            let bounds = [
                least.map(|least| format!("{least} or more")),
                above.map(|above| format!("more than {above}")),
                most.map(|most| format!("{most} or less")),
                below.map(|below| format!("less than {below}")),
            ];
            let bounds: Vec<_> = bounds.into_iter().flatten().collect();
            self.found.add(place, format!("{number} is out of range; {} is accepted", bounds.join(" and ")));
        }
    }

    fn list(&mut self, items: &mut [Node], place: &Place, schema: &'c Value) {
        let count = items.len() as u64;
        if let Some(least) = schema["minItems"].as_u64().filter(|least| count < *least) {
            self.found.add(
                place,
                format!("{count} are too few here; write {least} at least, or leave the key out"),
            );
        }
        for item in items {
            self.check(item, &schema["items"]);
        }
    }

    fn table(&mut self, members: &mut BTreeMap<String, Member>, place: &Place, schema: &'c Value) {
        for key in required(schema).iter().filter(|key| !members.contains_key(**key)) {
            let about = schema["properties"][*key]["description"].as_str().unwrap_or_default();
            let about = about.split(['.', '\n']).next().unwrap_or_default();
            self.found.add(place, format!("{key:?} is missing; it is {}", lower(about)));
        }
        for (key, member) in members {
            let property = schema["properties"].get(key);
            match (property, schema.get("additionalProperties")) {
                (Some(property), _) => self.check(&mut member.value, property),
                (None, Some(Value::Bool(false)) | None) => {
                    let known = keys(schema);
                    let reason = format!("{key:?} is not known here; {}", advice(key, &known));
                    self.found.add(&member.key, reason);
                }
                (None, Some(Value::Bool(true))) => {}
                (None, Some(more)) => self.check(&mut member.value, more),
            }
        }
    }
}

/// What a value may be one of.
fn choices(schema: &Value) -> Vec<&Value> {
    let all = ["oneOf", "anyOf"].into_iter().find_map(|key| schema.get(key)?.as_array());
    all.map(|all| all.iter().collect()).unwrap_or_default()
}

/// A schema, or those that it is a choice between.
fn flattened<'s>(root: &'s Value, schema: &'s Value) -> Vec<&'s Value> {
    let schema = resolve(root, schema);
    match choices(schema) {
        none if none.is_empty() => vec![schema],
        some => some.into_iter().flat_map(|choice| flattened(root, choice)).collect(),
    }
}

/// The texts that a schema takes, if they are listed.
fn words(schema: &Value) -> Vec<&str> {
    let listed = schema["enum"].as_array().into_iter().flatten();
    schema.get("const").into_iter().chain(listed).filter_map(Value::as_str).collect()
}

fn keys(schema: &Value) -> Vec<&str> {
    schema["properties"].as_object().map(|keys| keys.keys().map(String::as_str).collect()).unwrap_or_default()
}

fn required(schema: &Value) -> Vec<&str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The kinds of value that a schema takes; none where it takes all.
fn kinds_of(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ if !words(schema).is_empty() => vec!["string"],
        _ => Vec::new(),
    }
}

fn takes(schema: &Value, kind: &Kind) -> bool {
    let name = match kind {
        Kind::Text(_) => "string",
        Kind::Whole(_) => "integer",
        Kind::Number(_) => "number",
        Kind::Flag(_) => "boolean",
        Kind::Moment => return false,
        Kind::List(_) => "array",
        Kind::Table(_) => "object",
    };
    let kinds = kinds_of(schema);
    kinds.is_empty() || kinds.contains(&name) || name == "integer" && kinds.contains(&"number")
}

fn shown_kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Text(_) => "a text",
        Kind::Whole(_) => "a whole number",
        Kind::Number(_) => "a number",
        Kind::Flag(_) => "true or false",
        Kind::Moment => "a date or time",
        Kind::List(_) => "a list",
        Kind::Table(_) => "a table",
    }
}

/// What belongs where a schema is in force.
fn expected(schema: &Value) -> String {
    if let [word, ..] = *words(schema) {
        return format!("a text such as {word:?}");
    }
    let example = schema["examples"][0].as_str();
    let kind = |kind: &str| match (kind, example) {
        ("string", Some(example)) => format!("a text like {example:?}"),
        ("string", None) => "a text".to_owned(),
        ("integer", _) => "a whole number".to_owned(),
        ("number", _) => "a number".to_owned(),
        ("boolean", _) => "true or false".to_owned(),
        ("array", _) => "a list in [ ]".to_owned(),
        _ => match &*keys(schema) {
            [key] => format!("a table with {key:?}"),
            _ => "a table".to_owned(),
        },
    };
    let all: Vec<_> = kinds_of(schema).into_iter().map(kind).collect();
    if all.is_empty() { "something else".to_owned() } else { all.join(" or ") }
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
