use crate::Rate;
use std::time::Duration;

/// What a limit says after a charge: a client's debt, and whether the charge fits.
///
/// Debt is time: how long, from the moment of the decision, until nothing is owed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    debt: u64,
    wait: u64,
}

/// `wait` of a charge that no amount of waiting would make fit.
const NEVER: u64 = u64::MAX;

impl Reading {
    /// The charge fits; `debt` is what is owed with it.
    pub const fn allowed(debt: Duration) -> Self {
        Self::allowed_ns(nanos(debt))
    }

    /// The charge does not fit before `wait` is over; `debt` is what is owed without it.
    pub const fn refused(debt: Duration, wait: Duration) -> Self {
        Self::refused_ns(nanos(debt), nanos(wait))
    }

    /// The charge can never fit, because it costs more than the limit's burst.
    pub const fn never(debt: Duration) -> Self {
        Self::never_ns(nanos(debt))
    }

    pub(crate) const fn never_ns(debt: u64) -> Self {
        Self { debt, wait: NEVER }
    }

    pub(crate) const fn allowed_ns(debt: u64) -> Self {
        Self { debt, wait: 0 }
    }

    /// A wait of nothing would read as allowed, so it is at least a nanosecond.
    pub(crate) const fn refused_ns(debt: u64, wait: u64) -> Self {
        Self { debt, wait: if wait == 0 { 1 } else { wait } }
    }

    /// Whether the charge fits.
    pub const fn is_allowed(&self) -> bool {
        self.wait == 0
    }

    /// Whether the charge costs more than the limit ever admits.
    pub const fn is_never(&self) -> bool {
        self.wait == NEVER
    }

    /// How long until nothing is owed any more, in nanoseconds.
    #[cfg(feature = "redis")]
    pub(crate) const fn debt_ns(&self) -> u64 {
        self.debt
    }

    /// The longest wait is the tightest, and then the largest debt.
    pub(crate) const fn tightness(&self) -> (u64, u64) {
        (self.wait, self.debt)
    }

    /// How long until the charge would fit, if nothing else is charged; nothing where it fits now or never will.
    pub const fn retry_after(&self) -> Option<Duration> {
        if self.wait == 0 || self.wait == NEVER { None } else { Some(Duration::from_nanos(self.wait)) }
    }

    /// How long until nothing is owed any more.
    pub const fn reset_after(&self) -> Duration {
        Duration::from_nanos(self.debt)
    }

    /// The units that can be spent now at `rate`.
    pub const fn remaining(&self, rate: Rate) -> u32 {
        // At most `burst`, because the debt is at least 0.
        (rate.full_ns().saturating_sub(self.debt) / rate.interval_ns()) as u32
    }

    /// How long until one unit more than `remaining` can be spent; nothing where the whole burst is there.
    pub const fn next_after(&self, rate: Rate) -> Option<Duration> {
        match self.levels(rate).1 {
            Some(nanos) => Some(Duration::from_nanos(nanos)),
            None => None,
        }
    }

    /// `remaining`, and `next_after` in nanoseconds.
    pub(crate) const fn levels(&self, rate: Rate) -> (u32, Option<u64>) {
        let remaining = self.remaining(rate);
        if self.debt == 0 {
            return (remaining, None);
        }
        let more = (remaining as u64 + 1) * rate.interval_ns();
        (remaining, Some(self.debt.saturating_add(more).saturating_sub(rate.full_ns())))
    }
}

/// Whole nanoseconds, at most 584 years.
const fn nanos(time: Duration) -> u64 {
    let nanos = time.as_nanos();
    if nanos > NEVER as u128 { NEVER } else { nanos as u64 }
}
