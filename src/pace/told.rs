//! What an answer says of when to come back.

use http::{
    HeaderMap, HeaderName,
    header::{DATE, RETRY_AFTER},
};
use std::time::{Duration, SystemTime};

static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The longest wait that an answer asks for, by `Retry-After` (RFC 9110, seconds or a date) and by each limit in `RateLimit`
/// (draft 10) of which nothing remains. What cannot be read says nothing.
pub(super) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let after = text(&RETRY_AFTER).filter_map(|value| retry_after(value.trim(), headers));
    let spent = text(&RATE_LIMIT).flat_map(|value| split(value, ',')).filter_map(exhausted);
    after.chain(spent).max()
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

/// `"name";r=0;t=30`: nothing remains, and more comes in 30 seconds.
fn exhausted(member: &str) -> Option<Duration> {
    let params = split(member, ';').into_iter().skip(1);
    let (mut remaining, mut time) = (None, None);
    for param in params {
        match param.trim().split_once('=') {
            Some(("r", value)) => remaining = value.parse::<i64>().ok(),
            Some(("t", value)) => time = value.parse::<u64>().ok(),
            _ => {}
        }
    }
    time.filter(|_| remaining.is_some_and(|remaining| remaining <= 0)).map(Duration::from_secs)
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
