//! Whom a request to the admin API is about.

use super::{
    Office,
    asked::{Asked, text},
    problem::Problem,
};
use crate::{Identity, Key};
use axum::http::HeaderName;
use serde_json::{Map, Value};
use std::net::IpAddr;

/// The fields of a body that name somebody, of which one is to be there.
const FIELDS: [&str; 4] = ["client_id", "address", "api_key", "header"];

/// The parameters of a query that do, where secrets have no place.
const PARAMETERS: [&str; 3] = ["client_id", "address", "handle"];

/// Somebody, by the identity or by the handle of an entry in a list.
pub(super) enum Whom {
    Identity(Identity<'static>),
    Handle(Key),
}

impl Whom {
    pub(super) fn key(&self, office: &Office) -> Key {
        match self {
            Self::Identity(identity) => identity.key(&office.limiter.inner.keys),
            Self::Handle(key) => *key,
        }
    }
}

impl Office {
    /// Whom a body names.
    pub(super) fn whom(&self, body: &Map<String, Value>) -> Result<Identity<'static>, Problem> {
        match one_of(&FIELDS, |field| body.contains_key(field))? {
            "address" => address(&text(body, "address")?),
            "api_key" => Ok(Identity::api_key(text(body, "api_key")?)),
            "header" => header(&body["header"]),
            _ => self.client(&text(body, "client_id")?),
        }
    }

    /// Whom a query names.
    pub(super) fn whom_asked(&self, asked: &Asked) -> Result<Whom, Problem> {
        let (parameter, value) = the_only(&PARAMETERS, asked)?;
        self.whom_named(parameter, &value)
    }

    /// Whom a parameter of a query names.
    pub(super) fn whom_named(&self, parameter: &str, value: &str) -> Result<Whom, Problem> {
        match parameter {
            "client_id" => self.client(value).map(Whom::Identity),
            "address" => address(value).map(Whom::Identity),
            _ => key_of(value)
                .map(Whom::Handle)
                .ok_or_else(|| Problem::bad("handle", "the 32 hexadecimal digits of a list are accepted")),
        }
    }

    pub(super) fn client(&self, id: &str) -> Result<Identity<'static>, Problem> {
        self.clients.check_id(id)?;
        Ok(Identity::name(id.to_owned()))
    }
}

/// The only one of these parameters that is in a query, and its value.
pub(super) fn the_only<'a>(parameters: &[&'a str], asked: &Asked) -> Result<(&'a str, String), Problem> {
    let values: Vec<_> = parameters.iter().map(|name| asked.query(name)).collect::<Result<_, _>>()?;
    let mut there = parameters.iter().zip(values).filter_map(|(name, value)| Some((*name, value?)));
    there.next().filter(|_| there.next().is_none()).ok_or_else(|| not_one_of(parameters))
}

/// The only field that is there.
fn one_of<'a>(fields: &[&'a str], is_there: impl Fn(&str) -> bool) -> Result<&'a str, Problem> {
    let mut there = fields.iter().filter(|field| is_there(field));
    match (there.next(), there.next()) {
        (Some(field), None) => Ok(field),
        _ => Err(not_one_of(fields)),
    }
}

fn not_one_of(fields: &[&str]) -> Problem {
    Problem::bad(fields[0], &format!("exactly one of {} is required", fields.join(", ")))
}

fn address(text: &str) -> Result<Identity<'static>, Problem> {
    let ip = text.parse::<IpAddr>().map_err(|_| {
        Problem::bad("address", "an address is accepted, like 192.0.2.7 or 2001:db8::1; networks go on lists")
    })?;
    Ok(Identity::address(ip))
}

fn header(value: &Value) -> Result<Identity<'static>, Problem> {
    let wrong = || Problem::bad("header", "an object of its name and value is accepted");
    let fields = value.as_object().filter(|fields| fields.len() == 2).ok_or_else(wrong)?;
    let field = |name| fields.get(name).and_then(Value::as_str);
    let name = field("name").and_then(|name| name.parse::<HeaderName>().ok()).ok_or_else(wrong)?;
    let value = field("value").filter(|value| !value.is_empty()).ok_or_else(wrong)?;
    Ok(Identity::header(name, value.to_owned()))
}

/// What lists call somebody by.
pub(super) fn handle(key: Key) -> String {
    format!("{:032x}", u128::from_be_bytes(key.to_bytes()))
}

fn key_of(handle: &str) -> Option<Key> {
    let is_handle = handle.len() == 32 && handle.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bits = u128::from_str_radix(handle, 16).ok().filter(|_| is_handle)?;
    Some(Key::new((bits >> 64) as u64, bits as u64))
}
