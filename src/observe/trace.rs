//! Events as `tracing` events.

mod sent;

use crate::{
    StoreChange,
    event::{Event, Occasion},
};
use std::time::Duration;
use tracing::{debug, info, trace, warn};

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
        Event::Answered { .. }
        | Event::Batched { .. }
        | Event::Diverted
        | Event::Shed { .. }
        | Event::Paused { .. }
        | Event::FactorChanged { .. }
        | Event::ScrapeFailed { .. }
        | Event::BreakerOpened { .. }
        | Event::BreakerClosed { .. }
        | Event::Retried { .. }
        | Event::GivenUp { .. } => sent::trace(event),
        Event::Refused(occasion) | Event::ShadowRefused(occasion) => violations(occasion),
        Event::Blocked(occasion) => info!(
            target: TARGET,
            method = method(occasion),
            route = occasion.route,
            client = %occasion.client(),
            "blocked"
        ),
        Event::Banned { occasion, time, times } => info!(
            target: TARGET,
            method = method(occasion),
            route = occasion.route,
            client = %occasion.client(),
            seconds = seconds(*time),
            times,
            "banned"
        ),
        Event::Released(occasion) => info!(target: TARGET, client = %occasion.client(), "released"),
        Event::Rejected { occasion, reason } => rejection(occasion, reason, "rejected"),
        Event::ShadowRejected { occasion, reason } => rejection(occasion, reason, "would be rejected"),
        Event::StoreFailed { occasion, kind, error } => {
            warn!(
                target: TARGET,
                method = method(occasion),
                route = occasion.route,
                kind,
                error,
                "store failed"
            );
        }
        // Each time a request comes while the store is down; that it is, is told once.
        Event::WithoutStore { error, .. } => debug!(target: TARGET, error, "decided without the store"),
        Event::Store(change) => store(change),
        Event::Anonymous { cause } => warn!(target: TARGET, "{cause}"),
        Event::UntrustedProxy { advice } => warn!(target: TARGET, "{advice}"),
        Event::ConcurrencyChanged { limit, old, new } => {
            info!(target: TARGET, limit, old, new, "concurrency changed");
        }
        Event::PolicyChanged { rules } => info!(target: TARGET, rules, "policy changed"),
        Event::ListChanged { list, old, new } => info!(target: TARGET, list, old, new, "list changed"),
        Event::ClientCreated { client_id } => info!(target: TARGET, client_id, "client created"),
        Event::Fallback { client_id, uses } => warn!(
            target: TARGET,
            client_id,
            uses,
            "requests without a client id are counted for the fallback client"
        ),
        Event::Override { client_id, wanted, refused } => info!(
            target: TARGET,
            client_id,
            wanted = wanted.map(tracing::field::debug),
            refused,
            "override"
        ),
        Event::Admin(act) => info!(
            target: TARGET,
            actor = act.actor(),
            from = %act.from(),
            action = act.action(),
            subject = act.subject(),
            old = act.before(),
            new = act.after(),
            "admin"
        ),
        Event::AdminRefused { act, status, reason } => {
            warn!(target: TARGET, from = %act.from(), status, reason, "admin refused");
        }
        Event::QuotaChanged { limit, old, new } => info!(target: TARGET, limit, %old, %new, "quota changed"),
    }
}

fn store(change: &StoreChange<'_>) {
    match change {
        StoreChange::Joined { instances } => info!(target: TARGET, instances, "store joined"),
        StoreChange::Unreachable { error } => warn!(target: TARGET, error, "store unreachable"),
        StoreChange::Lost { error } => warn!(target: TARGET, error, "store lost"),
        StoreChange::Opened { error } => warn!(target: TARGET, error, "store not asked any more"),
        StoreChange::Barred { error } => tracing::error!(target: TARGET, error, "kept out of the store"),
        StoreChange::PermitsLost { permits } => {
            warn!(target: TARGET, permits, "permits not counted any more")
        }
        StoreChange::Advice { advice } => warn!(target: TARGET, "{advice}"),
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
    for permit in occasion.violated_permits() {
        let what = if permit.shadow { "would be refused" } else { "refused" };
        info!(
            target: TARGET,
            method = method(occasion),
            route = occasion.route,
            rule = permit.rule,
            limit = permit.limit,
            at_once = permit.max,
            client = %occasion.client(),
            "{what}"
        );
    }
}

/// To the millisecond, rounded up: more digits would only be in the way.
pub(super) fn seconds(wait: Duration) -> f64 {
    wait.as_nanos().div_ceil(1_000_000) as f64 / 1_000.0
}

/// A method can be a token of any length, which is nothing for a log.
fn method<'a>(occasion: &Occasion<'a>) -> Option<&'a str> {
    occasion.method.map(|method| if method.as_str().len() <= 16 { method.as_str() } else { "other" })
}
