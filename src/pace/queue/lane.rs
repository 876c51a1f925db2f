//! Those of one priority who wait for a key.

use super::{Sums, Units, Wakers};
use std::{
    collections::VecDeque,
    task::{Context, Waker},
};

#[derive(Debug, Default)]
pub(super) struct Lane {
    waiters: VecDeque<Waiter>,
    /// The sums of what the waiters cost.
    sums: Sums,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: u64,
    pub(super) units: Units,
    pub(super) weight: u32,
    pub(super) deadline: u64,
    /// Whether it counts against the bounds; whoever only looks does not.
    pub(super) waits: bool,
    /// Whether its time is over.
    pub(super) expired: bool,
    pub(super) waker: Option<Waker>,
}

impl Lane {
    pub(super) fn push(&mut self, waiter: Waiter) {
        add(&mut self.sums, &waiter.units);
        self.waiters.push_back(waiter);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Waiter> {
        let gone = self.waiters.remove(self.place(id)?)?;
        take(&mut self.sums, &gone.units);
        Some(gone)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// What the first one counts.
    pub(super) fn weight(&self) -> Option<u32> {
        self.waiters.front().map(|waiter| waiter.weight)
    }

    pub(super) fn is_first(&self, id: u64) -> bool {
        self.waiters.front().is_some_and(|waiter| waiter.id == id)
    }

    pub(super) fn first_mut(&mut self) -> Option<&mut Waiter> {
        self.waiters.front_mut()
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Waiter> {
        let place = self.place(id)?;
        self.waiters.get_mut(place)
    }

    /// Tells those behind the first so many whose time is over, and answers with when the next one's will be.
    pub(super) fn expire(&mut self, behind: usize, now: u64, wakers: &mut Wakers) -> u64 {
        for waiter in self.waiters.iter_mut().skip(behind) {
            // All of a pacer wait equally long, so whoever came later leaves later.
            if waiter.deadline > now {
                return waiter.deadline;
            }
            waiter.expired = true;
            wakers.extend(waiter.waker.take());
        }
        u64::MAX
    }

    /// What those cost who came before.
    pub(super) fn before(&self, id: u64) -> Sums {
        let mut sums = self.sums.clone();
        for waiter in self.waiters.iter().rev().take_while(|waiter| waiter.id >= id) {
            take(&mut sums, &waiter.units);
        }
        sums
    }

    fn place(&self, id: u64) -> Option<usize> {
        self.waiters.binary_search_by_key(&id, |waiter| waiter.id).ok()
    }
}

impl Waiter {
    pub(super) fn wake_by(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            waker => *waker = Some(cx.waker().clone()),
        }
    }
}

/// What all in some lanes cost.
pub(super) fn sum<'a>(lanes: impl Iterator<Item = &'a Lane>) -> Sums {
    let mut sums = Sums::new();
    for lane in lanes {
        add_sums(&mut sums, &lane.sums);
    }
    sums
}

pub(super) fn add_sums(sums: &mut Sums, more: &Sums) {
    sums.resize(more.len().max(sums.len()), 0);
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum += more;
    }
}

fn add(sums: &mut Sums, units: &Units) {
    sums.resize(units.len().max(sums.len()), 0);
    for (sum, units) in sums.iter_mut().zip(units) {
        *sum += u64::from(*units);
    }
}

fn take(sums: &mut Sums, units: &Units) {
    for (sum, units) in sums.iter_mut().zip(units) {
        *sum -= u64::from(*units);
    }
}
