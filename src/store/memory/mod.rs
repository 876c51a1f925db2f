//! Counting in process: governor's arithmetic over a table of a fixed size.
//!
//! A charge locks the few lines that its limits lie in, finds them, decides, writes and lets go. Nothing is charged
//! unless all enforced limits fit, and nobody sees a state in between.

mod gcra;
mod line;
mod outcome;
#[cfg(all(test, loom))]
mod races;
mod table;
#[cfg(test)]
mod tests;

use super::{Asked, Fit, Place, Reading};
use crate::{Key, clock::Timeline, sync::AtomicU64};
use line::{Entry, Held, Line, Tag};
use outcome::Outcome;
pub(crate) use outcome::Ready;
use smallvec::SmallVec;
use std::{
    collections::TryReserveError,
    hint::black_box,
    sync::{Arc, atomic::Ordering::Relaxed},
};
use table::{Locked, Spot, Table, TooShort};

/// The embedded engine, as one policy counts in it.
#[derive(Debug)]
pub(crate) struct Memory {
    core: Arc<Core>,
    /// A limit that all clients share has a line of its own, which nobody else can take.
    shared: Box<[Arc<Line>]>,
}

/// What is counted, whichever policy is in force.
#[derive(Debug)]
struct Core {
    timeline: Timeline,
    table: Table,
    evicted: AtomicU64,
}

/// What the limits of a decision say.
#[derive(Clone, Copy)]
pub(crate) struct Answers<const N: usize> {
    /// When, in nanoseconds.
    pub(crate) at: u64,
    pub(crate) fit: Fit,
    pub(crate) readings: [Reading; N],
}

/// So many lines tell how many entries owe anything: 8 MiB, in about a millisecond.
const OWING: usize = 1 << 16;
/// No slot of a line.
const NOWHERE: u8 = u8::MAX;

impl Memory {
    /// Takes `bytes` once and never more; `shared` limits have their own places within them.
    ///
    /// # Errors
    ///
    /// If there is not so much memory.
    pub(crate) fn new(timeline: Timeline, bytes: usize, shared: usize) -> Result<Self, TryReserveError> {
        let table = Table::new(bytes.saturating_sub(shared * size_of::<Line>()))?;
        let core = Core { timeline, table, evicted: AtomicU64::new(0) };
        Ok(Self { core: Arc::new(core), shared: (0..shared).map(|_| Arc::default()).collect() })
    }

    /// The same memory for another policy, with places for so many shared limits at least: each keeps its number, or
    /// decisions of two policies would wait for each other's places.
    pub(crate) fn handed_on(&self, shared: usize) -> Self {
        let more = (self.shared.len()..shared).map(|_| Arc::default());
        Self { core: self.core.clone(), shared: self.shared.iter().cloned().chain(more).collect() }
    }

    /// The least that can count so many limits, `shared` of them by all clients.
    pub(crate) const fn min_bytes(limits: usize, shared: usize) -> usize {
        Table::min_bytes(limits) + shared * size_of::<Line>()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.core.table.bytes() + self.shared.len() * size_of::<Line>()
    }

    /// Has the processor fetch the line of a client that is about to be charged.
    #[inline]
    pub(crate) fn fetch(&self, client: Key) {
        // Whatever it says then is of no use: nobody holds the line.
        let table = &self.core.table;
        black_box(table.line(table.home(client)).horizon());
    }

    /// How many clients and limits it holds before newcomers may have to push out others that still owe.
    pub(crate) fn capacity(&self) -> usize {
        self.core.table.capacity()
    }

    /// About how many entries owe anything now; those of limits that all share are not among them.
    pub(crate) fn owing(&self) -> usize {
        self.core.table.owing(self.now(), OWING)
    }

    /// How many entries that still owed had to go, since the start.
    pub(crate) fn evicted(&self) -> u64 {
        self.core.evicted.load(Relaxed)
    }

