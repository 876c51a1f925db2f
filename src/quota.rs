//! How much, how fast.

use crate::QuotaError;
use std::{num::NonZeroU32, time::Duration};

/// So many units a period, with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    amount: u64,
    period: Duration,
    burst: Option<u64>,
    strict: bool,
}

impl Quota {
    /// `amount` units in each `period`.
    pub const fn per(amount: u64, period: Duration) -> Self {
        Self { amount, period, burst: None, strict: false }
    }
    /// stub
    pub fn rate(&self) -> Result<Rate, QuotaError> {
        Err(QuotaError::new("stub"))
    }
}

/// A quota as it is counted: whole nanoseconds a unit, and how many units fit at once.
///
/// `interval * burst` is at most 2^62 ns (146 years), so no sum of a time and a debt overflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    interval: u64,
    burst: NonZeroU32,
}

impl Rate {
    /// The time that it takes until one unit is there again.
    pub const fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval)
    }
    /// The units that can be spent at once.
    pub const fn burst(&self) -> NonZeroU32 {
        self.burst
    }
    /// The interval in nanoseconds, at least 1.
    pub(crate) const fn interval_ns(&self) -> u64 {
        self.interval
    }
    /// The time in nanoseconds that an empty bucket takes to fill.
    pub(crate) const fn full_ns(&self) -> u64 {
        self.interval * self.burst.get() as u64
    }
}
