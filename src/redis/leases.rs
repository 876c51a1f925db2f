//! Units that this instance has debited in advance, so that requests at hot keys need no call each.
//!
//! What is spent here was debited before, so in the long run nothing is admitted beyond the limit. How much is debited follows
//! what was asked for lately, and is less the less is left.

use crate::{Charge, Op, Place, Rate, Reading, clock::Timeline, store::Fit};
use smallvec::SmallVec;
use std::sync::{
    Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

/// What this instance holds, in memory of a fixed size that is taken where a limit is leased: in a full set, whoever was asked
/// for longest ago makes room, and what it held is given back.
pub(super) struct Leases {
    timeline: Timeline,
    house: OnceLock<House>,
    closed: AtomicBool,
    decided: AtomicU64,
    leased: AtomicU64,
    returned: AtomicU64,
}

struct House {
    /// Leased limits, and how many units of each key an instance may hold.
    limits: Box<[(u64, u32)]>,
    sets: Box<[Mutex<Set>]>,
}

type Set = [Option<Account>; WAYS];

/// What is held of one key, and what was asked for lately.
#[derive(Clone, Copy)]
struct Account {
    place: Place,
    limit: u64,
    rate: Rate,
    max_debt: u32,
    /// Units that are debited and not spent.
    left: u32,
    /// More are being asked for.
    asks: bool,
    /// There were less than was asked for, so nothing is fetched ahead.
    is_tight: bool,
    /// What was owed when Redis was last heard, what is held included.
    debt: u64,
    heard: u64,
    /// Units that were asked for since the window began, and in the one before.
    seen: u32,
    pace: u32,
    since: u64,
    used: u64,
}

/// What one charge of a call takes from what is held, and how much more it is to debit for what comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) held: u32,
    pub(super) more: u32,
}

/// For each charge of a call.
pub(super) type Parts = SmallVec<[Part; 4]>;

/// What was decided without a call, and the charges that fetch more, with how much.
pub(super) type Spent = (Vec<Reading>, Vec<(Charge, u32)>);

/// What Redis answered: a reading for each charge, and what it debited beyond it.
#[derive(Clone, Copy)]
pub(super) struct Heard<'a> {
    pub(super) readings: &'a [Reading],
    pub(super) granted: &'a [u32],
}

/// Sets, a power of two, and places in each: 16,384 in all, 128 bytes each.
const SETS: usize = 4_096;
const WAYS: usize = 4;
/// A lease is for what comes in so many nanoseconds.
const WINDOW: u64 = 100_000_000;
/// What is not asked for in so many is given back.
const IDLE: u64 = 1_000_000_000;
/// So many keys' units are given back at once, about, that Redis is held up for no longer than some milliseconds.
const MOST_RETURNS: usize = 1_000;

impl Leases {
    pub(super) const fn new(timeline: Timeline) -> Self {
        Self {
            timeline,
            house: OnceLock::new(),
            closed: AtomicBool::new(false),
            decided: AtomicU64::new(0),
            leased: AtomicU64::new(0),
            returned: AtomicU64::new(0),
        }
    }

    /// Says once which limits are leased.
    pub(super) fn open(&self, limits: &[(u64, u32)]) {
        if !limits.is_empty() {
            let sets = (0..SETS).map(|_| Mutex::default()).collect();
            let _ = self.house.set(House { limits: limits.into(), sets });
        }
    }

    /// Requests that were decided without a call, units that were debited in advance, and those that were given back.
    pub(super) fn numbers(&self) -> [u64; 3] {
        [&self.decided, &self.leased, &self.returned].map(|number| number.load(Relaxed))
    }

    fn house(&self) -> Option<&House> {
        self.house.get().filter(|_| !self.closed.load(Relaxed))
    }

    /// Decides a list by what is held, if that is enough for all of it. Also tells of which of its charges it is time to
    /// fetch more, and how much.
    pub(super) fn spend(&self, charges: &[Charge]) -> Option<Spent> {
        let (house, now) = (self.house()?, self.timeline.now());
        let mut readings = Vec::with_capacity(charges.len());
        let mut is_low = false;
        for (number, charge) in charges.iter().enumerate() {
            let Some((reading, low)) = house.take(charge, now) else {
                charges[..number].iter().for_each(|charge| house.put_back(charge));
                return None;
            };
            is_low |= low;
            readings.push(reading);
        }
        self.decided.fetch_add(1, Relaxed);
        let fetch = charges.iter().filter(|_| is_low).filter_map(|charge| house.fetch(charge));
        Some((readings, fetch.collect()))
    }

    /// What the charges of a call take from what is held, which is set aside for them, and how much more they are to debit. What
    /// had to make room is to be given back.
    pub(super) fn ask(&self, charges: &[Charge]) -> (Parts, Vec<Charge>) {
        let mut returns = Vec::new();
        let Some(house) = self.house() else { return (Parts::new(), returns) };
        let now = self.timeline.now();
        let parts = charges.iter().map(|charge| house.ask(charge, now, &mut returns)).collect();
        (parts, self.returning(returns))
    }

