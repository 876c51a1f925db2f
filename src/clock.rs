//! What time it is, for the embedded engine.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// A clock that stands still until it is told to move, for tests of whatever holds a limiter.
///
/// Clones share one time. It starts an hour after its own zero, so that it can also be set back.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Identity, Limiter, ManualClock, Policy, Quota};
///
/// # async fn test() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = ManualClock::new();
/// let limiter = Limiter::builder(Policy::per_client(Quota::per_minute(1))).clock(clock.clone()).build()?;
/// let ann = limiter.client(&Identity::name("ann"));
/// assert!(ann.charge("client").await?.is_allowed());
/// assert!(!ann.charge("client").await?.is_allowed());
/// clock.advance(Duration::from_secs(60));
/// assert!(ann.charge("client").await?.is_allowed());
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test()).unwrap();
/// ```
#[derive(Clone)]
pub struct ManualClock {
    nanos: Arc<AtomicU64>,
}

impl ManualClock {
    /// A clock that stands still.
    pub fn new() -> Self {
        Self { nanos: Arc::new(AtomicU64::new(3_600_000_000_000)) }
    }

    /// Moves the clock forward; it stops at 584 years.
    pub fn advance(&self, by: Duration) {
        self.shift(|now| now.saturating_add(nanos(by)));
    }

    /// Sets the clock back, as a machine's clock may be; it stops at its own zero.
    pub fn set_back(&self, by: Duration) {
        self.shift(|now| now.saturating_sub(nanos(by)));
    }

    fn shift(&self, to: impl Fn(u64) -> u64) {
        // The closure always answers `Some`, so there is always a new value.
        let _ = self.nanos.fetch_update(Relaxed, Relaxed, |now| Some(to(now)));
    }

    fn read(&self) -> u64 {
        self.nanos.load(Relaxed)
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&Duration::from_nanos(self.read())).finish()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Time as a limiter counts it: nanoseconds that never run backwards, whatever the clock does.
///
/// While a clock that was set back repeats a stretch of time, that stretch counts again from where time stood.
/// So a client owes what it owed, no more and no less.
#[derive(Debug)]
pub(crate) enum Timeline {
    /// `Instant` never runs backwards.
    System {
        origin: Instant,
    },
    Manual {
        clock: ManualClock,
        state: Mutex<Seen>,
    },
}

#[derive(Debug)]
pub(crate) struct Seen {
    clock: u64,
    now: u64,
}

/// Time starts here, because a theoretical arrival time of 0 means that nothing is owed.
const START: u64 = 1;
/// Time ends here, so that a time and a debt can always be added (see `Rate`). It is 146 years away.
const END: u64 = 1 << 62;

impl Timeline {
    pub(crate) fn system() -> Self {
        Self::System { origin: Instant::now() }
    }

    pub(crate) fn manual(clock: ManualClock) -> Self {
        let state = Mutex::new(Seen { clock: clock.read(), now: START });
        Self::Manual { clock, state }
    }

    pub(crate) fn now(&self) -> u64 {
        match self {
            Self::System { origin } => (nanos(origin.elapsed()) + START).min(END),
            Self::Manual { clock, state } => {
                let mut seen = state.lock().unwrap_or_else(PoisonError::into_inner);
                let reads = clock.read();
                seen.now = seen.now.saturating_add(reads.saturating_sub(seen.clock)).min(END);
                seen.clock = reads;
                seen.now
            }
        }
    }
}
