//! The admin API over real sockets: each path, field and status.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)]

mod access;
mod banned;
mod bans;
mod changes;
mod clients;
mod concurrency;
mod document;
mod faults;
mod lists;
mod registry;
mod stage;
