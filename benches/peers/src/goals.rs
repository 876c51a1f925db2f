//! What the limiter is meant to reach, as the most that a ratio to a peer may be.

use crate::{
    measure::Law,
    work::{Drive, Identity},
};

/// Where a row was measured.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) identity: Identity,
    pub(crate) keys: u32,
    pub(crate) law: Law,
    pub(crate) threads: usize,
    pub(crate) drive: Drive,
}

/// Goals are about clients that come equally often; what Zipf's law makes of them is told without one.
pub(crate) fn layer(setting: Setting, case: &str, peer: &str) -> Option<f64> {
    if setting.law == Law::Zipf {
        return None;
    }
    let by_address = setting.identity == Identity::Address;
    match (case, peer, setting.threads, setting.keys) {
        ("allowed", "tower_governor", 1, 1 | 100_000) if by_address => Some(0.8),
        ("allowed", "tower_governor", 2, 100_000) if by_address => Some(0.6),
        ("allowed", "tower_governor", 2, 1) if by_address => Some(0.5),
        ("allowed", crate::subjects::GOVERNOR_STRING, 1, 100_000) => Some(0.5),
        ("two limits", "allowed", 1, _) if by_address => Some(1.25),
        ("two limits", "tower_governor", 2, 1) if by_address => Some(1.0),
        ("allowed, headers", "tower_governor, headers", ..) if by_address => Some(0.5),
        ("two limits, headers", "axum_gcra", ..) if by_address => Some(1.0),
        ("refused", "tower_governor, refused", ..) if by_address => Some(0.02),
        ("refused", "allowed, headers", ..) if by_address => Some(2.0),
        _ => None,
    }
}

/// Beside governor's `check_key` with addresses.
pub(crate) fn decision(keys: u32, law: Law) -> Option<f64> {
    (keys == 1_000_000 && law == Law::Uniform).then_some(0.75)
}

/// Allocations a request; `map` is what a header map takes for two fields whose values are there already.
pub(crate) fn allocations(case: &str, map: f64) -> Option<f64> {
    match case {
        "allowed" | "two limits" => Some(0.0),
        "allowed, headers" => Some(map + 1.0),
        "refused" => Some(6.0),
        _ => None,
    }
}

pub(crate) const BYTES_A_CLIENT: f64 = 32.0;

/// The share of owing clients that may be forgotten early, at a share of the capacity.
pub(crate) const FORGOTTEN: [(f64, f64); 3] = [(0.5, 0.0), (0.75, 0.000_1), (0.95, 0.005)];

/// Resident memory to the stated cap in a flood.
pub(crate) const FLOOD_MEMORY: f64 = 1.05;
pub(crate) const FLOOD_P9999_NS: f64 = 5_000.0;
/// The longest call in a flood, in CPU time of its thread.
pub(crate) const FLOOD_LONGEST_NS: f64 = 1_000_000.0;

/// What a client's being registered may add to a decision, beside governor's.
#[cfg(feature = "registry")]
pub(crate) const REGISTERED: f64 = 0.3;
/// What is stated of a client's record in memory, and of what a limiter keeps of a client that came.
#[cfg(feature = "registry")]
pub(crate) const BYTES_A_RECORD: f64 = 500.0;
#[cfg(feature = "registry")]
pub(crate) const BYTES_A_GRANT: f64 = 500.0;
#[cfg(feature = "registry")]
pub(crate) const PAGE_MS: f64 = 50.0;
/// 1,000 updates a second.
#[cfg(feature = "registry")]
pub(crate) const UPDATE_US: f64 = 1_000.0;

/// What a send that may go at once costs over the bare service.
#[cfg(feature = "pace")]
pub(crate) const SEND_NS: f64 = 150.0;
/// A million a second, within 5 %.
#[cfg(feature = "pace")]
pub(crate) const MILLION_NS: f64 = 1_050.0;
/// 100,000 waiting sends within 100 MB.
#[cfg(feature = "pace")]
pub(crate) const BYTES_A_WAITING_SEND: f64 = 1_000.0;
/// As many wake-ups as sends.
#[cfg(feature = "pace")]
pub(crate) const WAKE_UPS: f64 = 1.0;
/// Of the time of Redis's own load generator with the barest script: nine tenths of its calls.
#[cfg(feature = "redis")]
pub(crate) const EXACT: f64 = 1.111;
/// Of Redis's processor for the barest script.
#[cfg(feature = "redis")]
pub(crate) const CPU_ONE: f64 = 1.25;
#[cfg(feature = "redis")]
pub(crate) const CPU_THREE: f64 = 2.5;
/// Of a refusal by the embedded engine.
#[cfg(feature = "redis")]
pub(crate) const KNOWN: f64 = 1.5;
#[cfg(feature = "redis")]
pub(crate) const BYTES_STORED: f64 = 120.0;

/// How much a count of instructions may grow over its baseline.
pub(crate) const INSTRUCTIONS: f64 = 1.05;
