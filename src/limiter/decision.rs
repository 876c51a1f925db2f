//! The verdict, and what was charged for it.

use super::{Held, Inner, Permits};
use crate::{
    Key, LimitStatus, Op, PermitStatus, Place, Rate, Reading,
    policy::{CompiledLimit, Settlement},
    response::whole_seconds,
    status::retry_after,
    store::{Asked, Fit},
};
use http::HeaderValue;
use smallvec::{SmallVec, smallvec};
use std::{
    cmp::Ordering,
    fmt, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// What is charged, and what the limits said.
///
/// It is built up where it lies, because it is too large to be passed around on each request.
#[derive(Debug, Default)]
pub(crate) struct Charged {
    /// In the order of the policy; a limit's number is its place in it.
    pub(crate) asked: SmallVec<[Asked; 4]>,
    /// When they answered, in nanoseconds of the engine's time.
    pub(super) at: u64,
    pub(super) fit: Fit,
    /// What limits on concurrency said, or why a rule rejects the request. Boxed, because few requests have either.
    pub(super) held: Option<Box<Held>>,
    /// For each rule whose client was looked up, the key that it came by, unless it brought limits along.
    pub(super) registered: SmallVec<[(usize, Key); 1]>,
}

impl Charged {
    /// Adds what a limit is to be charged.
    #[inline(always)]
    pub(super) fn take(
        &mut self,
        number: usize,
        limit: &CompiledLimit,
        granted: Option<Rate>,
        place: Place,
        cost: u32,
        shadow: bool,
    ) {
        let rate = granted.unwrap_or_else(|| limit.quota.rate());
        self.asked.push(Asked::new(number, limit.charge(rate, place, Op::Take(cost), shadow)));
    }

    /// Takes note of what limits on concurrency said; where they refuse, nothing is charged.
    pub(super) fn hold(&mut self, held: Box<Held>) {
        if held.is_refused() {
            self.asked.clear();
            self.fit.enforced = false;
        }
        self.held = Some(held);
    }

    /// What is held is given back where a charge was refused.
    pub(super) fn hold_on(&mut self) {
        if !self.fit.enforced {
            self.held = None;
        }
    }

    /// Gives the permits back and keeps what the limits said.
    pub(super) fn give_back(&mut self) {
        drop(self.take_permits());
    }

    /// The permits, for whoever holds them from now on.
    pub(crate) fn take_permits(&mut self) -> Permits {
        self.held.as_mut().map(|held| mem::take(&mut held.permits)).unwrap_or_default()
    }

    /// Whether limits on concurrency were asked.
    pub(crate) const fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The limits on concurrency that refuse.
    pub(super) fn refusing_permits(&self) -> impl Iterator<Item = usize> {
        self.held.iter().flat_map(|held| held.refusing())
    }

    /// What limits on concurrency said.
    pub(crate) fn permits<'a>(&self, inner: &'a Inner) -> SmallVec<[PermitStatus<'a>; 2]> {
        self.held.as_ref().map(|held| held.statuses(inner)).unwrap_or_default()
    }

    /// Whether anything that only watches would have refused.
    pub(crate) fn would_refuse(&self) -> bool {
        self.is_shadow_refused() || self.held.as_ref().is_some_and(|held| held.is_shadow_refused())
    }

    pub(crate) const fn is_allowed(&self) -> bool {
        self.fit.enforced
    }

    /// Whether a limit that only watches would have refused.
    pub(crate) const fn is_shadow_refused(&self) -> bool {
        !self.fit.watched
    }

    /// The rule of the limit that refused first, or of the first one of all.
    pub(crate) fn foremost(&self, inner: &Inner) -> Option<usize> {
        let refused = self.asked.iter().find(|asked| !asked.reading.is_allowed());
        let held = || self.held.as_ref().and_then(|held| held.foremost(inner));
        let rule = |asked: &Asked| inner.policy.limits[asked.limit].rule;
        refused.map(rule).or_else(held).or_else(|| self.asked.first().map(rule))
    }

    pub(crate) fn statuses<'a>(&'a self, inner: &'a Inner) -> SmallVec<[LimitStatus<'a>; 4]> {
        statuses(&self.asked, inner)
    }

    /// What `RateLimit-Policy` says of these limits, where that was made beforehand.
    pub(crate) fn policies<'a>(&self, inner: &'a Inner) -> Option<&'a HeaderValue> {
        let granted = |asked: &Asked| inner.policy.limits[asked.limit].has_other_rate(asked.charge.rate);
        if inner.policy.has_registered && self.asked.iter().any(granted) {
            return None;
        }
        let shown = self.asked.iter().filter(|asked| !asked.charge.shadow);
        inner.policy.told_policy(shown.map(|asked| asked.limit))
    }
}

