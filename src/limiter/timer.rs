//! What tells that a time is over. Limits have none of their own: whoever has requests wait brings it.

use std::{pin::Pin, sync::Arc, time::Duration};

/// Is ready after a time.
pub(crate) type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) type Timer = Arc<dyn Fn(Duration) -> Sleep + Send + Sync>;
