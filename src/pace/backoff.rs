use std::{fmt, sync::Arc, time::Duration};

/// How long to wait before something is tried again: random times that may be longer with each try, so that those who failed
/// together do not return together.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Backoff, Limit, Pacer, Quota};
///
/// # async fn read() -> Result<u32, ()> { Ok(7) }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tidegate::BuildError> {
/// let pacer = Pacer::new([Limit::shared("reads", Quota::per_second(100))])?;
/// let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
/// let record = loop {
///     match read().await {
///         Ok(record) => break record,
///         Err(()) => pacer.back_off(&mut backoff).await,
///     }
/// };
/// backoff.reset();
/// # Ok(())
/// # }
/// ```
///
/// The n-th wait is drawn evenly from nothing to the first backoff times 2^(n-1) (full jitter), and is never longer than the
/// longest.
#[derive(Clone)]
#[must_use]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    decorrelated: bool,
    stretch: Option<Arc<dyn Fn() -> f64 + Send + Sync>>,
    drawn: u32,
    last: Duration,
}

impl Backoff {
    /// From `first` on, which doubles with each try, up to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, decorrelated: false, stretch: None, drawn: 0, last: Duration::ZERO }
    }

    /// Draws each wait between the first backoff and three times the last wait, instead of from nothing to a power of two.
    pub fn decorrelated(self) -> Self {
        Self { decorrelated: true, ..self }
    }

    /// Makes waits so many times as long, as a closure says before each, up to the longest: by signals of a
    /// [`Pacer`](crate::Pacer::signals), say, such as the number of rebalances.
    pub fn stretch(self, times: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self { stretch: Some(Arc::new(times)), ..self }
    }

    /// The next wait.
    pub fn draw(&mut self) -> Duration {
        let (low, high) = if self.decorrelated {
            (self.first, self.last.max(self.first).saturating_mul(3))
        } else {
            let doubled = 1u32.checked_shl(self.drawn).unwrap_or(u32::MAX);
            (Duration::ZERO, self.first.saturating_mul(doubled))
        };
        let times = self.stretch.as_ref().map_or(1.0, |stretch| stretch());
        let times = if times.is_finite() { times.max(0.0) } else { 1.0 };
        let longest = nanos(self.longest);
        // The conversion saturates.
        let [low, high] = [low, high].map(|time| ((nanos(time) as f64 * times) as u64).min(longest));
        self.last = Duration::from_nanos(fastrand::u64(low..=high));
        self.drawn = self.drawn.saturating_add(1);
        self.last
    }

    /// How many waits were drawn since the last [`reset`](Self::reset).
    pub const fn drawn(&self) -> u32 {
        self.drawn
    }

    /// Starts from the first backoff again, after a try that went well.
    pub const fn reset(&mut self) {
        (self.drawn, self.last) = (0, Duration::ZERO);
    }

    pub(super) const fn bounds(&mut self, first: Duration, longest: Duration) {
        (self.first, self.longest) = (first, longest);
    }
}

/// At most 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backoff")
            .field("first", &self.first)
            .field("longest", &self.longest)
            .field("drawn", &self.drawn)
            .finish_non_exhaustive()
    }
}
