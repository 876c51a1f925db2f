//! How many clients may be created.

use crate::{
    Charge, Key, Op, Place, Quota, QuotaError, Rate,
    clock::Timeline,
    store::{Asked, Memory},
};
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

/// Counts the clients that are created.
#[derive(Debug)]
pub(super) struct Bounds {
    /// For each address; taken when the first unknown client comes.
    table: Mutex<Option<Memory>>,
    rate: Rate,
    total: usize,
    /// How many are being created now.
    coming: AtomicUsize,
}

/// A client that is being created, until it is dropped.
pub(super) struct Coming<'a> {
    bounds: &'a Bounds,
    /// How many others were then.
    others: usize,
}

/// So many bytes for the addresses that create clients: 8,000 of them at a time.
const TABLE_BYTES: usize = 256 << 10;

impl Bounds {
    pub(super) fn new(each_address: Quota, total: usize) -> Result<Self, QuotaError> {
        let rate = each_address.rate()?;
        Ok(Self { table: Mutex::new(None), rate, total, coming: AtomicUsize::new(0) })
    }

    /// Announces a client that may be created. Those that are there have to be counted after that, so that none is
    /// overlooked which is being created at the same time.
    pub(super) fn announce(&self) -> Coming<'_> {
        Coming { bounds: self, others: self.coming.fetch_add(1, SeqCst) }
    }
}

impl Coming<'_> {
    /// Whether it may be created for an address, which counts it. `there` is how many clients were created before.
    pub(super) fn is_admitted(
        &self,
        there: usize,
        address: Key,
        timeline: impl FnOnce() -> Timeline,
    ) -> bool {
        let bounds = self.bounds;
        if there + self.others >= bounds.total {
            return false;
        }
        let mut table = bounds.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.is_none() {
            *table = Memory::new(timeline(), TABLE_BYTES, 0).ok();
        }
        let Some(memory) = &*table else { return false };
        let charge = Charge {
            place: Place::Client(address),
            limit: 0,
            rate: bounds.rate,
            max_debt: 0,
            op: Op::Take(1),
            shadow: false,
        };
        let mut asked = [Asked::new(0, charge)];
        memory.charge(&mut asked);
        asked[0].reading.is_allowed()
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.bounds.coming.fetch_sub(1, SeqCst);
    }
}
