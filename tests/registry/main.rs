//! Clients and what they were granted.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod bans;
mod by_hand;
mod distant;
mod granted;
mod guesses;
mod live;
mod overrides;
mod records;
mod unknown;
mod waiting;
