//! Counting in process: governor's arithmetic over a table of a fixed size.
//!
//! A charge locks the few lines that its limits lie in, finds them, decides, writes and lets go. Nothing is written
//! unless all enforced limits fit, and nobody sees a state in between.

mod gcra;
mod line;
mod table;

use super::{Charge, Op, Place, Reading, Readings};
use crate::clock::Timeline;
use line::{Entry, Interval, Line, Tag};
use smallvec::SmallVec;
use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use table::{Locked, Spot, Table, TooShort};

/// The embedded engine.
#[derive(Debug)]
pub(crate) struct Memory {
    timeline: Timeline,
    table: Table,
    /// A limit that all clients share has a line of its own, which nobody else can take.
    shared: Box<[Line]>,
    evicted: AtomicU64,
}

/// Where the entries of a decision lie, in the order of its charges; `None` where there is no entry yet.
type Spots = SmallVec<[Option<Spot>; 4]>;

impl Memory {
    /// Takes `bytes` once and never more; `shared` limits have their own places within them.
    pub(crate) fn new(timeline: Timeline, bytes: usize, shared: usize) -> Self {
        let mut lines = Vec::new();
        lines.resize_with(shared, Line::default);
        let table = Table::new(bytes.saturating_sub(shared * size_of::<Line>()));
        Self { timeline, table, shared: lines.into_boxed_slice(), evicted: AtomicU64::new(0) }
    }

    pub(crate) const fn min_bytes(shared: usize) -> usize {
        Table::MIN_BYTES + shared * size_of::<Line>()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.table.bytes() + size_of_val(&*self.shared)
    }

    /// How many clients and limits it holds before newcomers may have to push out others that still owe.
    pub(crate) fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// How many entries that still owed had to go, since the start.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    pub(crate) fn charge(&self, charges: &[Charge]) -> Readings {
        let now = self.timeline.now();
        let mut locked = Locked::new(&self.table, Locked::spans(homes(&self.table, charges)));
        let spots = loop {
            match find_all(&locked, &self.table, charges, now) {
                Ok(spots) => break spots,
                Err(short) => locked = locked.widen(&short),
            }
        };
        let shared = SharedLines::lock(&self.shared, charges);
        let mut outcomes: SmallVec<[Outcome; 4]> = SmallVec::new();
        for (charge, spot) in charges.iter().zip(&spots) {
            let entry = match charge.place {
                Place::Client(_) => spot.map_or_else(Entry::default, |spot| locked.read(spot)),
                Place::Shared(number) => shared.read(number),
            };
            outcomes.push(Outcome::of(charge, debt(charge, entry, now), now));
        }
        let verdict = Verdict::of(charges, &outcomes);
        let mut readings = Readings::new();
        for ((charge, spot), outcome) in charges.iter().zip(&spots).zip(&outcomes) {
            let applies = verdict.applies(charge);
            readings.push(outcome.reading(applies));
            if !applies || outcome.after == outcome.before {
                continue;
            }
            let entry = Entry {
                until: if outcome.after == 0 { 0 } else { now + outcome.after },
                interval: Interval::of(charge.rate.interval_ns()),
            };
            match (charge.place, spot) {
                (Place::Client(_), Some(spot)) => {
                    let evicted = locked.write(*spot, entry);
                    if evicted > now {
                        self.evicted.fetch_add(1, Relaxed);
                    }
                }
                // Nothing was owed, so nothing can be given back.
                (Place::Client(_), None) => {}
                (Place::Shared(number), _) => shared.write(number, entry),
            }
        }
        readings
    }
}

fn homes(table: &Table, charges: &[Charge]) -> impl Iterator<Item = usize> {
    charges.iter().filter_map(|charge| match charge.place {
        Place::Client(key) => Some(table.home(key)),
        Place::Shared(_) => None,
    })
}

/// First all that are there, then places for those that are not, so that none of the former is given away.
fn find_all(locked: &Locked<'_>, table: &Table, charges: &[Charge], now: u64) -> Result<Spots, TooShort> {
    let mut spots = Spots::new();
    for charge in charges {
        spots.push(match charge.place {
            Place::Client(key) => locked.find(table.home(key), Table::tag(key, charge.limit), now)?,
            Place::Shared(_) => None,
        });
    }
    for (i, charge) in charges.iter().enumerate() {
        let adds = match charge.op {
            Op::Take(units) | Op::Owe(units) => units > 0,
            Op::Peek(_) | Op::Give(_) | Op::Clear => false,
        };
        if let (Place::Client(key), true, None) = (charge.place, adds, spots[i]) {
            spots[i] = locked.claim(table.home(key), Table::tag(key, charge.limit), now, &spots)?;
        }
    }
    Ok(spots)
}

