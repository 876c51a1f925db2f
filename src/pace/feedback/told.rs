//! What an answer says of when to come back.

use super::spread::{Limits, Remaining};
use http::{
    HeaderMap, HeaderName,
    header::{DATE, RETRY_AFTER},
};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, SystemTime},
};

static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The longest wait that an answer asks for, by `Retry-After` (RFC 9110, seconds or a date) and by each limit in `RateLimit`
/// (draft 10) of which nothing remains. What cannot be read says nothing.
#[cfg(feature = "retry")]
pub(in super::super) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let spent = limits(headers).filter(|(_, remaining, _)| *remaining <= 0).map(|(.., time)| time);
    pause(headers).into_iter().chain(spent).max()
}

/// How long `Retry-After` asks to stay away.
pub(super) fn pause(headers: &HeaderMap) -> Option<Duration> {
    text(headers, &RETRY_AFTER).filter_map(|value| retry_after(value.trim(), headers)).max()
}

/// What each limit in `RateLimit` says, with its quota from `RateLimit-Policy`.
pub(super) fn remaining(headers: &HeaderMap) -> Limits {
    let known = limits(headers).map(|(name, remaining, reset)| Remaining {
        limit: hash(name),
        units: u64::try_from(remaining).unwrap_or(0),
        reset,
        quota: quota(headers, name),
    });
    known.collect()
}

/// The quota of a limit: `"name";q=100;w=60`, where it counts requests.
fn quota(headers: &HeaderMap, name: &str) -> Option<(u64, Duration)> {
    let members = text(headers, &RATE_LIMIT_POLICY).flat_map(|value| split(value, ','));
    let (mut amount, mut time) = (None, None);
    for (key, value) in
        members.filter_map(named).filter(|(own, _)| *own == name).flat_map(|(_, params)| params)
    {
        match key {
            "q" => amount = value.parse().ok(),
            "w" => time = value.parse().ok(),
            "qu" if value != "\"requests\"" => return None,
            _ => {}
        }
    }
    amount.zip(time.map(Duration::from_secs))
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

fn text<'a>(headers: &'a HeaderMap, name: &'a HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
}

/// Names, what remains and for how long: `"name";r=3;t=30`.
fn limits(headers: &HeaderMap) -> impl Iterator<Item = (&str, i64, Duration)> {
    let members = text(headers, &RATE_LIMIT).flat_map(|value| split(value, ','));
    members.filter_map(named).filter_map(|(name, params)| {
        let (mut remaining, mut time) = (None, None);
        for (key, value) in params {
            match key {
                "r" => remaining = value.parse().ok(),
                "t" => time = value.parse().ok(),
                _ => {}
            }
        }
        Some((name, remaining?, Duration::from_secs(time?)))
    })
}

/// A member of a list, and its parameters.
fn named(member: &str) -> Option<(&str, impl Iterator<Item = (&str, &str)>)> {
    let mut parts = split(member, ';').into_iter();
    let name = parts.next()?.trim();
    Some((name, parts.filter_map(|param| param.trim().split_once('='))))
}

fn retry_after(value: &str, headers: &HeaderMap) -> Option<Duration> {
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a very long time.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    // By the clock of whoever answers, where it tells.
    let date = headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    Some(until.duration_since(date.unwrap_or_else(SystemTime::now)).unwrap_or_default())
}

/// Parts between separators that do not stand in a quoted string (RFC 9651).
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (place, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if c == separator && !quoted => {
                parts.push(&text[start..place]);
                start = place + 1; // separators are ASCII
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}
