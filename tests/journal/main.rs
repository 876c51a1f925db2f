//! Clients in a file: what was answered is there after a crash, a damaged file is refused, and only one process writes it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, unreachable_pub)]

mod crash;
mod damage;
mod kept;
mod lock;
mod stage;