/// What is owed in nanoseconds, in the terms of the charge's rate.
///
/// Debt that was written under another rate is carried over in units, and no rate lets more be owed than it admits.
/// So nobody stays locked out after a raise, and nobody gets a fresh bucket by a change.
fn debt(charge: &Charge, entry: Entry, now: u64) -> u64 {
    let owed = entry.until.saturating_sub(now);
    if owed == 0 {
        return 0;
    }
    let interval = charge.rate.interval_ns();
    let owed = if entry.interval == Interval::of(interval) {
        owed
    } else {
        let carried = (owed as u128 * interval as u128).div_ceil(entry.interval.nanos().max(1) as u128);
        u64::try_from(carried).unwrap_or(u64::MAX)
    };
    owed.min(charge.most_ns())
}

/// What a charge finds and what it would leave, in nanoseconds of debt.
struct Outcome {
    before: u64,
    after: u64,
    refused: Option<Reading>,
}

impl Outcome {
    fn of(charge: &Charge, before: u64, now: u64) -> Self {
        let units = |n: u32| charge.rate.interval_ns().saturating_mul(n.into());
        let after = match charge.op {
            Op::Take(cost) | Op::Peek(cost) => match NonZeroU32::new(cost) {
                None => before,
                Some(cost) if cost > charge.rate.burst() => {
                    let refused = Some(Reading::never_ns(before));
                    return Self { before, after: before, refused };
                }
                Some(cost) => match gcra::take(charge.rate, now, before, cost) {
                    Ok(after) => after,
                    Err(wait) => {
                        let refused = Some(Reading::refused_ns(before, wait));
                        return Self { before, after: before, refused };
                    }
                },
            },
            Op::Give(n) => before.saturating_sub(units(n)),
            Op::Owe(n) => before.saturating_add(units(n)).min(charge.most_ns()),
            Op::Clear => 0,
        };
        Self { before, after, refused: None }
    }

    fn reading(&self, applied: bool) -> Reading {
        self.refused.unwrap_or(Reading::allowed_ns(if applied { self.after } else { self.before }))
    }
}

/// Whether all enforced charges fit, and whether all watched ones do.
struct Verdict {
    fits: bool,
    shadow_fits: bool,
}

impl Verdict {
    fn of(charges: &[Charge], outcomes: &[Outcome]) -> Self {
        let fits = |shadow| {
            charges
                .iter()
                .zip(outcomes)
                .all(|(charge, outcome)| charge.shadow != shadow || outcome.refused.is_none())
        };
        Self { fits: fits(false), shadow_fits: fits(true) }
    }

    /// Watched limits are counted as if all of them were enforced, so that what they report is what would be.
    fn applies(&self, charge: &Charge) -> bool {
        match charge.op {
            Op::Take(_) => self.fits && (!charge.shadow || self.shadow_fits),
            Op::Peek(_) => false,
            Op::Give(_) | Op::Owe(_) | Op::Clear => true,
        }
    }
}

/// The places of shared limits that one decision holds locked, in ascending order and after all others.
struct SharedLines<'m> {
    lines: &'m [Line],
    held: SmallVec<[u16; 4]>,
}

/// A shared limit is alone in its line.
const SHARED_TAG: Tag = Tag { high: 0, low: 0 };

impl<'m> SharedLines<'m> {
    fn lock(lines: &'m [Line], charges: &[Charge]) -> Self {
        let mut held: SmallVec<[u16; 4]> = charges
            .iter()
            .filter_map(|charge| match charge.place {
                Place::Shared(number) => Some(number),
                Place::Client(_) => None,
            })
            .collect();
        held.sort_unstable();
        held.dedup();
        let locked = Self { lines, held };
        locked.held.iter().filter_map(|number| locked.line(*number)).for_each(Line::lock);
        locked
    }

    fn line(&self, number: u16) -> Option<&'m Line> {
        self.lines.get(usize::from(number))
    }

    fn read(&self, number: u16) -> Entry {
        self.line(number).map_or_else(Entry::default, |line| line.read(0))
    }

    fn write(&self, number: u16, entry: Entry) {
        if let Some(line) = self.line(number) {
            line.write(0, SHARED_TAG, entry);
        }
    }
}

impl Drop for SharedLines<'_> {
    fn drop(&mut self) {
        self.held.iter().filter_map(|number| self.line(*number)).for_each(Line::unlock);
    }
}
