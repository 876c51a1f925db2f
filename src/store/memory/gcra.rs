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
