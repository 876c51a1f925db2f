//! The limiter as tower middleware.
//!
//! It never limits in `poll_ready`, which cannot see the request, and is as ready as the service it wraps.

mod body;
mod course;
mod flow;
mod future;
#[allow(clippy::module_inception)]
mod layer;
mod meter;
mod ongoing;
mod service;
mod settle;
mod upload;

pub use body::ThrottleBody;
pub use flow::Flow;
pub use future::ResponseFuture;
pub use layer::ThrottleLayer;
pub use ongoing::Ongoing;
pub use service::Throttle;
pub use upload::{UploadBody, UploadLayer, Uploads};
