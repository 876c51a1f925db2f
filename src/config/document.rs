//! The file as a tree whose values know where they stand.

use super::mistake::Found;
use serde_json::{Map, Number, Value};
use std::{collections::BTreeMap, sync::Arc};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Where a value comes from. Mistakes are told in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// So many bytes into the file.
    At(usize),
    /// A variable of the environment.
    Variable(Arc<str>),
}

/// A value. It has no `Debug`, because it may be a secret.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) place: Place,
    /// Whether a variable is in it, so that it may stand for a number and must not be shown.
    pub(super) is_from_variable: bool,
}

#[derive(Clone)]
pub(super) enum Kind {
    Text(String),
    Whole(i64),
    Number(f64),
    Flag(bool),
    /// A date or a time, which no setting is.
    Moment,
    List(Vec<Node>),
    Table(BTreeMap<String, Member>),
}

/// What a table has under a key.
#[derive(Clone)]
pub(super) struct Member {
    /// Where the key stands.
    pub(super) key: Place,
    pub(super) value: Node,
}

/// One step on the way to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Number(usize),
}

impl Node {
    pub(super) const fn new(kind: Kind, place: Place) -> Self {
        Self { kind, place, is_from_variable: false }
    }

    /// Parses a whole file, as far as its mistakes let it.
    pub(super) fn parse(text: &str, found: &mut Found) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let start = error.span().map_or(0, |span| span.start);
            found.add_syntax(start, error.message());
        }
        Self::new(Kind::Table(table_of(table.into_inner(), found)), Place::At(0))
    }

    /// Parses a single value, if it is one.
    pub(super) fn parse_value(text: &str, place: &Place) -> Option<Self> {
        let value = DeValue::parse(text).ok()?;
        let mut found = Found::default();
        let mut node = node_of(value, &mut found);
        node.move_to(place);
        found.is_empty().then_some(node)
    }

    fn move_to(&mut self, place: &Place) {
        self.place = place.clone();
        self.is_from_variable = true;
        match &mut self.kind {
            Kind::List(items) => items.iter_mut().for_each(|item| item.move_to(place)),
            Kind::Table(members) => members.values_mut().for_each(|member| {
                member.key = place.clone();
                member.value.move_to(place);
            }),
            _ => {}
        }
    }

    pub(super) fn member(&self, key: &str) -> Option<&Member> {
        match &self.kind {
            Kind::Table(members) => members.get(key),
            _ => None,
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.member(key).map(|member| &member.value)
    }

    pub(super) fn items(&self) -> &[Self] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Where the value at the end of a way stands, or the last one on the way that is there.
    pub(super) fn place_of(&self, way: &[Step]) -> &Place {
        let mut node = self;
        for step in way {
            let next = match step {
                Step::Key(key) => node.get(key),
                Step::Number(number) => node.items().get(*number),
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        &node.place
    }

    /// Itself and all that is in it.
    pub(super) fn each(&mut self, act: &mut impl FnMut(&mut Self)) {
        act(self);
        match &mut self.kind {
            Kind::List(items) => items.iter_mut().for_each(|item| item.each(act)),
            Kind::Table(members) => members.values_mut().for_each(|member| member.value.each(act)),
            _ => {}
        }
    }

    /// The value without its places.
    pub(super) fn json(&self) -> Value {
        match &self.kind {
            Kind::Text(text) => Value::String(text.clone()),
            Kind::Whole(number) => Value::from(*number),
            Kind::Number(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
            Kind::Flag(flag) => Value::Bool(*flag),
            Kind::Moment => Value::Null,
            Kind::List(items) => items.iter().map(Self::json).collect(),
            Kind::Table(members) => {
                let member = |(key, member): (&String, &Member)| (key.clone(), member.value.json());
                Value::Object(members.iter().map(member).collect::<Map<_, _>>())
            }
        }
    }
}

fn table_of(table: DeTable<'_>, found: &mut Found) -> BTreeMap<String, Member> {
    let member = |(key, value): (Spanned<_>, Spanned<DeValue<'_>>)| {
        let place = Place::At(key.span().start);
        (String::from(key.into_inner()), Member { key: place, value: node_of(value, found) })
    };
    table.into_iter().map(member).collect()
}

fn node_of(value: Spanned<DeValue<'_>>, found: &mut Found) -> Node {
    let place = Place::At(value.span().start);
    let kind = match value.into_inner() {
        DeValue::String(text) => Kind::Text(text.into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Kind::Whole(number),
            Err(_) => {
                found.add(&place, "this number is too large; no setting is as large as 2^63");
                Kind::Whole(0)
            }
        },
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Kind::Number(number),
            _ => {
                found.add(&place, "this is no number that can be reckoned with; write one like 0.5");
                Kind::Number(0.0)
            }
        },
        DeValue::Boolean(flag) => Kind::Flag(flag),
        DeValue::Datetime(_) => Kind::Moment,
        DeValue::Array(items) => Kind::List(items.into_iter().map(|item| node_of(item, found)).collect()),
        DeValue::Table(table) => Kind::Table(table_of(table, found)),
    };
    Node::new(kind, place)
}
