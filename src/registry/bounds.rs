//! How many clients may be created.

use crate::{
    Charge, Key, Op, Place, Quota, QuotaError, Rate,
    clock::Timeline,
    store::{Asked, Memory},
};
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Counts the clients that are created.
#[derive(Debug)]
pub(super) struct Bounds {
    /// For each address; taken when the first unknown client comes.
    table: Mutex<Option<Memory>>,
    rate: Rate,
    total: usize,
    created: AtomicUsize,
}

/// So many bytes for the addresses that create clients: 8,000 of them at a time.
const TABLE_BYTES: usize = 256 << 10;

impl Bounds {
    pub(super) fn new(each_address: Quota, total: usize) -> Result<Self, QuotaError> {
        let rate = each_address.rate()?;
        Ok(Self { table: Mutex::new(None), rate, total, created: AtomicUsize::new(0) })
    }

    /// Whether one more client may be created for an address, which counts it.
    pub(super) fn admit(&self, address: Key, timeline: impl FnOnce() -> Timeline) -> bool {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if self.created.load(Relaxed) >= self.total {
            return false;
        }
        if table.is_none() {
            *table = Memory::new(timeline(), TABLE_BYTES, 0).ok();
        }
        let Some(memory) = &*table else { return false };
        let charge = Charge {
            place: Place::Client(address),
            limit: 0,
            rate: self.rate,
            max_debt: 0,
            op: Op::Take(1),
            shadow: false,
        };
        let mut asked = [Asked::new(0, charge)];
        memory.charge(&mut asked);
        let admits = asked[0].reading.is_allowed();
        if admits {
            self.created.fetch_add(1, Relaxed);
        }
        admits
    }
}