    /// Books what became of a call; nothing is heard where nobody knows. What nobody has an account for any more is to be given
    /// back.
    pub(super) fn book(&self, charges: &[Charge], parts: &[Part], heard: Option<Heard<'_>>) -> Vec<Charge> {
        let mut returns = Vec::new();
        let Some(house) = self.house.get() else { return returns };
        let now = self.timeline.now();
        let fit = heard.map(|heard| {
            let fits = |(charge, reading): (&Charge, &Reading)| (charge.shadow, reading.is_allowed());
            Fit::of(charges.iter().zip(heard.readings).map(fits))
        });
        for (number, (charge, part)) in charges.iter().zip(parts).enumerate() {
            let applied = fit.is_some_and(|fit| fit.enforced && (fit.watched || !charge.shadow));
            let debt = heard.and_then(|heard| heard.readings.get(number)).map(Reading::debt_ns);
            let granted = heard.and_then(|heard| heard.granted.get(number)).copied().unwrap_or(0);
            let back = granted + if applied { 0 } else { part.held };
            self.leased.fetch_add(granted.into(), Relaxed);
            let mut set = house.set(charge);
            let found = set.iter_mut().flatten().find(|account| account.is_of(charge));
            let surplus = match found.filter(|_| !self.closed.load(Relaxed)) {
                Some(account) => {
                    account.book(*part, back, granted, debt, now);
                    // What is set aside for one call may come back after another one has fetched more.
                    let surplus = account.left.saturating_sub(house.most(charge.limit).unwrap_or(0));
                    account.left -= surplus;
                    surplus
                }
                None => back,
            };
            returns.extend(give(charge, surplus, debt.unwrap_or(0)));
        }
        self.returning(returns)
    }

    /// What was held for keys that nobody asks for any more, to be given back.
    pub(super) fn idle(&self) -> Vec<Charge> {
        let now = self.timeline.now();
        self.drain(MOST_RETURNS, |account| !account.asks && now.saturating_sub(account.used) >= IDLE)
    }

    /// All that is held, to be given back; from now on nothing is.
    pub(super) fn close(&self) -> Vec<Charge> {
        self.closed.store(true, Relaxed);
        self.drain(usize::MAX, |_| true)
    }

    fn drain(&self, most: usize, is_over: impl Fn(&Account) -> bool) -> Vec<Charge> {
        let Some(house) = self.house.get() else { return Vec::new() };
        let (mut returns, now) = (Vec::new(), self.timeline.now());
        for set in &house.sets {
            let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
            for account in set.iter_mut().flatten().filter(|account| is_over(account)) {
                returns.extend(account.empty(now));
            }
            if returns.len() >= most {
                break;
            }
        }
        self.returning(returns)
    }

    fn returning(&self, returns: Vec<Charge>) -> Vec<Charge> {
        let units = |charge: &Charge| match charge.op {
            Op::Give(nanos) => nanos / charge.rate.interval_ns(),
            _ => 0,
        };
        self.returned.fetch_add(returns.iter().map(units).sum(), Relaxed);
        returns
    }

    /// What is held of a key is void: somebody has forgiven what it owed.
    pub(super) fn forget(&self, place: Place, limit: u64) {
        let Some(house) = self.house.get() else { return };
        let mut set = house.at(place, limit);
        let is_place = |other: Place| match (place, other) {
            // What all share is numbered by each policy.
            (Place::Shared(_), Place::Shared(_)) => true,
            _ => place == other,
        };
        let is_there = |account: &Account| is_place(account.place) && account.limit == limit;
        set.iter_mut().for_each(|account| *account = account.filter(|account| !is_there(account)));
    }
}

impl House {
    fn most(&self, limit: u64) -> Option<u32> {
        self.limits.iter().find(|(leased, _)| *leased == limit).map(|(_, most)| *most)
    }