    /// The time that it counts by, in nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        self.core.timeline.now()
    }

    /// Decides a list of charges, writes down what their limits say, and answers with the time of the decision and whether
    /// they fit.
    pub(crate) fn charge(&self, asked: &mut [Asked]) -> (u64, Fit) {
        // So many limits as one line holds; a function for each number, because most decisions ask one or two.
        let at = match asked.len() {
            1 => self.charge_at_home::<1>(asked),
            2 => self.charge_at_home::<2>(asked),
            3 => self.charge_at_home::<3>(asked),
            4 => self.charge_at_home::<4>(asked),
            _ => None,
        };
        at.unwrap_or_else(|| self.charge_anywhere(asked))
    }

    /// The usual case, in which all limits are one client's and lie in its home line. In any other case it does nothing
    /// and answers with nothing.
    ///
    /// The clock is read before the lock is had, so that others wait for less. Meanwhile somebody may have written by a
    /// later time. Where the entry is found and owes no more than its rate admits, units add up all the same; anything
    /// else is decided by a time that is read under the lock, or a thread that comes late would forgive what others owe.
    fn charge_at_home<const N: usize>(&self, asked: &mut [Asked]) -> Option<(u64, Fit)> {
        let asked = <&mut [Asked; N]>::try_from(asked).ok()?;
        let Place::Client(key) = asked[0].charge.place else { return None };
        if asked.iter().skip(1).any(|other| other.charge.place != Place::Client(key)) {
            return None;
        }
        let ready = asked.map(|asked| Ready::new(asked.charge));
        let Answers { at, fit, readings } = self.charge_home(key, ready.each_ref())?;
        for (asked, reading) in asked.iter_mut().zip(readings) {
            asked.reading = reading;
        }
        Some((at, fit))
    }

    /// The same for charges that are all this client's; their own places do not matter.
    #[inline(always)]
    pub(crate) fn charge_home<const N: usize>(&self, key: Key, ready: [&Ready; N]) -> Option<Answers<N>> {
        // Loops rather than the array's own methods, which the compiler leaves as calls.
        let Core { timeline, table, .. } = &*self.core;
        let line = table.line(table.home(key));
        let mut now = timeline.now();
        let line = line.hold();
        let (mut tags, mut found, mut is_found) = ([Tag::default(); N], [NOWHERE; N], true);
        for number in 0..N {
            tags[number] = Table::tag(key, ready[number].charge.limit);
            found[number] = line.find(tags[number]).unwrap_or(NOWHERE);
            is_found &= found[number] != NOWHERE;
        }
        let mut slots = found;
        if !is_found {
            now = timeline.now(); // whoever took the slot saw its time pass, and so must we
            if line.horizon() > now {
                return None; // they may lie further on
            }
            for number in 0..N {
                if slots[number] == NOWHERE && ready[number].charge.adds() {
                    let Some(free) = line.free(now, &slots) else {
                        return None; // they have to lie further on
                    };
                    slots[number] = free;
                }
            }
        }
        let mut outcomes = [Outcome::NONE; N];
        let mut fit = Fit::default();
        for number in 0..N {
            let entry = match found[number] {
                NOWHERE => Entry::default(),
                slot => line.read(slot),
            };
            outcomes[number] = Outcome::of(ready[number], entry, now);
            if outcomes[number].carried {
                return None; // the rate has changed, or we are late
            }
            fit.heed(ready[number].charge.shadow, outcomes[number].wait == 0);
        }
        let mut readings = [Reading::allowed_ns(0); N];
        for number in 0..N {
            let (reading, entry) = outcomes[number].conclude(ready[number], fit, now);
            readings[number] = reading;
            if let Some(entry) = entry.filter(|_| slots[number] != NOWHERE) {
                line.write(slots[number], tags[number], entry);
            }
        }
        Some(Answers { at: now, fit, readings })
    }

    #[cold]
    fn charge_anywhere(&self, asked: &mut [Asked]) -> (u64, Fit) {
        let Core { timeline, table, evicted } = &*self.core;
        let mut locked = Locked::new(table, Locked::spans(homes(table, asked)));
        let (mut now, spots) = loop {
            let now = timeline.now();
            match find_all(&locked, table, asked, now) {
                Ok(spots) => break (now, spots),
                Err(short) => locked = locked.widen(&short),
            }
        };
        let shared = SharedLines::lock(&self.shared, asked);
        let mut outcomes = all_outcomes(asked, &spots, &locked, &shared, now);
        if outcomes.iter().any(|outcome| outcome.carried) {
            now = timeline.now(); // somebody may have come later and had the shared limits before us
            outcomes = all_outcomes(asked, &spots, &locked, &shared, now);
        }
        let fit = Fit::of(
            asked.iter().zip(&outcomes).map(|(asked, outcome)| (asked.charge.shadow, outcome.wait == 0)),
        );
        for ((asked, outcome), spot) in asked.iter_mut().zip(&outcomes).zip(spots) {
            let (reading, entry) = outcome.conclude(&Ready::new(asked.charge), fit, now);
            asked.reading = reading;
            let Some(entry) = entry else { continue };
            match (asked.charge.place, spot) {
                (Place::Client(_), Some(spot)) => {
                    if locked.write(spot, entry) > now {
                        evicted.fetch_add(1, Relaxed);
                    }
                }
                // Nothing was owed, so nothing can be given back.
                (Place::Client(_), None) => {}
                (Place::Shared(place), _) => shared.write(place, entry),
            }
        }
        (now, fit)
    }
}

