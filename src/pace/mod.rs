//! The sending side: what a program sends is held to quotas by waiting rather than by refusing.
//!
//! Who waits and for how long is decided without any runtime; only `timer` knows one.

mod costs;
mod error;
mod future;
mod layer;
mod pacer;
mod queue;
#[cfg(feature = "retry")]
mod retry;
mod service;
mod spacing;
mod timer;
#[cfg(feature = "retry")]
mod told;
mod wait;

pub use costs::Costs;
pub use error::{PaceError, Rejected, SendError};
pub use future::SendFuture;
pub use layer::{Divert, DivertBy, PaceLayer, Reject};
pub use pacer::{PaceFuture, Pacer};
#[cfg(feature = "retry")]
pub use retry::Retry;
pub use service::Pace;