    fn set(&self, charge: &Charge) -> MutexGuard<'_, Set> {
        self.at(charge.place, charge.limit)
    }

    fn at(&self, place: Place, limit: u64) -> MutexGuard<'_, Set> {
        let place = match place {
            Place::Client(key) => key.lo,
            Place::Shared(_) => 0,
        };
        // Both are hashes already.
        self.sets[(place ^ limit) as usize & (SETS - 1)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the units of a charge from what is held, and tells whether little is left then.
    fn take(&self, charge: &Charge, now: u64) -> Option<(Reading, bool)> {
        let (most, Op::Take(units)) = (self.most(charge.limit)?, charge.op) else { return None };
        let mut set = self.set(charge);
        let account = set.iter_mut().flatten().find(|account| account.is_of(charge))?;
        account.left = account.left.checked_sub(units)?;
        account.ask_for(units, now);
        Some((Reading::allowed_ns(account.owed(now)), account.wants(most) > account.left))
    }

    fn put_back(&self, charge: &Charge) {
        let Op::Take(units) = charge.op else { return };
        if let Some(account) = self.set(charge).iter_mut().flatten().find(|account| account.is_of(charge)) {
            account.left += units;
            account.seen = account.seen.saturating_sub(units);
        }
    }

    /// A charge that fetches more before all is spent, and how much.
    fn fetch(&self, charge: &Charge) -> Option<(Charge, u32)> {
        let most = self.most(charge.limit)?;
        let mut set = self.set(charge);
        let account = set.iter_mut().flatten().find(|account| account.is_of(charge))?;
        let more = account.wants(most).saturating_sub(account.left);
        // Half of a window is time enough to fetch in.
        if account.asks || account.is_tight || more <= account.left {
            return None;
        }
        account.asks = true;
        Some((Charge { op: Op::Take(0), ..*charge }, more))
    }

    fn ask(&self, charge: &Charge, now: u64, returns: &mut Vec<Charge>) -> Part {
        let Some(most) = self.most(charge.limit) else { return Part::default() };
        let Op::Take(units) = charge.op else { return Part::default() };
        let mut set = self.set(charge);
        let is_there = |account: &Account| account.place == charge.place && account.limit == charge.limit;
        let old = set.iter().position(|account| account.as_ref().is_some_and(is_there));
        let oldest = || (0..WAYS).min_by_key(|way| set[*way].map_or(0, |account| account.used));
        let Some(way) = old.or_else(oldest) else { return Part::default() };
        if !set[way].is_some_and(|account| account.is_of(charge)) {
            // At another rate it would carry what is owed over to that again, so what was held at the former one is gone.
            let evicted = set[way].take().filter(|account| !is_there(account));
            returns.extend(evicted.and_then(|mut account| account.empty(now)));
        }
        let account = set[way].get_or_insert_with(|| Account::new(charge, now));
        account.turn(now);
        let more = account.wants(most).saturating_sub(account.left);
        account.ask_for(units, now);
        let fits = units <= charge.rate.burst().get();
        let held = if fits { account.left.min(units) } else { 0 };
        account.left -= held;
        let more = if account.asks || !fits { 0 } else { more };
        account.asks |= more > 0;
        Part { held, more }
    }
}

impl Account {
    const fn new(charge: &Charge, now: u64) -> Self {
        let Charge { place, limit, rate, max_debt, .. } = *charge;
        Self {
            place,
            limit,
            rate,
            max_debt,
            left: 0,
            asks: false,
            is_tight: false,
            debt: 0,
            heard: now,
            seen: 0,
            pace: 0,
            since: now,
            used: now,
        }
    }

    fn is_of(&self, charge: &Charge) -> bool {
        self.place == charge.place
            && self.limit == charge.limit
            && self.rate == charge.rate
            && self.max_debt == charge.max_debt
    }

    /// Begins a window where the last one is over.
    fn turn(&mut self, now: u64) {
        let past = now.saturating_sub(self.since);
        if past >= WINDOW {
            let pace = u128::from(self.seen) * u128::from(WINDOW) / u128::from(past);
            self.pace = u32::try_from(pace).unwrap_or(u32::MAX);
            (self.seen, self.since) = (0, now);
        }
    }

    fn ask_for(&mut self, units: u32, now: u64) {
        self.turn(now);
        self.seen = self.seen.saturating_add(units);
        self.used = now;
    }

    /// How much should be held: what was asked for in a window, lately or in this one already.
    fn wants(&self, most: u32) -> u32 {
        self.pace.max(self.seen).min(most)
    }

    /// What would be owed now, had only that been debited which was spent.
    fn owed(&self, now: u64) -> u64 {
        let held = self.rate.interval_ns().saturating_mul(self.left.into());
        self.debt.saturating_sub(now.saturating_sub(self.heard)).saturating_sub(held)
    }

    fn book(&mut self, part: Part, back: u32, granted: u32, debt: Option<u64>, now: u64) {
        self.left = self.left.saturating_add(back);
        if part.more > 0 {
            self.asks = false;
            self.is_tight = granted < part.more;
        }
        if let Some(debt) = debt {
            (self.debt, self.heard) = (debt, now);
        }
    }

    /// Gives back all that is left.
    fn empty(&mut self, now: u64) -> Option<Charge> {
        let Self { place, limit, rate, max_debt, .. } = *self;
        let charge = Charge { place, limit, rate, max_debt, op: Op::Clear, shadow: false };
        let owed = self.debt.saturating_sub(now.saturating_sub(self.heard));
        give(&charge, std::mem::take(&mut self.left), owed)
    }
}

/// What gives units back, as far as they are still owed: what has drained would pay for others.
fn give(charge: &Charge, units: u32, owed: u64) -> Option<Charge> {
    let nanos = charge.rate.interval_ns().saturating_mul(units.into()).min(owed);
    (nanos > 0).then_some(Charge { op: Op::Give(nanos), shadow: false, ..*charge })
}
