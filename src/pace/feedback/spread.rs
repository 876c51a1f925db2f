//! What limits of the other side still admit, and how fast to go by it.

use crate::clock::nanos;
use smallvec::SmallVec;
use std::time::Duration;

/// What one limit of the other side says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remaining {
    /// Tells limits apart: a hash of the limit's name.
    pub(super) limit: u64,
    pub(super) units: u64,
    /// How long until it admits more, in whole seconds where an answer over HTTP says so.
    pub(super) reset: Duration,
    /// So many units in so much time, where that is known.
    pub(super) quota: Option<(u64, Duration)>,
}

pub(super) type Limits = SmallVec<[Remaining; 2]>;

/// So many limits are remembered.
const MOST: usize = 16;

/// How fast to go by what limits say.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// The most that each limit has ever admitted.
    most: SmallVec<[(u64, u64); 2]>,
    interval: u64,
    until: u64,
}

impl Spread {
    /// The least nanoseconds between units, as of now.
    pub(super) const fn interval(&self, now: u64) -> u64 {
        if now < self.until { self.interval } else { 0 }
    }

    /// Takes note of what limits say, and answers with how long nothing may go, in nanoseconds.
    pub(super) fn note(&mut self, limits: &Limits, longest: Duration, now: u64) -> u64 {
        let (mut pause, mut slowest) = (0, None);
        for limit in limits {
            let most = self.most(limit);
            let (interval, reset) = pace(limit, most, nanos(longest));
            match interval {
                Some(interval) => slowest = slowest.max(Some((interval, reset))),
                None => pause = pause.max(reset),
            }
        }
        if let Some((interval, reset)) = slowest {
            (self.interval, self.until) = (interval, now.saturating_add(reset));
        }
        pause
    }

    /// The most that a limit has ever admitted, this time included.
    fn most(&mut self, limit: &Remaining) -> u64 {
        if let Some((_, most)) = self.most.iter_mut().find(|(known, _)| *known == limit.limit) {
            *most = limit.units.max(*most);
            return *most;
        }
        if self.most.len() == MOST {
            self.most.remove(0);
        }
        self.most.push((limit.limit, limit.units));
        limit.units
    }
}

/// The nanoseconds between units, nothing where none is left, and how long that holds.
///
/// What remains is spread over the reset. Where the quota is known, the reset is no longer than what was ever there takes to
/// come back, because resets are in whole seconds; and while at least half of that is left, all of the quota's rate may be
/// used. Below that it becomes slower in proportion, so that nothing is refused, however many send.
fn pace(limit: &Remaining, most: u64, longest: u64) -> (Option<u64>, u64) {
    let reset = nanos(limit.reset).min(longest);
    let each = limit.quota.filter(|(amount, _)| *amount > 0).map(|(amount, time)| nanos(time) / amount);
    let Some(each) = each else { return (reset.checked_div(limit.units), reset) };
    let whole = each.saturating_mul(most.saturating_add(1));
    let reset = reset.min(whole);
    let Some(spread) = reset.checked_div(limit.units) else { return (None, reset) };
    let by_rate = (whole / 2 / limit.units).max(each);
    // What is known is old when as much time has passed as the units that are left take.
    (Some(spread.min(by_rate)), reset.max(by_rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn of(units: u64, seconds: u64, quota: Option<(u64, u64)>) -> Remaining {
        let quota = quota.map(|(amount, seconds)| (amount, Duration::from_secs(seconds)));
        Remaining { limit: 0, units, reset: Duration::from_secs(seconds), quota }
    }

    #[test]
    fn what_remains_is_spread_and_the_quota_bounds_it() {
        for (limit, most, expected) in [
            // No quota is known: 5 in 10 seconds, and none.
            (of(5, 10, None), 5, (Some(2 * SECOND), 10 * SECOND)),
            (of(0, 10, None), 5, (None, 10 * SECOND)),
            // A window of a minute, half of it gone: what is left, evenly.
            (of(30, 30, Some((60, 60))), 59, (Some(SECOND), 30 * SECOND)),
            // A bucket of 20 at 100 a second tells a whole second, and is full again after a fifth of one.
            (of(10, 1, Some((100, 1))), 19, (Some(SECOND / 100), SECOND / 5)),
            (of(2, 1, Some((100, 1))), 19, (Some(SECOND / 20), SECOND / 5)),
            (of(0, 1, Some((100, 1))), 19, (None, SECOND / 5)),
            // A bucket of 1.
            (of(0, 1, Some((100, 1))), 0, (None, SECOND / 100)),
            // Nonsense.
            (of(7, 9, Some((0, 0))), 7, (Some(9 * SECOND / 7), 9 * SECOND)),
            (of(u64::MAX, 9, Some((1, 1))), u64::MAX, (Some(0), 9 * SECOND)),
        ] {
            assert_eq!(pace(&limit, most, 60 * SECOND), expected, "{limit:?}");
        }
    }
}