fn all_outcomes(
    asked: &[Asked],
    spots: &[Option<Spot>],
    locked: &Locked<'_>,
    shared: &SharedLines<'_>,
    now: u64,
) -> SmallVec<[Outcome; 4]> {
    let outcome = |(Asked { charge, .. }, spot): (&Asked, &Option<Spot>)| {
        let entry = match charge.place {
            Place::Client(_) => spot.map_or_else(Entry::default, |spot| locked.read(spot)),
            Place::Shared(place) => shared.read(place),
        };
        Outcome::of(&Ready::new(*charge), entry, now)
    };
    asked.iter().zip(spots).map(outcome).collect()
}

fn homes(table: &Table, asked: &[Asked]) -> impl Iterator<Item = usize> {
    asked.iter().filter_map(|asked| match asked.charge.place {
        Place::Client(key) => Some(table.home(key)),
        Place::Shared(_) => None,
    })
}

/// First all that are there, then places for those that are not, so that none of the former is given away.
///
/// Enforced charges choose before watched ones. A watched one may leave its place unused when they are written; if they
/// had to choose around it, an old entry of theirs could lie there and hide the new one.
fn find_all(
    locked: &Locked<'_>,
    table: &Table,
    asked: &[Asked],
    now: u64,
) -> Result<SmallVec<[Option<Spot>; 4]>, TooShort> {
    let charges = || asked.iter().map(|asked| &asked.charge);
    let mut spots = SmallVec::new();
    for charge in charges() {
        spots.push(match charge.place {
            Place::Client(key) => locked.find(table.home(key), Table::tag(key, charge.limit), now)?,
            Place::Shared(_) => None,
        });
    }
    for shadow in [false, true] {
        for (i, charge) in charges().enumerate().filter(|(_, charge)| charge.shadow == shadow) {
            if let (Place::Client(key), true, None) = (charge.place, charge.adds(), spots[i]) {
                spots[i] = locked.claim(table.home(key), Table::tag(key, charge.limit), now, &spots)?;
            }
        }
    }
    Ok(spots)
}

/// The places of shared limits that one decision holds locked, in ascending order and after all others.
struct SharedLines<'m> {
    lines: &'m [Arc<Line>],
    _held: SmallVec<[Held<'m>; 4]>,
}

/// A shared limit is alone in its line.
const SHARED_TAG: Tag = Tag { high: 0, low: 0 };

impl<'m> SharedLines<'m> {
    fn lock(lines: &'m [Arc<Line>], asked: &[Asked]) -> Self {
        let mut numbers: SmallVec<[u16; 4]> = asked
            .iter()
            .filter_map(|asked| match asked.charge.place {
                Place::Shared(number) => Some(number),
                Place::Client(_) => None,
            })
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        let held = numbers.iter().map(|number| lines[usize::from(*number)].hold()).collect();
        Self { lines, _held: held }
    }

    fn read(&self, number: u16) -> Entry {
        self.lines[usize::from(number)].read(0)
    }

    fn write(&self, number: u16, entry: Entry) {
        self.lines[usize::from(number)].write(0, SHARED_TAG, entry);
    }
}
