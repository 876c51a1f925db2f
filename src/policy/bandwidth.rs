//! Bytes of bodies as what a limit counts.

use super::{Settle, cost::Settlement};
use crate::Rate;
use std::{borrow::Cow, num::NonZeroU32, time::Duration};

/// How many bytes are one unit.
type Grain = NonZeroU32;

/// The bytes of bodies count, in grains of so many bytes (at least 1), the last one rounded up.
///
/// The units that a request takes on the way in are the first grains. Those that follow are added as debt while the body is
/// being sent, so the next request finds them; no body is ever cut off. [`pace`](Self::pace) makes bodies wait instead.
///
/// Choose the grain so that the bandwidth stays below the 10,000,000 units a second that a quota can count. Clients are told
/// bytes, with `qu="content-bytes"`.
///
/// Of requests, only bodies count that go through an [`UploadBody`](crate::UploadBody): see
/// [`ThrottleLayer::uploads`](crate::ThrottleLayer::uploads).
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Bandwidth, Limit, Limiter, Policy, Quota, Rule};
///
/// # fn main() -> Result<(), tidegate::BuildError> {
/// // 10 MiB a second in both directions together, and 20 MiB at once.
/// let quota = Quota::per_second(10 << 10).burst(20 << 10);
/// let limit = Limit::per_client("bandwidth", quota)
///     .settle(Bandwidth::both(1024).pace(Duration::from_secs(5)));
/// let policy = Policy::new().rule(Rule::new("all").limit(limit));
/// let limiter = Limiter::builder(policy).timer(tokio::time::sleep).build()?;
/// let layer = limiter.layer().uploads();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "it says what a limit counts; hand it to `Limit::settle`"]
pub struct Bandwidth {
    grain: u32,
    directions: [bool; 2],
    pace: Option<Duration>,
}

/// Which way a body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client: a request's body.
    Up,
    /// To the client: a response's body.
    Down,
}

impl Bandwidth {
    /// The bytes of responses' bodies.
    pub const fn responses(grain: u32) -> Self {
        Self { grain, directions: [false, true], pace: None }
    }

    /// The bytes of requests' bodies.
    pub const fn requests(grain: u32) -> Self {
        Self { grain, directions: [true, false], pace: None }
    }

    /// The bytes of both together.
    pub const fn both(grain: u32) -> Self {
        Self { grain, directions: [true, true], pace: None }
    }

    /// Bodies wait, in pieces, until the quota has room for them; a client's bodies share it evenly. It needs a
    /// [`timer`](crate::LimiterBuilder::timer).
    ///
    /// A piece has its place in the queue for `longest` at most (longer than nothing), and a new request is refused where the
    /// queue is that long. Pieces that find no place in it are held back without one, so where a client has very many
    /// bodies under way, each waits longer: [`Concurrency`](crate::Concurrency) bounds their number.
    ///
    /// Under a rule that only watches, nothing waits.
    pub const fn pace(mut self, longest: Duration) -> Self {
        self.pace = Some(longest);
        self
    }
}

impl From<Bandwidth> for Settle {
    fn from(bandwidth: Bandwidth) -> Self {
        let Bandwidth { grain, directions, pace } = bandwidth;
        Self(match (Grain::new(grain), pace) {
            (None, _) => Err(Cow::Borrowed("a grain of 0 bytes; use at least 1, such as 1024")),
            (_, Some(Duration::ZERO)) => {
                Err(Cow::Borrowed("nothing may wait for any time; give some to `pace`, or leave it out"))
            }
            (Some(grain), pace) => Ok(Settlement::Bytes(Metering { grain, directions, pace })),
        })
    }
}

/// What is counted of bodies, without mistakes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metering {
    pub(crate) grain: Grain,
    directions: [bool; 2],
    pub(crate) pace: Option<Duration>,
}

/// Pieces of bodies that wait are no smaller, unless the burst is.
const LEAST_PIECE: u64 = 4096;
/// So many pieces make up what a quota gives in a second, so that they take turns often.
const PIECES_A_SECOND: u64 = 50;

impl Metering {
    pub(crate) const fn counts(&self, direction: Direction) -> bool {
        self.directions[direction as usize]
    }

    /// So many bytes of a body wait together.
    pub(crate) fn piece(&self, rate: Rate) -> u64 {
        let grain = u64::from(self.grain.get());
        let a_second = (1_000_000_000 / rate.interval_ns()).saturating_mul(grain);
        let burst = u64::from(rate.burst().get()).saturating_mul(grain);
        (a_second / PIECES_A_SECOND).max(LEAST_PIECE).min(burst)
    }

    /// How many units may wait.
    pub(crate) fn room(&self, rate: Rate) -> u32 {
        let Some(pace) = self.pace else { return 0 };
        // A debt of more could not be counted.
        let longest = u64::try_from(pace.as_nanos()).unwrap_or(u64::MAX).min(1 << 61);
        let units = longest.div_ceil(rate.interval_ns());
        u32::try_from(units).unwrap_or(u32::MAX).min(u32::MAX / 2)
    }
}
