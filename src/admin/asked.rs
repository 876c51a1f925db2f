//! What a request to the admin API asks for.

use super::{auth::Actor, problem::Problem};
use crate::{identity::query, registry::whole_number};
use axum::{
    body::to_bytes,
    extract::Request,
    http::{StatusCode, Uri},
};
use serde_json::{Map, Value};
use std::time::Duration;

/// The most bytes that a body may have.
const LONGEST_BODY: usize = 256 << 10;

/// A hundred years.
pub(super) const MOST_SECONDS: u64 = 3_153_600_000;

/// A request that was admitted.
pub(super) struct Asked {
    pub(super) actor: Actor,
    uri: Uri,
}

impl Asked {
    /// A request whose body does not matter.
    pub(super) fn new(request: &Request) -> Self {
        let nobody = || Actor { name: "nobody".to_owned(), from: None };
        let actor = request.extensions().get::<Actor>().cloned().unwrap_or_else(nobody);
        Self { actor, uri: request.uri().clone() }
    }

    /// A request and the object of JSON in its body.
    pub(super) async fn with_body(request: Request) -> Result<(Self, Map<String, Value>), Problem> {
        let asked = Self::new(&request);
        let bytes = to_bytes(request.into_body(), LONGEST_BODY).await.map_err(|_| {
            let detail = format!("the body could not be read, or has more than {LONGEST_BODY} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        })?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(body)) => Ok((asked, body)),
            Ok(_) => Err(Problem::bad("body", "an object of JSON is accepted")),
            Err(error) => Err(Problem::bad("body", &format!("it is no JSON: {error}"))),
        }
    }

    /// A parameter of the query, decoded; it may stand there once.
    pub(super) fn query(&self, name: &str) -> Result<Option<String>, Problem> {
        match query(&self.uri, name) {
            Ok(value) => value
                .map(|value| String::from_utf8(value.into_owned()))
                .transpose()
                .map_err(|_| Problem::bad(name, "it is no UTF-8")),
            Err(_) => Err(Problem::bad(name, "it is empty or stands there twice")),
        }
    }

    pub(super) fn required(&self, name: &str) -> Result<String, Problem> {
        self.query(name)?.ok_or_else(|| Problem::bad(name, "this query parameter is required"))
    }
}

/// A text in a body.
pub(super) fn text(body: &Map<String, Value>, field: &str) -> Result<String, Problem> {
    match body.get(field) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(_) => Err(Problem::bad(field, "a string that is not empty is accepted")),
        None => Err(Problem::bad(field, "this field is required")),
    }
}

/// A number of seconds in a body, from `least` to a hundred years.
pub(super) fn seconds(value: &Value, field: &str, least: u64) -> Result<Duration, Problem> {
    let seconds = whole_number(value).filter(|seconds| (least..=MOST_SECONDS).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| {
        Problem::bad(field, &format!("a whole number of seconds from {least} to {MOST_SECONDS} is accepted"))
    })
}

/// Refuses fields that nobody knows, because they may be meant for one that somebody does.
pub(super) fn only(body: &Map<String, Value>, known: &[&str]) -> Result<(), Problem> {
    match body.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Problem::bad(name, &format!("no such field; {} are accepted", known.join(", ")))),
        None => Ok(()),
    }
}
