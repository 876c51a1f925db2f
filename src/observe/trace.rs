//! Events as `tracing` events.

use crate::event::{Event, Occasion};
use std::time::Duration;
use tracing::{info, trace, warn};

/// What users filter by, wherever in the crate an event comes from.
pub(crate) const TARGET: &str = "tidegate";

/// Nothing of an allowed request is above TRACE. Paths and secrets are never written, only templates and fingerprints.
pub(crate) fn trace(event: &Event<'_>) {
    match event {
        Event::Allowed(occasion) => {
            trace!(target: TARGET, client = %occasion.client(), route = occasion.route, "allowed");
        }
        Event::Waited { occasion, waited } => {
            let waited = seconds(*waited);
            trace!(target: TARGET, client = %occasion.client(), route = occasion.route, waited, "waited");
        }
        Event::ShadowWaited { occasion, wait } => {
            let wait = seconds(*wait);
            info!(target: TARGET, client = %occasion.client(), route = occasion.route, wait, "would wait");
        }
        Event::Refused(occasion) | Event::ShadowRefused(occasion) => violations(occasion),
        Event::Blocked(occasion) => info!(
            target: TARGET,
            method = method(occasion),
            route = occasion.route,
            client = %occasion.client(),
            "blocked"
        ),
        Event::Rejected { occasion, reason } => rejection(occasion, reason, "rejected"),
        Event::ShadowRejected { occasion, reason } => rejection(occasion, reason, "would be rejected"),
        Event::StoreFailed { occasion, error } => {
            warn!(
                target: TARGET,
                method = method(occasion),
                route = occasion.route,
                error,
                "store failed"
            );
        }
        Event::Anonymous { cause } => warn!(target: TARGET, "{cause}"),
        Event::UntrustedProxy { advice } => warn!(target: TARGET, "{advice}"),
        Event::QuotaChanged { limit, old, new } => info!(target: TARGET, limit, %old, %new, "quota changed"),
    }
}

fn rejection(occasion: &Occasion<'_>, reason: &str, what: &str) {
    info!(target: TARGET, method = method(occasion), route = occasion.route, reason, "{what}");
}

fn violations(occasion: &Occasion<'_>) {
    for limit in occasion.violated() {
        let what = if limit.shadow { "would be refused" } else { "refused" };
        info!(
            target: TARGET,
            method = method(occasion),
            route = occasion.route,
            rule = limit.rule,
            limit = limit.limit(),
            quota = %limit.quota(),
            retry_after = limit.reading.retry_after().map(seconds),
            client = %occasion.client(),
            "{what}"
        );
    }
}

/// To the millisecond, rounded up: more digits would only be in the way.
fn seconds(wait: Duration) -> f64 {
    wait.as_nanos().div_ceil(1_000_000) as f64 / 1_000.0
}

/// A method can be a token of any length, which is nothing for a log.
fn method<'a>(occasion: &Occasion<'a>) -> Option<&'a str> {
    occasion.method.map(|method| if method.as_str().len() <= 16 { method.as_str() } else { "other" })
}
