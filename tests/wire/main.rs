//! What crosses a wire, through real servers and clients: with the layer an exchange is what it is without, but for the
//! fields that were asked for, and a refusal costs a connection nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod bans;
mod churn;
mod exchange;
mod peer;
mod permits;
mod refusal;
mod stage;
