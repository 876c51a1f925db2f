//! A policy and all around it, from a file.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod examples;
mod mistakes;
mod reference;
mod reload;
mod same;
mod schema;
mod stage;
mod variables;
