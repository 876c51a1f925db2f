//! Where requests are counted. A store knows keys and rates, never HTTP.

mod charge;
mod joining;
mod memory;
mod reading;
mod remote;
mod slot;

pub(crate) use charge::{Asked, Fit};
pub use charge::{Charge, Op, Place};
#[cfg(feature = "redis")]
pub(crate) use joining::Former;
pub use joining::{Joining, StoreChange};
pub(crate) use memory::{Answers, Memory, Ready};
pub use reading::Reading;
pub use remote::{Store, StoreError, StoreFuture};
pub use slot::{Lease, Occupied, OccupiedFuture, Slot, SlotReading};
