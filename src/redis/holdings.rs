//! The slots that this instance has in Redis, and the signs that it still needs them.
//!
//! A slot is a member of a sorted set with the time until which it is kept. Who dies shows no signs any more, so that what it
//! had is free when that time has come.

use crate::Place;
use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// What requests of this instance hold.
pub(super) struct Holdings {
    /// How long a slot is kept without a sign of life.
    pub(super) life: Duration,
    name: u64,
    next: AtomicU64,
    all: Mutex<HashMap<u64, Vec<Kept>>>,
    /// Slots in use that others were given meanwhile.
    uncounted: AtomicU32,
}

/// A slot in Redis.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) key: Vec<u8>,
    pub(super) max: u32,
    pub(super) place: Place,
    /// Whether Redis counts it, as far as is known.
    pub(super) counted: bool,
}

/// A slot of one request: the request's name, the slot's number there, and what is kept.
pub(super) type Listed = (u64, usize, Kept);

impl Holdings {
    pub(super) fn new(life: Duration) -> Self {
        Self {
            life,
            name: fastrand::u64(..),
            next: AtomicU64::new(0),
            all: Mutex::default(),
            uncounted: AtomicU32::new(0),
        }
    }

    /// A name for what a request is going to hold.
    pub(super) fn name(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    /// As the members of sets are called.
    pub(super) fn member(&self, holding: u64) -> [u8; 16] {
        ((u128::from(self.name) << 64) | u128::from(holding)).to_be_bytes()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.locked().is_empty()
    }

    /// Slots in use, and those among them that Redis does not count.
    pub(super) fn numbers(&self) -> (u64, u32) {
        let slots = self.locked().values().map(|slots| slots.len() as u64).sum();
        (slots, self.uncounted.load(Relaxed))
    }

    pub(super) fn enter(&self, name: u64, slots: Vec<Kept>) {
        self.locked().insert(name, slots);
    }

    pub(super) fn leave(&self, name: u64) {
        self.locked().remove(&name);
    }

    /// All slots of all requests.
    pub(super) fn list(&self) -> Vec<Listed> {
        let all = self.locked();
        let slots = all.iter().flat_map(|(name, slots)| {
            slots.iter().enumerate().map(|(number, kept)| (*name, number, kept.clone()))
        });
        slots.collect()
    }

    /// Notes whether Redis counts a slot, and answers whether it is still held.
    pub(super) fn note(&self, (name, number, _): &Listed, counted: bool) -> bool {
        let mut all = self.locked();
        let slot = all.get_mut(name).and_then(|slots| slots.get_mut(*number));
        slot.map(|slot| slot.counted = counted).is_some()
    }

    /// How many slots in use are not counted, where there are more than before.
    pub(super) fn newly_uncounted(&self) -> Option<u32> {
        let uncounted = self.locked().values().flatten().filter(|slot| !slot.counted).count();
        let uncounted = u32::try_from(uncounted).unwrap_or(u32::MAX);
        (uncounted > self.uncounted.swap(uncounted, Relaxed)).then_some(uncounted)
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<u64, Vec<Kept>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
