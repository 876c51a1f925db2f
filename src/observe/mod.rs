//! The sinks of events.

#[cfg(feature = "metrics")]
#[cfg_attr(not(feature = "pace"), allow(dead_code, reason = "what is sent has metrics too"))]
mod metrics;
mod trace;
#[cfg(not(feature = "metrics"))]
mod unmetered;

use crate::{Event, Observe};
#[cfg(all(feature = "metrics", feature = "pace"))]
pub(crate) use metrics::PacerGauges;
#[cfg(feature = "metrics")]
pub(crate) use metrics::{LimiterGauges, Meters};
use std::sync::Arc;
pub(crate) use trace::TARGET;
#[cfg(not(feature = "metrics"))]
pub(crate) use unmetered::Meters;

#[cfg(feature = "metrics")]
use metrics::count;
#[cfg(not(feature = "metrics"))]
use unmetered::count;

/// Tells everybody of an event; `pacer` is the pacer that it happened to, if that is known.
pub(crate) fn tell(observers: &[Arc<dyn Observe>], event: &Event<'_>, pacer: Option<&str>) {
    trace::trace(event);
    count(event, pacer);
    for observer in observers {
        observer.observe(event);
    }
}

/// What a rule said to a request: the last of these that any of its limits did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Said {
    Allowed,
    ShadowRefused,
    Refused,
}
