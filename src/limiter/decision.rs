//! The verdict, and what was charged for it.

use super::Inner;
use crate::{
    Charge, LimitStatus, Op, Reading, policy::Settlement, response::whole_seconds, status::retry_after,
    store::Readings,
};
use smallvec::{SmallVec, smallvec};
use std::{
    cmp::Ordering,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// What is charged, to which limits, and what they said.
///
/// It is built up where it lies, because it is too large to be passed around on each request.
#[derive(Debug, Default)]
pub(crate) struct Charged {
    pub(crate) charges: SmallVec<[Charge; 4]>,
    /// Which of the policy's limits each charge is for.
    pub(crate) limits: SmallVec<[usize; 4]>,
    /// One for each charge, once the store has answered.
    pub(crate) readings: Readings,
    /// When that was, in nanoseconds of the engine's time.
    pub(super) at: u64,
    refused: bool,
    shadow_refused: bool,
}

impl Charged {
    pub(crate) fn push(&mut self, limit: usize, charge: Charge) {
        self.limits.push(limit);
        self.charges.push(charge);
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.limits.truncate(len);
        self.charges.truncate(len);
    }

    /// Takes note of what the store has answered.
    pub(super) fn conclude(&mut self) {
        for (charge, reading) in self.charges.iter().zip(&self.readings) {
            *(if charge.shadow { &mut self.shadow_refused } else { &mut self.refused }) |=
                !reading.is_allowed();
        }
    }

    pub(crate) const fn is_allowed(&self) -> bool {
        !self.refused
    }

    /// Whether a limit that only watches would have refused.
    pub(crate) const fn is_shadow_refused(&self) -> bool {
        self.shadow_refused
    }

    /// The limit that refused first, or the first one of all.
    pub(crate) fn foremost(&self) -> Option<usize> {
        let refused = self.readings.iter().position(|reading| !reading.is_allowed());
        self.limits.get(refused.unwrap_or(0)).copied()
    }

    /// What each limit says, in the order of the policy. A limit that was charged on several routes, because the path can
    /// be read in several ways, says what the tightest of them does.
    pub(crate) fn statuses<'a>(
        &'a self,
        inner: &'a Inner,
        readings: &'a [Reading],
    ) -> impl Iterator<Item = LimitStatus<'a>> {
        let mut start = 0;
        self.limits.chunk_by(|a, b| a == b).filter_map(move |same| {
            let numbers = start..start + same.len();
            start = numbers.end;
            let (charge, reading) = self
                .charges
                .get(numbers.clone())?
                .iter()
                .zip(readings.get(numbers)?)
                .max_by_key(|(_, reading)| reading.tightness())?;
            let limit = &inner.policy.limits[*same.first()?];
            Some(LimitStatus {
                rule: &inner.policy.rules[limit.rule].name,
                limit: &limit.name,
                quota: limit.quota.quota(),
                rate: charge.rate,
                reading: *reading,
                shadow: charge.shadow,
                policy: limit.policy_value(),
            })
        })
    }
}

/// What the limits said to a charge.
///
/// It comes from [`Client::charge`](crate::Client::charge), or from the request's and response's extensions as
/// `Arc<Decision>` where the layer was told to
/// [`expose_decision`](crate::ThrottleLayer::expose_decision).
pub struct Decision {
    pub(crate) inner: Arc<Inner>,
    pub(crate) charged: Charged,
    /// For each charge, whether it was given back already.
    pub(crate) given_back: SmallVec<[AtomicBool; 4]>,
}

impl Decision {
    pub(crate) fn new(inner: Arc<Inner>, charged: Charged) -> Self {
        let given_back = charged.charges.iter().map(|_| AtomicBool::new(false)).collect();
        Self { inner, charged, given_back }
    }

    /// Whether all limits admit it, or only such as watch do not.
    pub fn is_allowed(&self) -> bool {
        self.charged.is_allowed()
    }

