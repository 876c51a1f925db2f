//! Those of one priority who wait for a key.

use super::{Baton, Handing, Sums, Units, Wakers};
use crate::pace::timer::Home;
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
    /// Where its timers are, once it waits.
    pub(super) home: Option<Home>,
    /// What was left to it by whoever was served before.
    pub(super) baton: Option<Box<Baton>>,
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

    /// When the time of those is over who came first.
    pub(super) fn deadline(&self) -> u64 {
        self.waiters.front().map_or(u64::MAX, |waiter| waiter.deadline)
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
        if self.home.is_none() {
            self.home = Home::current();
        }
    }

    /// Leaves a baton to it, or else answers with whom to wake: where it is due, or would be too late.
    pub(super) fn rouse(&mut self, handing: &Handing<'_>, due: Option<u64>, until: u64) -> Option<Waker> {
        self.baton = None;
        let waker = self.waker.as_ref()?;
        if due.is_none_or(|due| due > handing.now && due <= self.deadline) {
            let due = due.unwrap_or(u64::MAX);
            self.baton = Baton::new(handing, due, until, self.home.as_ref(), waker).map(Box::new);
        }
        if self.baton.is_some() { None } else { self.waker.take() }
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
