//! The sending side: what a program sends is held to quotas by waiting rather than by refusing.
//!
//! Who waits and for how long is decided without any runtime. `timer` is what knows one; `batch/run` uses tokio's
//! notifications besides, which need none.

#[cfg(feature = "retry")]
mod backoff;
mod batch;
mod costs;
mod error;
mod feedback;
mod future;
mod judge;
mod layer;
mod listening;
mod look;
mod pacer;
mod passage;
mod priority;
mod queue;
#[cfg(feature = "retry")]
mod retry;
#[cfg(feature = "scrape")]
mod scrape;
mod service;
mod shared;
mod spacing;
mod timer;
mod wait;

#[cfg(feature = "retry")]
pub use backoff::Backoff;
pub use batch::{Batch, BatchPlan, Batches, PushError};
pub use costs::Costs;
pub use error::{PaceError, Rejected, SendError};
pub use feedback::{Aimd, Breaker, Feedback, InFlight, Outcome, Signals};
pub use future::SendFuture;
pub use judge::{ByAnswer, Judge, JudgeBy, Unjudged};
pub use layer::{Divert, DivertBy, PaceLayer, Reject};
pub use pacer::Pacer;
pub use passage::PaceFuture;
pub use priority::Priority;
#[cfg(feature = "retry")]
pub use retry::Retry;
#[cfg(feature = "scrape")]
pub use scrape::{Scrape, ScrapeError};
pub use service::Pace;
