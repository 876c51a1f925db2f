//! What an answer says of when to come back.

use http::{
    HeaderMap, HeaderName,
    header::{DATE, RETRY_AFTER},
};
use std::time::{Duration, SystemTime};

static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The longest wait that an answer asks for, by `Retry-After` (RFC 9110, seconds or a date) and by each limit in `RateLimit`
/// (draft 10) of which nothing remains. What cannot be read says nothing.
pub(in super::super) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let after = text(headers, &RETRY_AFTER).filter_map(|value| retry_after(value.trim(), headers));
    let spent = limits(headers).filter(|(remaining, _)| *remaining <= 0).map(|(_, time)| time);
    after.chain(spent).max()
}

/// Of the limits in `RateLimit` of which something remains, the one that admits the least in its time: what remains, and the
/// time.
pub(super) fn remaining(headers: &HeaderMap) -> Option<(u64, Duration)> {
    let some = limits(headers).filter_map(|(remaining, time)| Some((u64::try_from(remaining).ok()?, time)));
    some.filter(|(remaining, _)| *remaining > 0)
        .max_by_key(|(remaining, time)| time.as_nanos() / u128::from(*remaining))
}

fn text<'a>(headers: &'a HeaderMap, name: &'a HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
}

fn limits(headers: &HeaderMap) -> impl Iterator<Item = (i64, Duration)> {
    text(headers, &RATE_LIMIT).flat_map(|value| split(value, ',')).filter_map(limit)
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

/// `"name";r=3;t=30`: 3 remain, and more come in 30 seconds.
fn limit(member: &str) -> Option<(i64, Duration)> {
    let params = split(member, ';').into_iter().skip(1);
    let (mut remaining, mut time) = (None, None);
    for param in params {
        match param.trim().split_once('=') {
            Some(("r", value)) => remaining = value.parse().ok(),
            Some(("t", value)) => time = value.parse().ok(),
            _ => {}
        }
    }
    remaining.zip(time.map(Duration::from_secs))
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
