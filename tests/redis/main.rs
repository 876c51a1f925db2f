//! Counting in Redis: against an exact model, what goes wrong in the server, and what becomes of requests without it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, unreachable_pub)]

mod cluster;
mod counting;
#[cfg(feature = "axum")]
mod example;
mod leases;
mod model;
mod outage;
mod permits;
mod refusals;
mod registry;
mod rotation;
mod secret;
mod server;
mod settings;
mod slots;
mod stage;
#[cfg(feature = "redis-tls")]
mod tls;
