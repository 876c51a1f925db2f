//! The sending side, on a manual clock that moves along with tokio's paused time.
#![cfg(feature = "pace")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod at_once;
mod batch;
mod bounds;
mod breaker;
mod distant;
mod feedback;
#[cfg(feature = "retry")]
mod gateway;
mod in_flight;
mod layer;
mod model;
mod order;
mod priority;
mod registry;
#[cfg(feature = "retry")]
mod retry;
#[cfg(feature = "scrape")]
mod scrape;
mod stage;
mod taking;
mod turns;
mod wakes;
