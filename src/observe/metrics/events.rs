//! What is told as events, and seldom enough to be found by name each time.

use super::names;
use crate::{Event, StoreChange};
use metrics::{Label, SharedString, counter, gauge, histogram};

/// Counts an event; `pacer` is the pacer that it happened to, if that is known.
pub(crate) fn count(event: &Event<'_>, pacer: Option<&str>) {
    let labels: Vec<Label> = pacer.map(|name| Label::new("pacer", name.to_owned())).into_iter().collect();
    let with = |name: &'static str, value: &str| {
        let mut labels = labels.clone();
        labels.push(Label::new(name, SharedString::from_owned(value.to_owned())));
        labels
    };
    match event {
        Event::Rejected { .. } => counter!(names::REJECTED).increment(1),
        Event::Blocked(_) => counter!(names::BLOCKED).increment(1),
        Event::Banned { .. } => counter!(names::BANS).increment(1),
        Event::ClientCreated { .. } => counter!(names::CLIENTS_CREATED).increment(1),
        Event::StoreFailed { kind, .. } => counter!(names::STORE_ERRORS, "kind" => *kind).increment(1),
        Event::WithoutStore { kind, .. } => {
            counter!(names::STORE_ERRORS, "kind" => *kind).increment(1);
            counter!(names::WITHOUT_STORE).increment(1);
        }
        Event::Store(change) => store(change),
        Event::Diverted => counter!(names::SEND_DIVERTED, labels).increment(1),
        Event::Answered { took, refused, error } => {
            if let Some(error) = error {
                counter!(names::SEND_ERRORS, with("error", error)).increment(1);
            }
            if *refused {
                counter!(names::SEND_REFUSED, labels.clone()).increment(1);
            }
            if let Some(took) = took {
                histogram!(names::SEND_SECONDS, labels).record(*took);
            }
        }
        Event::Batched { items, bytes } => {
            histogram!(names::BATCH_ITEMS, labels.clone()).record(*items as f64);
            histogram!(names::BATCH_BYTES, labels).record(*bytes as f64);
        }
        Event::Paused { .. } => counter!(names::PAUSES, labels).increment(1),
        Event::FactorChanged { new, .. } => gauge!(names::FACTOR, labels).set(*new),
        Event::BreakerOpened { .. } => gauge!(names::SEND_OPEN, labels).set(1),
        Event::BreakerClosed { .. } => gauge!(names::SEND_OPEN, labels).set(0),
        Event::Retried { wait, .. } => {
            counter!(names::RETRIES, labels.clone()).increment(1);
            histogram!(names::BACKOFF_SECONDS, labels).record(*wait);
        }
        Event::GivenUp { reason, .. } => counter!(names::GIVEN_UP, with("reason", reason)).increment(1),
        _ => {}
    }
}

fn store(change: &StoreChange<'_>) {
    match change {
        StoreChange::Joined { instances } => {
            gauge!(names::STORE_OPEN).set(0);
            gauge!(names::STORE_INSTANCES).set(*instances);
        }
        StoreChange::Opened { .. } => gauge!(names::STORE_OPEN).set(1),
        _ => {}
    }
}
