//! What one charge finds, and what it would leave.

use super::{
    gcra::Governor,
    line::{Entry, Interval},
};
use crate::store::{Charge, Fit, Op, Reading};
use std::num::NonZeroU32;

/// A charge, and what of its rate is reckoned beforehand.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) charge: Charge,
    governor: Governor,
    interval_ns: u64,
    interval: Interval,
    /// The most that can be owed.
    most_ns: u64,
}

impl Ready {
    #[inline]
    pub(crate) fn new(charge: Charge) -> Self {
        let interval_ns = charge.rate.interval_ns();
        Self {
            charge,
            governor: Governor::new(charge.rate),
            interval_ns,
            interval: Interval::of(interval_ns),
            most_ns: charge.most_ns(),
        }
    }
}

/// What is owed in nanoseconds, in the terms of a charge's rate.
#[derive(Clone, Copy)]
struct Debt {
    nanos: u64,
    /// Whether it was written in other terms. Then it is written anew, even if nothing is charged: a client that was only
    /// refused since a change would else owe on at the old rate, and the wait that it was told would not hold.
    carried: bool,
}

impl Debt {
    /// Debt that was written under another rate is carried over in units, and no rate lets more be owed than it admits.
    /// So nobody stays locked out after a raise, and nobody gets a fresh bucket by a change.
    #[inline(always)]
    fn of(ready: &Ready, entry: Entry, now: u64) -> Self {
        let owed = entry.until.saturating_sub(now);
        if owed == 0 {
            return Self { nanos: 0, carried: false };
        }
        let same_rate = entry.interval == ready.interval;
        let carried = if same_rate {
            owed
        } else {
            let carried =
                (owed as u128 * ready.interval_ns as u128).div_ceil(entry.interval.nanos().max(1) as u128);
            u64::try_from(carried).unwrap_or(u64::MAX)
        };
        let nanos = carried.min(ready.most_ns);
        Self { nanos, carried: !same_rate || nanos != owed }
    }
}

/// What a charge finds and what it would leave, in nanoseconds of debt.
#[derive(Clone, Copy)]
pub(super) struct Outcome {
    before: u64,
    pub(super) carried: bool,
    after: u64,
    /// 0 where it fits, `u64::MAX` where it never will.
    pub(super) wait: u64,
}

impl Outcome {
    pub(super) const NONE: Self = Self { before: 0, carried: false, after: 0, wait: 0 };

    #[inline(always)]
    pub(super) fn of(ready: &Ready, entry: Entry, now: u64) -> Self {
        let Debt { nanos: before, carried } = Debt::of(ready, entry, now);
        let units = |n: u32| ready.interval_ns.saturating_mul(n.into());
        let after = match ready.charge.op {
            Op::Take(cost) | Op::Peek(cost) => match NonZeroU32::new(cost) {
                None => before,
                Some(cost) => match ready.governor.take(before, cost) {
                    Ok(after) => after,
                    Err(wait) => return Self { before, carried, after: before, wait },
                },
            },
            Op::Give(nanos) => before.saturating_sub(nanos),
            Op::Owe(n) => before.saturating_add(units(n)).min(ready.most_ns),
            Op::Clear => 0,
        };
        Self { before, carried, after, wait: 0 }
    }

    /// What the limit says, and the entry if it has to be written.
    #[inline(always)]
    pub(super) fn conclude(&self, ready: &Ready, fit: Fit, now: u64) -> (Reading, Option<Entry>) {
        let applies = match ready.charge.op {
            // Watched limits are counted as if all of them were enforced, so that what they report is what would be.
            Op::Take(_) => fit.enforced && (!ready.charge.shadow || fit.watched),
            Op::Peek(_) => false,
            Op::Give(_) | Op::Owe(_) | Op::Clear => true,
        };
        let debt = if applies { self.after } else { self.before };
        let reading = match self.wait {
            0 => Reading::allowed_ns(debt),
            wait => Reading::refused_ns(debt, wait),
        };
        let until = if debt == 0 { 0 } else { now + debt };
        let entry = Entry { until, interval: ready.interval };
        (reading, (debt != self.before || self.carried).then_some(entry))
    }
}
