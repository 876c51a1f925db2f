//! The sinks that events go to.

mod trace;

pub(crate) use trace::{TARGET, trace};