    /// What each limit said, in the order of the policy.
    pub fn limits(&self) -> impl Iterator<Item = LimitStatus<'_>> {
        self.charged.statuses(&self.inner, &self.charged.readings)
    }

    /// How long until all limits would admit it, if nothing else is charged.
    ///
    /// Nothing where they do already, or where one never will because the charge exceeds its burst.
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(self.limits())
    }

    /// The same in whole seconds, as `Retry-After` has it: rounded up, at least 1.
    pub fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after().map(|wait| whole_seconds(wait).max(1))
    }

    /// Gives back what was taken, unless that has been done.
    pub(crate) fn refund(&self) {
        let charges = self.taken().filter(|(number, _)| !self.given_back[*number].swap(true, Relaxed));
        self.inner
            .engine
            .settle(charges.map(|(number, taken)| self.charge(number, self.give(number, taken))).collect());
    }

    /// The charges that were made whose limits go by the response, with the units that were taken.
    pub(crate) fn settlements(&self) -> impl Iterator<Item = (usize, &Settlement, u32)> {
        self.taken().filter_map(|(number, taken)| {
            Some((number, self.inner.policy.limits[self.charged.limits[number]].settle.as_ref()?, taken))
        })
    }

    /// Charges the difference between what was charged and what it should be, and answers with what the limit says
    /// then, where that takes no waiting. What was refunded is not given back again.
    pub(crate) fn correct(&self, number: usize, charged: u64, actual: u64) -> Option<Reading> {
        let units = |difference: u64| u32::try_from(difference).unwrap_or(u32::MAX);
        let op = match actual.cmp(&charged) {
            Ordering::Equal => return None,
            Ordering::Greater => Op::Owe(units(actual - charged)),
            Ordering::Less if self.given_back[number].swap(true, Relaxed) => return None,
            Ordering::Less => self.give(number, units(charged - actual)),
        };
        self.inner.engine.settle(smallvec![self.charge(number, op)])?.first().copied()
    }

    /// Gives so many units back, as far as they are still owed: debt drains, and who gave back what has drained would pay
    /// for other requests. Those taken last drain last, so what is left of them is at most the time until the debt after
    /// this charge is gone; where the rate has changed since, the shorter of what the old and the new one leave.
    fn give(&self, number: usize, units: u32) -> Op {
        let [old, new] = [
            self.charged.charges[number].rate,
            self.inner.policy.limits[self.charged.limits[number]].quota.rate(),
        ]
        .map(|rate| u128::from(rate.interval_ns()));
        let age = u128::from(self.inner.engine.now().saturating_sub(self.charged.at));
        let owed = self.charged.readings[number].reset_after().as_nanos();
        let left = [owed.saturating_sub(age) * new / old, (owed * new / old).saturating_sub(age)];
        let given = (u128::from(units) * new).min(left[0]).min(left[1]);
        Op::Give(u64::try_from(given).unwrap_or(u64::MAX))
    }

    /// What this decision really charged: nothing where it refused, and watched limits all or none.
    fn taken(&self) -> impl Iterator<Item = (usize, u32)> {
        let (allowed, shadow_refused) = (self.is_allowed(), self.charged.is_shadow_refused());
        self.charged.charges.iter().enumerate().filter_map(move |(number, charge)| match charge.op {
            Op::Take(units) if allowed && !(charge.shadow && shadow_refused) => Some((number, units)),
            _ => None,
        })
    }

    /// Another charge at the same place, at the rate that is in force now.
    fn charge(&self, number: usize, op: Op) -> Charge {
        let limit = &self.inner.policy.limits[self.charged.limits[number]];
        let Charge { place, shadow, .. } = self.charged.charges[number];
        limit.charge(place, op, shadow)
    }
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decision")
            .field("is_allowed", &self.is_allowed())
            .field("limits", &self.limits().collect::<Vec<_>>())
            .finish()
    }
}
