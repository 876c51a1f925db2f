//! How long a send has to wait, by what a limit says of its debt.

use crate::{Rate, Reading};
use std::num::NonZeroU32;

/// The finest spacing, in nanoseconds: what falls due within it may go together, because timers are no finer.
const GRAIN: u64 = 2_000_000;
/// So much lateness of a timer is made up for, in nanoseconds.
const LATE: u64 = 10_000_000;

/// How sends that may go are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spacing {
    /// Evenly, as from a leaky bucket.
    Even,
    /// At once, as far as the quota's burst goes.
    Bursts,
}

impl Spacing {
    /// How long, in nanoseconds, until `units` may go after all units `ahead`. Nothing where they never may.
    pub(super) fn wait(self, rate: Rate, reading: Reading, ahead: u64, units: u32) -> Option<u64> {
        if reading.is_never() || units > rate.burst().get() {
            return None;
        }
        if units == 0 {
            return Some(0);
        }
        // At most 2^62, because the units are within the burst.
        let need = rate.interval_ns() * u64::from(units);
        let before = nanos(reading).saturating_add(rate.interval_ns().saturating_mul(ahead));
        Some(before.saturating_add(need).saturating_sub(self.room(rate, need)))
    }

    /// When `units` may go under a limit that has drained by then, in nanoseconds.
    pub(super) fn due(self, rate: Rate, drained: u64, units: u32) -> u64 {
        let need = rate.interval_ns().saturating_mul(units.into());
        if units == 0 { 0 } else { drained.saturating_add(need).saturating_sub(self.room(rate, need)) }
    }

    /// The burst that admits at once no more than may go without waiting. Nothing where `units` never may.
    pub(super) fn burst(self, rate: Rate, units: u32) -> Option<NonZeroU32> {
        match self {
            _ if units > rate.burst().get() => None,
            Self::Even if units > 0 => {
                let together = u32::try_from(GRAIN / rate.interval_ns()).unwrap_or(u32::MAX);
                NonZeroU32::new(together.min(rate.burst().get()).max(units))
            }
            Self::Even | Self::Bursts => Some(rate.burst()),
        }
    }

    /// The most that may be owed after a send that takes so long to drain.
    fn room(self, rate: Rate, need: u64) -> u64 {
        match self {
            Self::Even => need.max(GRAIN.min(rate.full_ns())),
            Self::Bursts => rate.full_ns(),
        }
    }

    /// What is to be given back of a send that was due at `due`, had drained its debt by `drained`, and went at `now`, so
    /// that the next one is not late as well. It is never so much that the quota's burst would be passed.
    pub(super) fn forgive(self, rate: Rate, units: u32, [drained, due, now]: [u64; 3]) -> u64 {
        let need = rate.interval_ns().saturating_mul(units.into());
        match self {
            Self::Even => now
                .saturating_sub(drained.max(due))
                .min(LATE)
                .min(need)
                .min(rate.full_ns().saturating_sub(need)),
            // The burst makes up for it.
            Self::Bursts => 0,
        }
    }
}

/// The debt in nanoseconds.
pub(super) fn nanos(reading: Reading) -> u64 {
    u64::try_from(reading.reset_after().as_nanos()).unwrap_or(u64::MAX)
}
