//! Events as `tracing` events.

use crate::event::{Event, Occasion};
use tracing::{info, trace, warn};

/// Nothing of an allowed request is above TRACE. Paths and secrets are never written, only templates and fingerprints.
pub(crate) fn trace(event: &Event<'_>) {
    match event {
        Event::Allowed(occasion) => {
            trace!(client = %occasion.client(), route = occasion.route, "allowed");
        }
        Event::Refused(occasion) | Event::ShadowRefused(occasion) => violations(occasion),
        Event::Blocked(occasion) => info!(
            method = occasion.method.map(|method| method.as_str()),
            route = occasion.route,
            client = %occasion.client(),
            "blocked"
        ),
        Event::Rejected { occasion, reason } => rejection(occasion, reason, "rejected"),
        Event::ShadowRejected { occasion, reason } => rejection(occasion, reason, "would be rejected"),
        Event::StoreFailed { occasion, error } => {
            warn!(
                method = occasion.method.map(|method| method.as_str()),
                route = occasion.route,
                error,
                "store failed"
            );
        }
        Event::Anonymous { cause } => warn!("{cause}"),
        Event::UntrustedProxy { advice } => warn!("{advice}"),
        Event::QuotaChanged { limit, old, new } => info!(limit, %old, %new, "quota changed"),
    }
}

fn rejection(occasion: &Occasion<'_>, reason: &str, what: &str) {
    info!(method = occasion.method.map(|method| method.as_str()), route = occasion.route, reason, "{what}");
}

fn violations(occasion: &Occasion<'_>) {
    for limit in occasion.violated() {
        let what = if limit.shadow { "would be refused" } else { "refused" };
        info!(
            method = occasion.method.map(|method| method.as_str()),
            route = occasion.route,
            rule = limit.rule,
            limit = limit.limit,
            quota = %limit.quota,
            retry_after = limit.reading.retry_after().map(|wait| wait.as_secs_f64()),
            client = %occasion.client(),
            "{what}"
        );
    }
}
