//! The tests of the admin API once more, with clients in Redis: nothing else differs.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)]

#[path = "../admin/access.rs"]
mod access;
#[path = "../admin/banned.rs"]
mod banned;
#[path = "../admin/bans.rs"]
mod bans;
#[path = "../admin/changes.rs"]
mod changes;
#[path = "../admin/clients.rs"]
mod clients;
#[path = "../admin/concurrency.rs"]
mod concurrency;
#[path = "../admin/document.rs"]
mod document;
#[path = "../admin/faults.rs"]
mod faults;
#[path = "../admin/lists.rs"]
mod lists;
#[path = "../redis/stage.rs"]
mod redis_stage;
mod registry;
#[path = "../admin/stage.rs"]
mod stage;
