//! Where requests are counted. A store knows keys and rates, never HTTP.

mod charge;
mod memory;
mod reading;
mod remote;

use smallvec::SmallVec;

pub use charge::{Charge, Op, Place};
pub(crate) use memory::Memory;
pub use reading::Reading;
pub use remote::{Store, StoreError, StoreFuture};

/// The readings of a list of charges, in its order.
pub(crate) type Readings = SmallVec<[Reading; 4]>;
