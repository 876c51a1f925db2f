//! Requests in numbers. Each label has few values, whatever clients send; a client is never one.

use super::entry::Outturn;
use crate::metrics::{REQUEST_SECONDS, REQUESTS, UPSTREAM_SECONDS};
use ::metrics::{Counter, Histogram, counter, histogram};
use http::Method;
use std::{cell::RefCell, collections::HashMap};

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The number of a method's name; all that are not usual have one together.
pub(super) fn method(method: &Method) -> usize {
    METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1)
}

thread_local! {
    /// A worker's own, so that nobody looks them up by their labels for each request.
    static METERS: RefCell<Meters> = RefCell::default();
}

#[derive(Default)]
struct Meters {
    rules: HashMap<String, Box<[[Option<Counter>; CLASSES.len()]; METHODS.len()]>>,
    times: Option<[Histogram; 2]>,
}

/// Counts a request whose method has this number.
pub(super) fn count(method: usize, outturn: &Outturn<'_>) {
    let rule = outturn.outcome.rule.unwrap_or("none");
    let class = usize::from(outturn.status / 100).clamp(1, CLASSES.len()) - 1;
    // A thread that ends has none.
    let _ = METERS.try_with(|meters| {
        let Meters { rules, times } = &mut *meters.borrow_mut();
        if !rules.contains_key(rule) {
            rules.insert(rule.to_owned(), Box::default());
        }
        let place = rules.get_mut(rule).and_then(|methods| methods.get_mut(method)?.get_mut(class));
        if let Some(counter) = place {
            let new = || counter!(REQUESTS, "rule" => rule.to_owned(), "method" => METHODS[method], "class" => CLASSES[class]);
            counter.get_or_insert_with(new).increment(1);
        }
        let [request, upstream] =
            times.get_or_insert_with(|| [histogram!(REQUEST_SECONDS), histogram!(UPSTREAM_SECONDS)]);
        request.record(outturn.times.total);
        if let Some(time) = outturn.times.upstream {
            upstream.record(time);
        }
    });
}
