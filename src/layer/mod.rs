//! The limiter as tower middleware.
//!
//! It never limits in `poll_ready`, which cannot see the request, and is as ready as the service it wraps.

mod body;
mod course;
mod future;
#[allow(clippy::module_inception)]
mod layer;
mod service;
mod settle;

pub use body::ThrottleBody;
pub use future::ResponseFuture;
pub use layer::ThrottleLayer;
pub use service::Throttle;
