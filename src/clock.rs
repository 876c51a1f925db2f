//! What time it is, for the embedded engine.

#[cfg(all(test, loom))]
mod races;

use crate::sync::{AtomicU64, Mutex};
use std::{
    fmt,
    sync::{
        Arc, PoisonError,
        atomic::Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
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

    /// How far it is from its own zero.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.read())
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

/// Whole nanoseconds, at most 584 years.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Time as a limiter counts it: nanoseconds that never run backwards, whatever the clock does.
///
/// When a clock is set back, time goes on from where it was, as if it had not been. So a client owes what it owed, no more
/// and no less.
#[derive(Debug)]
pub(crate) struct Timeline {
    source: Source,
    /// By how much the clock was set back since the start.
    lead: AtomicU64,
    /// The latest time that was seen, behind it by up to the source's grain.
    high: AtomicU64,
    stepping: Mutex<()>,
    /// How far time may go before it is noted, and steps back that are too small to matter: processors whose counters
    /// differ by microseconds are no reason to write to a line that all of them read.
    grain: u64,
    /// Steps back up to this are waited out: between processors whose counters differ, time would gain with each of them.
    wobble: u64,
}

#[derive(Debug)]
enum Source {
    /// The processor's time stamp counter where it can be relied upon, else the system's monotonic clock.
    System {
        clock: quanta::Clock,
        origin: u64,
    },
    Manual(ManualClock),
}

/// Time starts here, because an entry that owes until 0 owes nothing.
const START: u64 = 1;
/// Time ends here, so that a time and a debt can always be added (see `Rate`). It is 146 years away.
const END: u64 = 1 << 62;

impl Timeline {
    pub(crate) fn system() -> Self {
        let clock = quanta::Clock::new();
        let origin = clock.raw();
        Self::new(Source::System { clock, origin }, 1_000_000, 1_000_000_000)
    }

    pub(crate) fn manual(clock: ManualClock) -> Self {
        Self::new(Source::Manual(clock), 0, 0)
    }

    fn new(source: Source, grain: u64, wobble: u64) -> Self {
        let high = AtomicU64::new(source.read());
        Self { source, lead: AtomicU64::new(0), high, stepping: Mutex::new(()), grain, wobble }
    }

    #[inline(always)]
    pub(crate) fn now(&self) -> u64 {
        let (now, high) = self.read();
        if now > high.saturating_add(self.grain) {
            self.high.fetch_max(now, Release);
        } else if now.saturating_add(self.grain) < high {
            return if high - now <= self.wobble { high.min(END) } else { self.step_back() };
        }
        now.min(END)
    }

    /// The clock was set back: from now on time is ahead of it by so much more.
    #[cold]
    fn step_back(&self) -> u64 {
        let _alone = self.stepping.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, high) = self.read();
        self.lead.fetch_add(high.saturating_sub(now), Release);
        now.max(high).min(END)
    }

    /// The time and the latest one seen before. The clock is read last: what another thread did meanwhile can only make
    /// the time later than what it is compared with, never look like a step back, nor add one twice.
    #[inline(always)]
    fn read(&self) -> (u64, u64) {
        let (lead, high) = (self.lead.load(Acquire), self.high.load(Acquire));
        (self.source.read().saturating_add(lead), high)
    }
}

impl Source {
    #[inline(always)]
    fn read(&self) -> u64 {
        let clock = match self {
            Self::System { clock, origin } => clock.delta_as_nanos(*origin, clock.raw()),
            Self::Manual(clock) => clock.read(),
        };
        clock.saturating_add(START)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stands_still_while_a_clock_repeats_itself() {
        let clock = ManualClock::new();
        let time = Timeline::manual(clock.clone());
        let start = time.now();
        clock.advance(Duration::from_nanos(50));
        assert_eq!(time.now(), start + 50);
        for _ in 0..2 {
            clock.set_back(Duration::from_secs(600));
            assert_eq!(time.now(), start + 50);
        }
        clock.advance(Duration::from_nanos(7));
        assert_eq!(time.now(), start + 57);
        clock.advance(Duration::MAX);
        assert_eq!(time.now(), END);
    }

    /// As between processors whose counters differ: a small step back is waited out, a large one is gone over.
    #[test]
    fn a_clock_that_wobbles_gains_nothing() {
        let clock = ManualClock::new();
        let time = Timeline::new(Source::Manual(clock.clone()), 1_000, 1_000_000);
        clock.advance(Duration::from_secs(1));
        let start = time.now();
        for _ in 0..100 {
            clock.set_back(Duration::from_nanos(900_000));
            assert_eq!(time.now(), start);
            clock.advance(Duration::from_nanos(900_000));
            assert_eq!(time.now(), start);
        }
        clock.set_back(Duration::from_secs(1));
        assert_eq!(time.now(), start);
        clock.advance(Duration::from_nanos(5_000));
        assert_eq!(time.now(), start + 5_000);
    }

    /// A clock that moves on while another thread reads it was not set back.
    #[test]
    fn time_gains_nothing_from_many_readers() {
        let clock = ManualClock::new();
        let time = Timeline::manual(clock.clone());
        let start = time.now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000_000 {
                        clock.advance(Duration::from_nanos(1));
                        time.now();
                    }
                });
            }
        });
        assert_eq!(time.now(), start + 4_000_000);
    }

    #[test]
    fn the_system_clock_goes_on() {
        let time = Timeline::system();
        let start = time.now();
        while time.now() == start {}
        assert!(time.now() > start);
    }
}
