//! Events of the sending side.

use super::{TARGET, seconds};
use crate::event::Event;
use tracing::{debug, error, info, trace, warn};

pub(super) fn trace(event: &Event<'_>) {
    match event {
        Event::Answered { took, refused, error } => {
            trace!(target: TARGET, took = took.map(seconds), refused, error, "answered");
        }
        Event::Batched { items, bytes } => trace!(target: TARGET, items, bytes, "batch"),
        Event::Diverted => debug!(target: TARGET, "diverted"),
        Event::Shed { share } => debug!(target: TARGET, share, "shed"),
        Event::Paused { time } => info!(target: TARGET, seconds = seconds(*time), "paused"),
        Event::FactorChanged { old, new } => info!(target: TARGET, old, new, "factor changed"),
        Event::ScrapeFailed { error } => warn!(target: TARGET, error, "signals not scraped"),
        Event::BreakerOpened { error, time } => {
            error!(target: TARGET, error, seconds = seconds(*time), "errors persist; nothing is sent but probes");
        }
        Event::BreakerClosed { error, after } => {
            info!(target: TARGET, error, after = seconds(*after), "sending again");
        }
        Event::Retried { next, wait } => {
            debug!(target: TARGET, next, seconds = seconds(*wait), "tried again");
        }
        Event::GivenUp { tries, reason } => info!(target: TARGET, tries, reason, "given up"),
        _ => {}
    }
}
