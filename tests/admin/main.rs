//! The admin API over real sockets: each path, field and status.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)]

mod access;
mod bans;
mod changes;
mod clients;
mod document;
mod lists;
mod stage;
