//! GCRA in unbounded integers, for the limits of one policy, and what can be seen of it.

use std::collections::HashMap;
use tidegate::LimitStatus;

pub(crate) const CLIENTS: [&str; 3] = ["ann", "ben", "cat"];
pub(crate) const ROUTES: [&str; 2] = ["/x", "/y"];
pub(crate) const RULES: [&str; 3] = ["main", "watch", "late"];

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Scope {
    Client,
    Route,
    Shared,
}

/// Name, rule, scope, whether its cost is the request's, and what it costs otherwise.
pub(crate) const LIMITS: [(&str, usize, Scope, bool, u32); 6] = [
    ("client", 0, Scope::Client, true, 1),
    ("route", 0, Scope::Route, false, 1),
    ("shared", 0, Scope::Shared, false, 2),
    ("watched", 1, Scope::Client, true, 1),
    ("watched shared", 1, Scope::Shared, false, 1),
    ("late", 2, Scope::Client, false, 3),
];
pub(crate) const SHADOW: usize = 1;

/// All that a limit's status shows, times in nanoseconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) limit: &'static str,
    pub(crate) allowed: bool,
    pub(crate) never: bool,
    pub(crate) remaining: u128,
    pub(crate) reset: u128,
    pub(crate) retry: Option<u128>,
    pub(crate) next: Option<u128>,
}

impl Seen {
    pub(crate) fn of(status: &LimitStatus<'_>) -> Self {
        let reading = status.reading();
        Self {
            limit: LIMITS.iter().find(|limit| limit.0 == status.limit()).unwrap().0,
            allowed: reading.is_allowed(),
            never: reading.is_never(),
            remaining: status.remaining().into(),
            reset: reading.reset_after().as_nanos(),
            retry: reading.retry_after().map(|wait| wait.as_nanos()),
            next: reading.next_after(status.rate()).map(|wait| wait.as_nanos()),
        }
    }
}

/// What a charge does in the model.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    Take(u32),
    Peek(u32),
    Give(u128),
    Clear,
}

/// A limit, and the client and route that its debt is kept for.
pub(crate) type Place = (usize, Option<usize>, Option<usize>);

pub(crate) fn place(limit: usize, client: usize, route: usize) -> Place {
    match LIMITS[limit].2 {
        Scope::Client => (limit, Some(client), None),
        Scope::Route => (limit, Some(client), Some(route)),
        Scope::Shared => (limit, None, None),
    }
}

/// GCRA in unbounded integers: each place owes until some time, reckoned under some interval.
pub(crate) struct Model {
    pub(crate) clock: u128,
    seen: u128,
    pub(crate) now: u128,
    pub(crate) rates: Vec<(u128, u128)>,
    owing: HashMap<Place, (u128, u128)>,
}

impl Model {
    pub(crate) fn new(rates: Vec<(u128, u128)>) -> Self {
        let start = 3_600_000_000_000;
        Self { clock: start, seen: start, now: 1, rates, owing: HashMap::new() }
    }

    /// Time moves forward by as much as the clock did since it was read last, up to 2^62.
    pub(crate) fn tick(&mut self) {
        self.now = (self.now + self.clock.saturating_sub(self.seen)).min(1 << 62);
        self.seen = self.clock;
    }

    /// The debt at a place, carried over in units if it was written at another rate, at most a burst.
    fn debt(&mut self, place: Place) -> u128 {
        let (interval, burst) = self.rates[place.0];
        let Some((until, written)) = self.owing.get(&place).copied() else { return 0 };
        let owed = until.saturating_sub(self.now);
        if owed == 0 {
            return 0;
        }
        let carried =
            if kept(written) == kept(interval) { owed } else { (owed * interval).div_ceil(kept(written)) };
        let debt = carried.min(interval * burst);
        if debt != owed || kept(written) != kept(interval) {
            self.owing.insert(place, (self.now + debt, interval));
        }
        debt
    }

    pub(crate) fn decide(&mut self, charges: &[(Place, Act)]) -> Vec<Seen> {
        self.tick();
        let mut parts = Vec::new();
        for (place, act) in charges {
            let before = self.debt(*place);
            let (interval, burst) = self.rates[place.0];
            let full = interval * burst;
            let (after, wait) = match *act {
                Act::Take(cost) | Act::Peek(cost) => {
                    let after = before + interval * u128::from(cost);
                    match () {
                        () if cost == 0 => (before, Some(0)),
                        () if u128::from(cost) > burst => (before, None),
                        () => (after, Some(after.saturating_sub(full))),
                    }
                }
                Act::Give(nanos) => (before.saturating_sub(nanos), Some(0)),
                Act::Clear => (0, Some(0)),
            };
            parts.push((*place, *act, before, after, wait));
        }
        let fit = |shadow: bool| {
            parts.iter().filter(|part| (LIMITS[part.0.0].1 == SHADOW) == shadow).all(|part| part.4 == Some(0))
        };
        let (enforced_fit, watched_fit) = (fit(false), fit(true));
        parts
            .iter()
            .map(|&(place, act, before, after, wait)| {
                let applies = match act {
                    Act::Take(_) => enforced_fit && (LIMITS[place.0].1 != SHADOW || watched_fit),
                    Act::Peek(_) => false,
                    Act::Give(_) | Act::Clear => true,
                };
                let (interval, burst) = self.rates[place.0];
                if applies && after != before {
                    self.owing.insert(place, (self.now + after, interval));
                }
                let debt = if applies { after } else { before };
                let remaining = (interval * burst - debt) / interval;
                Seen {
                    limit: LIMITS[place.0].0,
                    allowed: wait == Some(0),
                    never: wait.is_none(),
                    remaining,
                    reset: debt,
                    retry: wait.filter(|wait| *wait > 0),
                    next: (debt > 0).then(|| debt - (burst - remaining - 1) * interval),
                }
            })
            .collect()
    }
}

/// The engine keeps the 26 highest bits of the interval that a debt was written under.
pub(crate) fn kept(interval: u128) -> u128 {
    let low = (128 - interval.leading_zeros()).saturating_sub(26);
    interval >> low << low
}
