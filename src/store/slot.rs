use super::{Place, Reading, StoreError};
use std::{fmt, pin::Pin};

/// One limit's part in how many run at once: whose permit is asked for, and how many there are.
///
/// In one list each pair of place and limit stands at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Who runs.
    pub place: Place,
    /// The limit, as a hash of its name. No limit on rates has the same.
    pub limit: u64,
    /// How many may be in use at once.
    pub max: u32,
    /// Never refuses the others, and is taken with them where all watched ones are free.
    pub shadow: bool,
}

/// What became of a list of slots and charges.
#[derive(Debug, Default)]
pub struct Occupied {
    /// What each slot says, in the order of the list.
    pub slots: Vec<SlotReading>,
    /// A reading for each charge; none where a slot refused, so that nothing was asked of the rates.
    pub readings: Vec<Reading>,
    /// What was taken, if it was.
    pub lease: Option<Lease>,
}

/// What a slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotReading {
    /// How many are in use by all instances, this one among them if it was taken.
    pub used: u32,
    /// Whether there was room.
    pub is_free: bool,
}

/// Slots that a store keeps for somebody, for as long as this is not dropped and its instance lives.
#[must_use = "slots are given back when this is dropped"]
pub struct Lease(#[allow(dead_code, reason = "it is there to be dropped")] Box<dyn Send + Sync>);

impl Lease {
    /// `guard` gives the slots back when it is dropped.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

/// The answer of a [`Store`](crate::Store) to slots and charges.
pub type OccupiedFuture = Pin<Box<dyn Future<Output = Result<Occupied, StoreError>> + Send>>;
