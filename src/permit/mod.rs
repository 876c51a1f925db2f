//! How many at once: permits that are held and given back.
//!
//! Only clients who hold or wait take room, of which there is a fixed amount. Several permits are taken together or not at
//! all, under one lock: nobody holds one while waiting for another, so nobody waits for ever. Room that comes back goes to
//! clients in turn, and to each client's requests as they came.

mod demand;
mod ledger;
#[cfg(test)]
mod tests;
mod waiting;

pub(crate) use demand::{Demand, Usage, Usages};
pub(crate) use waiting::Waiting;

use crate::{Key, Lease};
use ledger::{Answer, Counts, Ledger, Wakers};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// How many there is room for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capacity {
    /// Keys that are held or waited for: a client under a limit is one.
    pub(crate) keys: usize,
    /// Requests that wait, of all clients.
    pub(crate) waiters: usize,
    /// The limits that most of them wait for.
    pub(crate) limits: usize,
}

impl Capacity {
    const fn links(self) -> usize {
        self.waiters.saturating_mul(self.limits)
    }
}

/// Permits by key. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Permits {
    ledger: Arc<Mutex<Ledger>>,
}

/// What becomes of who asks for permits.
#[derive(Debug)]
pub(crate) enum Acquired {
    Granted(Permit),
    Waits(Waiting),
    /// A limit is reached, and no more may wait.
    Refused,
    /// There is no room to count it in.
    Full,
}

impl Permits {
    /// `maxima` are those of each limit, by its number.
    pub(crate) fn new(capacity: Capacity, maxima: Vec<u32>) -> Self {
        let ledger = Ledger::new(maxima, capacity.keys, capacity.waiters, capacity.links());
        Self { ledger: Arc::new(Mutex::new(ledger)) }
    }

    /// Takes a permit from each key or from none, and says how much of each is in use then. `client` is who takes turns
    /// with others where a key is shared.
    pub(crate) fn acquire(&self, client: Key, demands: &[Demand]) -> (Acquired, Usages) {
        let (answer, usages) = self.locked(|ledger, woken| ledger.acquire(client, demands, woken));
        let acquired = match answer {
            Answer::Granted(counts) => Acquired::Granted(self.permit(counts)),
            Answer::Waits(waiter) => Acquired::Waits(Waiting::new(self.clone(), waiter)),
            Answer::Refused => Acquired::Refused,
            Answer::Full => Acquired::Full,
        };
        (acquired, usages)
    }

    /// Puts a maximum in force for every key of a limit that has none of its own, and answers with the former one. Who
    /// holds keeps what it has; who waits is served if there is room now.
    pub(crate) fn revise(&self, limit: u32, max: u32) -> Option<u32> {
        self.locked(|ledger, woken| ledger.revise(limit, max, woken))
    }

    /// Makes room for a limit that there was not.
    pub(crate) fn declare(&self, limit: u32, max: u32) {
        self.locked(|ledger, _| ledger.declare(limit, max));
    }

    /// The same for one key, which has its own maximum from now on, if it is in use.
    pub(crate) fn set_own(&self, key: Key, max: u32) {
        self.locked(|ledger, woken| ledger.set_own(key, max, woken));
    }

    /// How many may be held at once under a limit by whoever has no maximum of its own.
    #[cfg(feature = "admin")]
    pub(crate) fn maximum(&self, limit: u32) -> Option<u32> {
        self.locked(|ledger, _| ledger.maximum(limit))
    }

    /// How much of each key is in use, as it is and for whoever asks.
    #[cfg(feature = "admin")]
    pub(crate) fn look(&self, demands: &[Demand]) -> Usages {
        self.locked(|ledger, _| ledger.look(demands))
    }

    /// The bytes that they take, all of them taken at the start.
    pub(crate) fn bytes(&self) -> usize {
        self.locked(|ledger, _| ledger.size())
    }

    /// How many permits of a key are held.
    #[cfg(test)]
    pub(crate) fn used(&self, key: Key) -> u32 {
        self.locked(|ledger, _| ledger.number(key).map_or(0, |number| ledger.usages(&[number])[0].used))
    }

    /// How many keys are held or waited for.
    pub(crate) fn keys(&self) -> usize {
        self.locked(|ledger, _| ledger.keys())
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        self.locked(|ledger, _| ledger.waiting())
    }

    fn permit(&self, counts: Counts) -> Permit {
        Permit { permits: self.clone(), counts, lease: None }
    }

    /// Wakers are woken and dropped once the lock is free: either may drop a permit, which takes the lock.
    fn locked<T>(&self, act: impl FnOnce(&mut Ledger, &mut Wakers) -> T) -> T {
        let mut woken = Wakers::new();
        let done = act(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner), &mut woken);
        for waker in woken {
            waker.wake();
        }
        done
    }
}

/// Leave to be one of so many at once, under one limit or several. Dropped, it is given back.
#[must_use = "a permit is given back when it is dropped"]
pub(crate) struct Permit {
    permits: Permits,
    counts: Counts,
    /// What a store keeps for it, where permits are counted for many instances.
    pub(crate) lease: Option<Box<Lease>>,
}

impl Permit {
    /// How much of each limit is in use now, and how much may be.
    pub(crate) fn usages(&self) -> Usages {
        self.permits.locked(|ledger, _| ledger.usages(&self.counts))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // First, so that who is served here finds room in the store.
        drop(self.lease.take());
        self.permits.locked(|ledger, woken| ledger.release(&self.counts, woken));
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("limits", &self.counts.len()).finish_non_exhaustive()
    }
}
