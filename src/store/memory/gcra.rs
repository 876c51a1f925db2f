//! The arithmetic of one decision: a keyed governor whose keys bring their state along.

use crate::Rate;
use governor::{
    NotUntil, Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, nanos::Nanos, state::StateStore,
};
use std::{cell::Cell, hash::Hash, num::NonZeroU32};

/// governor for one rate and whoever has it. Its time stands still at the moment of a decision, and the key is what is owed
/// from then on; so it keeps nothing and can be made beforehand.
#[derive(Debug)]
pub(crate) struct Governor {
    limiter: RateLimiter<Owed, Owing, Now, NoOpMiddleware<Nanos>>,
    burst: NonZeroU32,
}

impl Governor {
    #[inline]
    pub(super) fn new(rate: Rate) -> Self {
        let quota = Quota::with_period(rate.interval());
        // An interval is at least a nanosecond.
        let quota = quota.map_or(Quota::per_second(NonZeroU32::MIN), |quota| quota.allow_burst(rate.burst()));
        Self { limiter: RateLimiter::new(quota, Owing, Now), burst: rate.burst() }
    }

    /// What is owed after taking `cost` units, or the nanoseconds to wait until they fit; `u64::MAX` where they never will,
    /// because they exceed the rate's burst.
    ///
    /// `debt` is what is owed before, in nanoseconds.
    #[inline(always)]
    pub(super) fn take(&self, debt: u64, cost: NonZeroU32) -> Result<u64, u64> {
        if cost > self.burst {
            return Err(u64::MAX); // before governor multiplies the two
        }
        let owed = Owed { before: debt.into(), after: Cell::new(0) };
        let checked = match cost.get() {
            1 => Ok(self.limiter.check_key(&owed)),
            _ => self.limiter.check_key_n(&owed, cost),
        };
        match checked {
            Ok(Ok(())) => Ok(owed.after.get()),
            Ok(Err(not_until)) => Err(wait(&not_until)),
            Err(_) => Err(u64::MAX),
        }
    }
}

#[cold]
fn wait(not_until: &NotUntil<Nanos>) -> u64 {
    u64::try_from(not_until.wait_time_from(Nanos::default()).as_nanos()).unwrap_or(u64::MAX)
}

/// The clock of a decision.
#[derive(Debug, Clone)]
struct Now;

impl Clock for Now {
    type Instant = Nanos;

    #[inline(always)]
    fn now(&self) -> Nanos {
        Nanos::default()
    }
}

/// One client's debt before a decision, which governor knows as its theoretical arrival time, and after it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owed {
    before: Nanos,
    after: Cell<u64>,
}

/// governor asks for it, for stores that look their keys up.
impl Hash for Owed {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.before.as_u64().hash(state);
    }
}

/// Where states are kept: in their keys.
#[derive(Debug)]
struct Owing;

impl StateStore for Owing {
    type Key = Owed;

    #[inline(always)]
    fn measure_and_replace<T, F, E>(&self, owed: &Owed, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, after) = f(Some(owed.before))?;
        owed.after.set(after.as_u64());
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    /// Intervals from 1 ns to 2^55 and bursts up to 2^32 - 1, as long as the bucket fills within 2^62 ns; any debt that
    /// a limit can have, and any cost; most of them fit the burst.
    fn question() -> impl Strategy<Value = (Rate, u64, NonZeroU32)> {
        let spread =
            |bits: u32| (0..=bits, any::<u64>()).prop_map(|(bits, x)| (x >> (63 - bits) >> 1).max(1));
        let edge = prop_oneof![Just(0u64), Just(1), any::<u64>()];
        let rate = (spread(55), spread(32)).prop_map(|(interval, burst)| {
            let most = (1 << 62) / interval;
            Rate::for_test(interval, u32::try_from(burst.min(most)).unwrap_or(u32::MAX))
        });
        (rate, edge, 0..=63u32, any::<u64>(), any::<u32>()).prop_map(|(rate, near, shift, debt, cost)| {
            let (interval, burst) = (rate.interval_ns(), rate.burst().get());
            let cost = if near == 0 { cost } else { cost % burst }.saturating_add(1);
            let cost = NonZeroU32::new(cost).unwrap_or(NonZeroU32::MIN);
            // Most debts lie where the charge just fits, or just does not.
            let fits = rate.full_ns().saturating_sub(interval.saturating_mul(cost.get().into()));
            let debt = if near < 2 { fits.saturating_sub(1) + near } else { debt >> shift }.min(1 << 62);
            (rate, debt, cost)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_decision_is_what_it_is_by_hand((rate, debt, cost) in question()) {
            let owed = i128::from(debt) + i128::from(rate.interval_ns()) * i128::from(cost.get());
            let over = owed - i128::from(rate.interval_ns()) * i128::from(rate.burst().get());
            let by_hand = match over {
                _ if cost > rate.burst() => Err(u64::MAX),
                ..=0 => Ok(owed as u64),
                _ => Err(over as u64),
            };
            prop_assert_eq!(Governor::new(rate).take(debt, cost), by_hand);
        }
    }
}
