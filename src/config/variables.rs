//! Variables of the environment: put into texts, and in the place of values.
//!
//! `${NAME}` in a text is the variable's value, `${NAME:-default}` the default where it is not set or empty, and `$${` is
//! `${` itself. A variable named `TIDEGATE_STORE__REDIS__URL` sets `url` of `[store.redis]`: two underscores are a step to a key,
//! or to the element of a list that has that `name` or number.

use super::{
    document::{Kind, Member, Node, Place},
    mistake::Found,
    near::advice,
};
use std::collections::BTreeMap;

/// The environment, as far as it is text.
pub(super) type Variables = BTreeMap<String, String>;

const PREFIX: &str = "TIDEGATE_";
const STEP: &str = "__";

/// Values that were put into texts, and what messages show instead of them.
pub(super) type Hidden = Vec<(String, String)>;

/// Shorter values would be found in words where they do not stand.
const TELLING: usize = 4;

/// Puts variables into all texts.
pub(super) fn fill(root: &mut Node, variables: &Variables, hidden: &mut Hidden, found: &mut Found) {
    root.each(&mut |node| {
        let Kind::Text(text) = &mut node.kind else { return };
        if !text.contains("${") {
            return;
        }
        match filled(text, variables, hidden) {
            Ok((filled, has_variables)) => {
                *text = filled;
                node.is_from_variable |= has_variables;
            }
            Err(reason) => found.add(&node.place, reason),
        }
    });
}

/// The text with its variables' values, and whether it has any.
fn filled(text: &str, variables: &Variables, hidden: &mut Hidden) -> Result<(String, bool), String> {
    let (mut out, mut rest, mut has_variables) = (String::new(), text, false);
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &reference[2..];
            continue;
        }
        out.push_str(before);
        let Some((inner, after)) = reference[2..].split_once('}') else {
            return Err(
                "a variable begins here with ${ and does not end; close it with }, or write $${".into()
            );
        };
        let (name, default) = inner.split_once(":-").map_or((inner, None), |(name, rest)| (name, Some(rest)));
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_name_byte) {
            return Err(format!(
                "{name:?} cannot be a variable's name; write ${{NAME}} or ${{NAME:-default}}"
            ));
        }
        let value = variables.get(name).map(String::as_str);
        match (value, default) {
            (Some(value), default) if !value.is_empty() || default.is_none() => {
                out.push_str(value);
                if value.len() >= TELLING {
                    hidden.push((value.to_owned(), format!("${{{name}}}")));
                }
            }
            (_, Some(default)) => out.push_str(default),
            (_, None) => {
                return Err(format!(
                    "variable {name} is not set; set it, or give a default with ${{{name}:-default}}"
                ));
            }
        }
        has_variables = true;
        rest = after;
    }
    out.push_str(rest);
    Ok((out, has_variables))
}

/// Puts variables in the place of values, or beside them.
pub(super) fn override_by(root: &mut Node, variables: &Variables, hidden: &mut Hidden, found: &mut Found) {
    for (name, value) in variables {
        let Some(way) = name.strip_prefix(PREFIX).filter(|way| way.contains(STEP)) else { continue };
        let steps: Vec<_> = way.split(STEP).collect();
        let place = Place::Variable(name.as_str().into());
        if value.len() >= TELLING {
            hidden.push((value.clone(), format!("${{{name}}}")));
        }
        if let Err(reason) = put(root, &steps, value, &place) {
            found.add(&place, reason);
        }
    }
}

fn put(node: &mut Node, steps: &[&str], value: &str, place: &Place) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else {
        *node = Node { kind: Kind::Text(value.to_owned()), place: place.clone(), is_from_variable: true };
        return Ok(());
    };
    if step.is_empty() {
        return Err("a step of its name is empty; write two underscores between steps".to_owned());
    }
    match &mut node.kind {
        Kind::Table(members) => {
            // A table's keys may be of any case where they are names.
            let known = members.keys().find(|key| spelled(key) == *step).cloned();
            let key = known.unwrap_or_else(|| step.to_lowercase());
            let member = members.entry(key).or_insert_with(|| {
                let table = Node::new(Kind::Table(BTreeMap::new()), place.clone());
                Member { key: place.clone(), value: table }
            });
            put(&mut member.value, rest, value, place)
        }
        Kind::List(items) => {
            let number = step.parse().ok().filter(|number| *number < items.len());
            let named = |item: &Node| item.get("name").and_then(Node::text).map(spelled);
            let number =
                number.or_else(|| items.iter().position(|item| named(item).as_deref() == Some(step)));
            match number {
                Some(number) => put(&mut items[number], rest, value, place),
                None => {
                    let names: Vec<_> = items.iter().filter_map(named).collect();
                    let names: Vec<_> = names.iter().map(String::as_str).collect();
                    let count = items.len();
                    let advice = advice(step, &names);
                    Err(format!("nothing in this list of {count} is named or numbered {step:?}; {advice}"))
                }
            }
        }
        _ => Err(format!("there is a single value where {step:?} is looked for; leave the step out")),
    }
}

/// A name as variables spell it.
fn spelled(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}
