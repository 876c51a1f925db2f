//! How long things take, unless they are set.

use std::time::Duration;

/// How long things take, and how often they are tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) deadline: Duration,
    pub(super) connect: Duration,
    /// The first pause between tries to connect, and the longest.
    pub(super) backoff: (Duration, Duration),
    /// So many calls in a row that fail stop all others.
    pub(super) failures: u32,
    /// How long refusals are known.
    pub(super) refusals: Duration,
    /// How long what is known of clients is good for while Redis is away.
    pub(super) keep: Duration,
    /// How long a permit is kept without a sign of life.
    pub(super) permit_life: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(20),
            connect: Duration::from_secs(1),
            backoff: (Duration::from_millis(50), Duration::from_secs(2)),
            failures: 5,
            refusals: Duration::from_secs(1),
            keep: Duration::from_secs(600),
            permit_life: Duration::from_secs(10),
        }
    }
}
