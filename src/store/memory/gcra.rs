//! The arithmetic of one decision: governor's, over a state and a clock that last as long as the decision.

use crate::Rate;
use governor::{
    NotUntil, Quota, RateLimiter,
    clock::{Clock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{NotKeyed, StateStore},
};
use std::{cell::Cell, num::NonZeroU32, ops::Add};

/// What is owed after taking `cost` units, or the nanoseconds to wait until they fit; `u64::MAX` where they never will,
/// because they exceed the rate's burst.
///
/// `now` and `debt` are nanoseconds.
#[inline]
pub(super) fn take(rate: Rate, now: u64, debt: u64, cost: NonZeroU32) -> Result<u64, u64> {
    if cost > rate.burst() {
        return Err(u64::MAX); // before governor multiplies the two
    }
    let Some(quota) = Quota::with_period(rate.interval()) else {
        return Err(u64::MAX); // an interval is at least a nanosecond
    };
    let owed = Owed { until: now + debt, next: Cell::new(0) };
    let clock = OneMoment { asked: Cell::new(false), now: Tick(now) };
    let governor =
        RateLimiter::<_, _, _, NoOpMiddleware<Tick>>::new(quota.allow_burst(rate.burst()), owed, clock);
    let wait = |not_until: NotUntil<Tick>| {
        u64::try_from(not_until.wait_time_from(Tick(now)).as_nanos()).unwrap_or(u64::MAX)
    };
    match if cost.get() == 1 { Ok(governor.check()) } else { governor.check_n(cost) } {
        Ok(Ok(())) => Ok(governor.into_state_store().next.get() - now),
        Ok(Err(not_until)) => Err(wait(not_until)),
        Err(_) => Err(u64::MAX),
    }
}

/// One client's theoretical arrival time, as governor's store of a single state.
struct Owed {
    until: u64,
    next: Cell<u64>,
}

impl StateStore for Owed {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, next) = f(Some(self.until.into()))?;
        self.next.set(next.as_u64());
        Ok(outcome)
    }
}

/// The clock of a decision: governor reads it once for its start, which is 0, and then for the time.
struct OneMoment {
    asked: Cell<bool>,
    now: Tick,
}

impl Clock for OneMoment {
    type Instant = Tick;

    fn now(&self) -> Tick {
        if self.asked.replace(true) { self.now } else { Tick(0) }
    }
}

/// Nanoseconds of the limiter's timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Tick(u64);

impl Add<Nanos> for Tick {
    type Output = Self;

    fn add(self, nanos: Nanos) -> Self {
        Self(self.0.saturating_add(nanos.as_u64()))
    }
}

impl Reference for Tick {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_sub(earlier.0).into()
    }

    fn saturating_sub(&self, nanos: Nanos) -> Self {
        Self(self.0.saturating_sub(nanos.as_u64()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;
    use std::{cell::RefCell, rc::Rc};

    /// Notes each reading, and each look at the state.
    #[derive(Clone, Default)]
    struct Witness(Rc<RefCell<Vec<&'static str>>>);

    impl Clock for Witness {
        type Instant = Tick;

        fn now(&self) -> Tick {
            self.0.borrow_mut().push("clock");
            Tick(0)
        }
    }

    impl StateStore for Witness {
        type Key = NotKeyed;

        fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, f: F) -> Result<T, E>
        where
            F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
        {
            self.0.borrow_mut().push("state");
            f(None).map(|(outcome, _)| outcome)
        }
    }

    /// `take` hands governor 0 as its start and then the time, and relies on this order.
    #[test]
    fn governor_reads_the_clock_once_when_it_is_made_and_once_for_a_decision() {
        let witness = Witness::default();
        let log = || witness.0.borrow().clone();
        let quota = Quota::per_second(NonZeroU32::new(5).unwrap());
        let governor =
            RateLimiter::<_, _, _, NoOpMiddleware<Tick>>::new(quota, witness.clone(), witness.clone());
        assert_eq!(log(), ["clock"]);
        governor.check().unwrap();
        assert_eq!(log(), ["clock", "clock", "state"]);
        governor.check_n(NonZeroU32::new(2).unwrap()).unwrap().unwrap();
        assert_eq!(log(), ["clock", "clock", "state", "clock", "state"]);
    }

    /// Intervals from 1 ns to 2^55 and bursts up to 2^32 - 1, as long as the bucket fills within 2^62 ns; any debt that
    /// a limit can have, any time there is, and any cost; most of them fit the burst.
    fn question() -> impl Strategy<Value = (Rate, u64, u64, NonZeroU32)> {
        let spread =
            |bits: u32| (0..=bits, any::<u64>()).prop_map(|(bits, x)| (x >> (63 - bits) >> 1).max(1));
        let edge = prop_oneof![Just(0u64), Just(1), any::<u64>()];
        let rate = (spread(55), spread(32)).prop_map(|(interval, burst)| {
            let most = (1 << 62) / interval;
            Rate::for_test(interval, u32::try_from(burst.min(most)).unwrap_or(u32::MAX))
        });
        (rate, edge.clone(), 0..=63u32, any::<u64>(), any::<u32>(), edge).prop_map(
            |(rate, near, shift, debt, cost, now)| {
                let (interval, burst) = (rate.interval_ns(), rate.burst().get());
                let cost = if near == 0 { cost } else { cost % burst }.saturating_add(1);
                let cost = NonZeroU32::new(cost).unwrap_or(NonZeroU32::MIN);
                // Most debts lie where the charge just fits, or just does not.
                let fits = rate.full_ns().saturating_sub(interval.saturating_mul(cost.get().into()));
                let debt = if near < 2 { fits.saturating_sub(1) + near } else { debt >> shift }.min(1 << 62);
                (rate, now.clamp(1, 1 << 62), debt, cost)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_decision_is_what_it_is_by_hand((rate, now, debt, cost) in question()) {
            let owed = i128::from(debt) + i128::from(rate.interval_ns()) * i128::from(cost.get());
            let over = owed - i128::from(rate.interval_ns()) * i128::from(rate.burst().get());
            let by_hand = match over {
                _ if cost > rate.burst() => Err(u64::MAX),
                ..=0 => Ok(owed as u64),
                _ => Err(over as u64),
            };
            prop_assert_eq!(take(rate, now, debt, cost), by_hand);
        }
    }
}
