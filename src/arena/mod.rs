//! Room of a fixed size: taken once, never grown, and given out by number.

mod list;
mod slab;
mod table;

pub(crate) use list::{Hook, List, Listed};
pub(crate) use slab::Slab;
pub(crate) use table::Table;

/// No number of anything: where a list or a chain ends.
const NONE: u32 = u32::MAX;
