//! The sending side: what a program sends is held to quotas by waiting rather than by refusing.
//!
//! Who waits and for how long is decided without any runtime; only `timer` knows one.

mod costs;
mod error;
mod pacer;
mod queue;
mod spacing;
mod timer;
mod wait;

pub use costs::Costs;
pub use error::{PaceError, Rejected};
pub use pacer::{PaceFuture, Pacer};
