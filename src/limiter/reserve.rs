//! Units that a body takes while it goes on, and waits for.

use super::{Decision, Inner, timer::Sleep};
use crate::{
    Op, Rate, Reading, StoreError, StoreFuture,
    store::{Asked, Fit},
};
use smallvec::SmallVec;
use std::{
    fmt,
    task::{Context, Poll, ready},
    time::Duration,
};

/// Units that are being taken, or were and are waited for.
pub(crate) struct Reservation {
    asked: SmallVec<[Asked; 1]>,
    /// When they were asked for, in nanoseconds of the engine's time.
    at: u64,
    /// From a store elsewhere.
    future: Option<StoreFuture>,
    is_taken: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The units are taken; what they are for has its turn after this time.
    In(Duration),
    /// No limit has taken any, because too much waits already; worth another try after this time.
    Full(Duration),
}

impl Inner {
    /// Is ready after a time, where there is a timer.
    pub(crate) fn sleep(&self, time: Duration) -> Option<Sleep> {
        self.timer.as_ref().map(|timer| timer(time))
    }
}

impl Decision {
    /// Whether bodies wait for a limit, by its charge's number: not for one that only watches, nor where no store has decided.
    pub(crate) fn paces(&self, number: usize) -> bool {
        !self.charged.asked[number].charge.shadow && !self.charged.is_without_store()
    }

    /// The rate that is in force now for whom a limit was charged, by that charge's number.
    pub(crate) fn rate_of(&self, number: usize) -> Rate {
        let Asked { limit, charge, .. } = self.charged.asked[number];
        self.rate(limit, charge.rate)
    }

    /// Takes units of limits that make bodies wait, by the charges' numbers: of all of them or of none.
    pub(crate) fn reserve(&self, units: impl Iterator<Item = (usize, u32)>) -> Reservation {
        let asked = units.map(|(number, units)| self.charge(number, Op::Take(units))).collect();
        let inner = &self.inner;
        let mut reservation = Reservation { asked, at: inner.engine.now(), future: None, is_taken: false };
        reservation.future = inner.engine.begin(&mut reservation.asked, &mut reservation.at);
        reservation
    }
}

impl Reservation {
    /// What came of it, once; it is asked no more after that.
    pub(crate) fn poll(&mut self, inner: &Inner, cx: &mut Context<'_>) -> Poll<Turn> {
        if let Some(future) = &mut self.future {
            let answer = ready!(future.as_mut().poll(cx));
            self.future = None;
            if let Err(error) = answer.and_then(|readings| self.note(&readings)) {
                // What is under way is neither cut off nor held up because a store fails.
                inner.report_store(&error, None);
                self.asked.clear();
            }
        }
        let fit = Fit::of(self.asked.iter().map(|asked| (asked.charge.shadow, asked.reading.is_allowed())));
        if !fit.enforced {
            let waits = self.asked.iter().filter_map(|asked| asked.reading.retry_after());
            return Poll::Ready(Turn::Full(waits.max().unwrap_or_default()));
        }
        self.is_taken = true;
        let wait = |asked: &Asked| {
            let told = inner.policy.limits[asked.limit].told_by(asked.charge.rate);
            asked.reading.reset_after().saturating_sub(Duration::from_nanos(told.full_ns()))
        };
        Poll::Ready(Turn::In(self.asked.iter().map(wait).max().unwrap_or_default()))
    }

    fn note(&mut self, readings: &[Reading]) -> Result<(), StoreError> {
        if readings.len() != self.asked.len() {
            return Err(StoreError::new("it answered with another number of readings"));
        }
        for (asked, reading) in self.asked.iter_mut().zip(readings) {
            asked.reading = *reading;
        }
        Ok(())
    }

    /// Gives the units back, as far as they are still owed: those taken last drain last. While a store elsewhere is asked,
    /// nobody knows whether they were taken, and they stay.
    pub(crate) fn give_back(self, inner: &Inner) {
        if !self.is_taken {
            return;
        }
        let age = inner.engine.now().saturating_sub(self.at);
        let give = |asked: &Asked| {
            let Op::Take(units) = asked.charge.op else { return *asked };
            let owed = u64::try_from(asked.reading.reset_after().as_nanos()).unwrap_or(u64::MAX);
            let taken = asked.charge.rate.interval_ns().saturating_mul(units.into());
            let op = Op::Give(taken.min(owed.saturating_sub(age)));
            let limit = &inner.policy.limits[asked.limit];
            Asked::new(asked.limit, limit.charge_again(limit.told_by(asked.charge.rate), asked.charge, op))
        };
        inner.engine.settle(self.asked.iter().map(give).collect());
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("asked", &self.asked).finish_non_exhaustive()
    }
}
