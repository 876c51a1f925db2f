//! What callers see.
#![allow(clippy::unwrap_used, clippy::panic)]

mod fields;
mod refusal;

use super::*;
use crate::{LimitStatus, Quota, Rate, Reading, Rejection, RequestHead, live::QuotaCell};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};
use sfv::{BareItem, Item, List, ListEntry, Parser};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const SECOND: u64 = 1_000_000_000;
const QUOTA: Quota = Quota::per(100, Duration::from_secs(60));

fn status(limit: &str, rate: Rate, reading: Reading) -> LimitStatus<'static> {
    let (words, quota) = (
        Box::leak(Box::new(words(limit, QUOTA, rate, None))),
        Box::leak(Box::new(QuotaCell::new(QUOTA, rate))),
    );
    LimitStatus { rule: "rule", words, quota, rate, reading, shadow: false, own: false }
}

fn allowed(limit: &str, interval: u64, burst: u32, debt: u64) -> LimitStatus<'static> {
    status(limit, Rate::for_test(interval, burst), Reading::allowed_ns(debt))
}

fn refused(limit: &str, wait: Duration) -> LimitStatus<'static> {
    let rate = Rate::for_test(60 * SECOND, 100);
    status(limit, rate, Reading::refused(Duration::from_nanos(rate.full_ns()), wait))
}

fn written(style: HeaderStyle, statuses: &[LimitStatus<'_>]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    write(style, statuses, &[], None, || UNIX_EPOCH + Duration::from_millis(1_000_500), &mut headers);
    headers
}

/// Every line of a List field, as another implementation reads it.
fn parsed(headers: &HeaderMap, field: &str) -> Vec<(String, Vec<(String, i64)>)> {
    let lines: Vec<_> = headers.get_all(field).iter().map(HeaderValue::as_bytes).collect();
    let list: List = Parser::new(&lines.join(&b","[..])).parse().unwrap();
    list.into_iter().map(member).collect()
}

fn member(entry: ListEntry) -> (String, Vec<(String, i64)>) {
    let ListEntry::Item(Item { bare_item: BareItem::String(name), params }) = entry else {
        panic!("{entry:?} is no String")
    };
    let number = |value: &BareItem| i64::from(value.as_integer().unwrap());
    (name.into(), params.iter().map(|(key, value)| (key.to_string(), number(value))).collect())
}

fn lines<'a>(headers: &'a HeaderMap, field: &str) -> Vec<&'a str> {
    headers.get_all(field).iter().map(|line| line.to_str().unwrap()).collect()
}

fn any_rate() -> impl Strategy<Value = Rate> {
    let interval =
        prop_oneof![1..=20 * SECOND, 1..=365 * 86_400 * SECOND, (0..55u32).prop_map(|bits| 1 << bits)];
    (interval, any::<u64>(), 0..32u32).prop_map(|(interval, burst, bits)| {
        let most = ((1u64 << 62) / interval).min(u32::MAX.into()).min(1 << bits);
        Rate::for_test(interval, (burst % most + 1) as u32)
    })
}

fn answer(
    style: &RefusalStyle,
    refusal: &Refusal<'_>,
    content_type: Option<&'static str>,
) -> Response<Bytes> {
    let mut request = http::Request::post("/").body(()).unwrap();
    request
        .headers_mut()
        .extend(content_type.map(|text| (http::header::CONTENT_TYPE, HeaderValue::from_static(text))));
    style.respond(refusal, RequestHead::new(&request), HeaderStyle::Draft10, SystemTime::now)
}

fn problem(response: &Response<Bytes>) -> Value {
    assert_eq!(lines(response.headers(), "content-type"), ["application/problem+json"]);
    assert_eq!(lines(response.headers(), "cache-control"), ["no-store"]);
    serde_json::from_slice(response.body()).unwrap()
}
