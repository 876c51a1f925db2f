//! Refusals that are known, so that Redis need not be asked again.
//!
//! What a client owes falls no faster than time passes, unless something is given back or forgiven or its rate changes. So
//! what Redis said says for a while what it would say.

use crate::{Charge, Op, Place, Rate, Reading, clock::Timeline};
use smallvec::SmallVec;
use std::{
    sync::{
        Mutex, OnceLock, PoisonError, RwLock,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

/// What is known of places whose requests were refused, in memory of a fixed size: in a full set, what is the nearest to its
/// end makes room.
pub(super) struct Refusals {
    timeline: Timeline,
    /// Nanoseconds that something is known for; nothing is ever known where it is 0.
    life: u64,
    sets: Box<[Set]>,
    /// Limits whose policy gives back what a response tells.
    settled: OnceLock<Box<[u64]>>,
    /// Limits that something was given back to.
    given: RwLock<SmallVec<[u64; 4]>>,
    answered: AtomicU64,
}

#[derive(Default)]
struct Set {
    /// How often something in it was given back or forgiven: an answer to an earlier question is not kept.
    gifts: AtomicU64,
    known: Mutex<[Option<Known>; WAYS]>,
}

/// What a place owed at a time between `asked` and `answered`.
#[derive(Clone, Copy)]
struct Known {
    place: Place,
    limit: u64,
    rate: Rate,
    max_debt: u32,
    debt: u64,
    asked: u64,
    answered: u64,
    end: u64,
}

/// When a list of charges was asked for, and how often something had been given back to its places.
pub(super) struct Question {
    asked: u64,
    gifts: SmallVec<[u64; 4]>,
}

/// Sets, a power of two, and places in each: 16,384 in all, 80 bytes each.
const SETS: usize = 4_096;
const WAYS: usize = 4;
/// How long something is known of limits that are given back to.
const GIVEN_LIFE: u64 = 50_000_000;
/// Clocks are taken to differ by no more than a thousandth, and a reading by no more than a microsecond.
const DRIFT: u64 = 1_000;
const GRAIN: u64 = 1_000;

impl Refusals {
    pub(super) fn new(life: Duration, timeline: Timeline) -> Self {
        let sets = if life.is_zero() { 0 } else { SETS };
        Self {
            timeline,
            life: crate::clock::nanos(life),
            sets: (0..sets).map(|_| Set::default()).collect(),
            settled: OnceLock::new(),
            given: RwLock::default(),
            answered: AtomicU64::new(0),
        }
    }

    /// Says once which limits are given back to by what responses tell.
    pub(super) fn settled(&self, limits: &[u64]) {
        let _ = self.settled.set(limits.into());
    }

    /// How many lists were refused without asking.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Relaxed)
    }

    /// Readings of a list that is refused for sure; nothing where Redis has to be asked.
    pub(super) fn look(&self, charges: &[Charge]) -> Option<Vec<Reading>> {
        if self.sets.is_empty() || !charges.iter().all(|charge| matches!(charge.op, Op::Take(_))) {
            return None;
        }
        let now = self.timeline.now();
        let readings: Vec<_> =
            charges.iter().map(|charge| self.reading(charge, now)).collect::<Option<_>>()?;
        let refuses = |(charge, reading): (&Charge, &Reading)| !charge.shadow && !reading.is_allowed();
        if !charges.iter().zip(&readings).any(refuses) {
            return None;
        }
        self.answered.fetch_add(1, Relaxed);
        Some(readings)
    }

    /// Whether a list is refused for sure, though not all of its readings may be known.
    pub(super) fn refuse(&self, charges: &[Charge]) -> bool {
        let now = self.timeline.now();
        let refuses = |charge: &Charge| self.reading(charge, now).is_some_and(|said| !said.is_allowed());
        !self.sets.is_empty() && charges.iter().any(|charge| !charge.shadow && refuses(charge))
    }

    /// The time by which refusals age, in nanoseconds.
    pub(super) fn now(&self) -> u64 {
        self.timeline.now()
    }

    fn reading(&self, charge: &Charge, now: u64) -> Option<Reading> {
        let set = self.set(charge)?;
        let known = set.lock().iter().flatten().find(|known| known.is_of(charge)).copied()?;
        known.reading(charge, now)
    }

    /// Notes that a list is about to be asked for. What is given back is forgotten before it is sent; that is noted of the
    /// limit unless it `returns` what was leased, as happens at all leased limits.
    pub(super) fn ask(&self, charges: &[Charge], returns: bool) -> Question {
        self.forget(charges, returns);
        let gifts = charges.iter().filter_map(|charge| Some(self.set(charge)?.gifts.load(Acquire)));
        Question { gifts: gifts.collect(), asked: self.timeline.now() }
    }

    /// Notes what Redis answered to a list, or that nobody knows what it did.
    pub(super) fn note(
        &self,
        question: &Question,
        charges: &[Charge],
        readings: Option<&[Reading]>,
        returns: bool,
    ) {
        self.forget(charges, returns);
        let readings = readings.unwrap_or_default();
        let refuses = |(charge, reading): (&Charge, &Reading)| !charge.shadow && !reading.is_allowed();
        let refused = charges.iter().zip(readings).any(refuses);
        for ((charge, reading), gifts) in charges.iter().zip(readings).zip(&question.gifts) {
            let Some(set) = self.set(charge) else { return };
            let keeps = refused && matches!(charge.op, Op::Take(_));
            set.put(charge, *gifts, || keeps.then(|| self.known(question, charge, *reading)));
        }
    }

    fn known(&self, question: &Question, charge: &Charge, reading: Reading) -> Known {
        let Charge { place, limit, rate, max_debt, .. } = *charge;
        let life = if self.is_given_back_to(limit) { self.life.min(GIVEN_LIFE) } else { self.life };
        let debt = crate::clock::nanos(reading.reset_after());
        let (asked, answered) = (question.asked, self.timeline.now());
        Known { place, limit, rate, max_debt, debt, asked, answered, end: asked.saturating_add(life) }
    }

    fn is_given_back_to(&self, limit: u64) -> bool {
        let settled = self.settled.get().is_some_and(|limits| limits.contains(&limit));
        settled || self.given.read().unwrap_or_else(PoisonError::into_inner).contains(&limit)
    }

    /// Forgets what a list gives back to or forgives.
    fn forget(&self, charges: &[Charge], returns: bool) {
        for charge in charges.iter().filter(|charge| matches!(charge.op, Op::Give(_) | Op::Clear)) {
            let Some(set) = self.set(charge) else { return };
            if !returns && !self.is_given_back_to(charge.limit) {
                self.given.write().unwrap_or_else(PoisonError::into_inner).push(charge.limit);
            }
            let mut known = set.lock();
            set.gifts.fetch_add(1, Release);
            known.iter_mut().for_each(|known| *known = known.filter(|known| !known.is_at(charge)));
        }
    }

    /// Forgets what is known of a limit at a place, because another instance has forgiven it.
    pub(super) fn reset(&self, place: Place, limit: u64) {
        let Some(set) = self.at(place, limit) else { return };
        let mut known = set.lock();
        set.gifts.fetch_add(1, Release);
        let stays = |known: &Known| known.limit != limit || !is_same(known.place, place);
        known.iter_mut().for_each(|known| *known = known.filter(stays));
    }

    /// Forgets all: another server may know less.
    pub(super) fn clear(&self) {
        for set in &self.sets {
            let mut known = set.lock();
            set.gifts.fetch_add(1, Release);
            *known = Default::default();
        }
    }

    fn set(&self, charge: &Charge) -> Option<&Set> {
        self.at(charge.place, charge.limit)
    }

    fn at(&self, place: Place, limit: u64) -> Option<&Set> {
        let place = match place {
            Place::Client(key) => key.lo,
            Place::Shared(_) => 0,
        };
        // Both are hashes already.
        self.sets.get((place ^ limit) as usize & (SETS - 1))
    }
}

/// Whether two instances mean the same place: what all share is numbered by each policy.
fn is_same(one: Place, other: Place) -> bool {
    one == other || matches!((one, other), (Place::Shared(_), Place::Shared(_)))
}

impl Set {
    fn lock(&self) -> std::sync::MutexGuard<'_, [Option<Known>; WAYS]> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what is known of a charge's place, unless something was given back meanwhile. What was known of it at another
    /// rate is gone: the charge has carried its debt over.
    fn put(&self, charge: &Charge, gifts: u64, new: impl FnOnce() -> Option<Known>) {
        let mut known = self.lock();
        let found = known.iter().position(|known| known.is_some_and(|known| known.is_at(charge)));
        if let Some(old) = found {
            known[old] = known[old].filter(|old| old.is_of(charge));
        }
        if self.gifts.load(Acquire) != gifts {
            return;
        }
        if let Some(new) = new() {
            let nearest = || (0..WAYS).min_by_key(|way| known[*way].map_or(0, |known| known.end));
            if let Some(way) = found.or_else(nearest) {
                known[way] = Some(new);
            }
        }
    }
}

impl Known {
    fn is_at(&self, charge: &Charge) -> bool {
        self.place == charge.place && self.limit == charge.limit
    }

    fn is_of(&self, charge: &Charge) -> bool {
        self.is_at(charge) && self.rate == charge.rate && self.max_debt == charge.max_debt
    }

    /// What the limit says to units now, unless that is not for sure any more.
    fn reading(&self, charge: &Charge, now: u64) -> Option<Reading> {
        let Op::Take(units) = charge.op else { return None };
        if now >= self.end {
            return None;
        }
        let (past, full) = (now.saturating_sub(self.asked), self.rate.full_ns());
        let least = self.debt.saturating_sub(past + past / DRIFT + GRAIN);
        let most = self.debt.saturating_sub(now.saturating_sub(self.answered));
        let by = self.rate.interval_ns().saturating_mul(units.into());
        match by {
            0 => Some(Reading::allowed_ns(most)),
            _ if by > full => Some(Reading::never_ns(most)),
            _ if least.saturating_add(by) > full => {
                Some(Reading::refused_ns(most, most.saturating_add(by) - full))
            }
            _ if most.saturating_add(by) > full => None,
            // Others may have taken more since: this is said, but nothing is let pass by it.
            _ => Some(Reading::allowed_ns(most)),
        }
    }
}