/// What each limit says, in the order of the policy. A limit that was charged on several routes, because the path can
/// be read in several ways, says what the tightest of them does.
pub(crate) fn statuses<'a>(asked: &[Asked], inner: &'a Inner) -> SmallVec<[LimitStatus<'a>; 4]> {
    let mut statuses: SmallVec<[LimitStatus<'a>; 4]> = SmallVec::new();
    for (number, Asked { limit, charge, reading }) in asked.iter().enumerate() {
        if number > 0 && asked[number - 1].limit == *limit {
            if let Some(same) =
                statuses.last_mut().filter(|same| same.reading.tightness() < reading.tightness())
            {
                (same.rate, same.reading) = (inner.policy.limits[*limit].told_by(charge.rate), *reading);
            }
            continue;
        }
        let limit = &inner.policy.limits[*limit];
        statuses.push(LimitStatus {
            rule: &inner.policy.rules[limit.rule].name,
            words: &limit.words,
            quota: &limit.quota,
            own: limit.has_other_rate(charge.rate),
            rate: limit.told_by(charge.rate),
            reading: *reading,
            shadow: charge.shadow,
        });
    }
    statuses
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
        let mut decision = Self { inner, charged, given_back: SmallVec::new() };
        decision.conclude();
        decision
    }

    /// One whose limits are yet to be asked. It is made before them, because it is too large to be passed around.
    #[inline(always)]
    pub(super) fn open(inner: Arc<Inner>) -> Self {
        Self { inner, charged: Charged::default(), given_back: SmallVec::new() }
    }

    /// Makes ready what can be given back, once the limits have answered.
    #[inline]
    pub(super) fn conclude(&mut self) {
        self.given_back.resize_with(self.charged.asked.len(), AtomicBool::default);
    }

    /// Whether all limits admit it, or only such as watch do not.
    pub fn is_allowed(&self) -> bool {
        self.charged.is_allowed()
    }

    /// What each limit said, in the order of the policy.
    pub fn limits(&self) -> impl Iterator<Item = LimitStatus<'_>> {
        self.charged.statuses(&self.inner).into_iter()
    }

    /// What each limit on concurrency said, in the order of the policy.
    pub fn permits(&self) -> impl Iterator<Item = PermitStatus<'_>> {
        self.charged.permits(&self.inner).into_iter()
    }

    /// How long until all limits would admit it, if nothing else is charged.
    ///
    /// Nothing where they do already, or where one never will because the charge exceeds its burst. A second where
    /// a limit on concurrency refuses, because nobody knows when a permit comes back.
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(self.limits(), self.permits())
    }

    /// The same in whole seconds, as `Retry-After` has it: rounded up, at least 1.
    pub fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after().map(|wait| whole_seconds(wait).max(1))
    }

    /// Gives back what was taken, unless that has been done.
    pub(crate) fn refund(&self) {
        let taken = self.taken().filter(|(number, _)| !self.given_back[*number].swap(true, Relaxed));
        if self.charged.is_without_store() {
            return;
        }
        self.inner
            .engine
            .settle(taken.map(|(number, units)| self.charge(number, self.give(number, units))).collect());
    }

    /// The charges that were made whose limits go by the response, with the units that were taken.
    pub(crate) fn settlements(&self) -> impl Iterator<Item = (usize, &Settlement, u32)> {
        self.taken().filter_map(|(number, taken)| {
            Some((number, self.inner.policy.limits[self.charged.asked[number].limit].settle.as_ref()?, taken))
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
        let settled = self.charge(number, op);
        if self.charged.is_without_store() {
            self.inner.settle_without_store(&settled);
            return None;
        }
        self.inner.engine.settle(smallvec![settled])?.first().map(|asked| asked.reading)
    }

    /// Gives so many units back, as far as they are still owed: debt drains, and who gave back what has drained would pay
    /// for other requests. Those taken last drain last, so what is left of them is at most the time until the debt after
    /// this charge is gone; where the rate has changed since, the shorter of what the old and the new one leave.
    fn give(&self, number: usize, units: u32) -> Op {
        let Asked { limit, charge, reading } = &self.charged.asked[number];
        let [old, new] =
            [charge.rate, self.rate(*limit, charge.rate)].map(|rate| u128::from(rate.interval_ns()));
        let age = u128::from(self.inner.engine.now().saturating_sub(self.charged.at));
        let owed = reading.reset_after().as_nanos();
        let left = [owed.saturating_sub(age) * new / old, (owed * new / old).saturating_sub(age)];
        let given = (u128::from(units) * new).min(left[0]).min(left[1]);
        Op::Give(u64::try_from(given).unwrap_or(u64::MAX))
    }

    /// What this decision really charged: nothing where it refused, and watched limits all or none.
    fn taken(&self) -> impl Iterator<Item = (usize, u32)> {
        let (allowed, shadow_refused) = (self.is_allowed(), self.charged.is_shadow_refused());
        self.charged.asked.iter().enumerate().filter_map(move |(number, Asked { charge, .. })| {
            match charge.op {
                Op::Take(units) if allowed && !(charge.shadow && shadow_refused) => Some((number, units)),
                _ => None,
            }
        })
    }

    /// The rate of a limit that is in force now for whom it was charged; `charged` is the one that was in force then.
    pub(super) fn rate(&self, limit: usize, charged: Rate) -> Rate {
        let compiled = &self.inner.policy.limits[limit];
        match compiled.granted {
            None => compiled.quota.rate(),
            Some(_) => {
                self.inner.granted_rate(&self.charged, limit).unwrap_or_else(|| compiled.told_by(charged))
            }
        }
    }

    /// Another charge at the same place, at the rate that is in force now.
    pub(super) fn charge(&self, number: usize, op: Op) -> Asked {
        let Asked { limit, charge, .. } = self.charged.asked[number];
        let rate = self.rate(limit, charge.rate);
        Asked::new(limit, self.inner.policy.limits[limit].charge_again(rate, charge, op))
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
