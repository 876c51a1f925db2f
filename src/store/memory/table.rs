//! Where an entry lies: its home line, or one of the few lines after it.

use super::line::{Entry, Line, SLOTS, Tag};
use crate::Key;
use smallvec::SmallVec;
use std::collections::TryReserveError;

/// An entry lies in one of so many lines, its home and those after it, so that no work of a request grows with the table.
///
/// With eight, hardly any client of many that come at once finds all of its 40 slots owing: `tests/memory.rs` has the
/// shares. With four there were ten times as many.
const REACH: usize = 8;

/// Slots are filled to four fifths at the stated capacity: 128 bytes hold four clients.
const STATED_SLOTS: usize = SLOTS - 1;

/// A table of a fixed size. Nothing in it ever moves, grows or is swept.
#[derive(Debug)]
pub(super) struct Table {
    lines: Box<[Line]>,
    homes: u64,
}

/// Where an entry is, or where it will be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    home: usize,
    line: usize,
    slot: u8,
    tag: Tag,
    found: bool,
}

impl Table {
    /// The fewest bytes that make sense: a line and its reach, and a line for each limit of a client, so that all limits
    /// of one decision find a slot.
    pub(super) const fn min_bytes(limits: usize) -> usize {
        size_of::<Line>() * (REACH + limits / SLOTS)
    }

    pub(super) fn new(bytes: usize) -> Result<Self, TryReserveError> {
        let count = (bytes / size_of::<Line>()).max(REACH);
        let mut lines = Vec::new();
        lines.try_reserve_exact(count)?;
        lines.resize_with(count, Line::default);
        Ok(Self { lines: lines.into_boxed_slice(), homes: (count - (REACH - 1)) as u64 })
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }

    pub(super) fn capacity(&self) -> usize {
        self.lines.len() * STATED_SLOTS
    }

    pub(super) fn line(&self, number: usize) -> &Line {
        &self.lines[number]
    }

    /// The upper bits choose the line; the tag is made of bits that do not.
    pub(super) fn home(&self, key: Key) -> usize {
        ((key.hi as u128 * self.homes as u128) >> 64) as usize
    }

    pub(super) fn tag(key: Key, limit: u64) -> Tag {
        Tag { high: key.lo ^ limit, low: key.hi as u32 }
    }

    /// About how many entries owe anything, by no more than `lines` lines that lie evenly in the table.
    pub(super) fn owing(&self, now: u64, lines: usize) -> usize {
        let step = self.lines.len().div_ceil(lines.max(1)).max(1);
        let looked = self.lines.iter().step_by(step);
        let (count, owing) = looked.fold((0, 0), |(count, owing), line| {
            (count + 1, owing + (0..SLOTS as u8).filter(|slot| line.read(*slot).until > now).count())
        });
        owing * self.lines.len() / count.max(1)
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> impl Iterator<Item = (Tag, Entry)> {
        self.lines.iter().flat_map(|line| (0..SLOTS as u8).map(|slot| (line.tag(slot), line.read(slot))))
    }
}

/// The lines that one decision holds locked, in ascending order, so that no two decisions wait for each other.
pub(super) struct Locked<'t> {
    table: &'t Table,
    /// Homes and how many lines from each are held; ascending, each home once.
    spans: SmallVec<[Span; 4]>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    home: usize,
    lines: usize,
}

/// A span turned out to be too short: it must be locked anew with more lines.
#[derive(Debug)]
pub(super) struct TooShort {
    home: usize,
}

impl<'t> Locked<'t> {
    pub(super) fn spans(homes: impl Iterator<Item = usize>) -> SmallVec<[Span; 4]> {
        let mut spans: SmallVec<[Span; 4]> = homes.map(|home| Span { home, lines: 1 }).collect();
        spans.sort_unstable_by_key(|span| span.home);
        spans.dedup_by_key(|span| span.home);
        spans
    }

    pub(super) fn new(table: &'t Table, spans: SmallVec<[Span; 4]>) -> Self {
        let locked = Self { table, spans };
        locked.for_each(Line::lock);
        locked
    }

    /// The same, with twice the lines behind that home. All is let go in between, and no line that was not held.
    pub(super) fn widen(self, short: &TooShort) -> Self {
        let (table, mut spans) = (self.table, self.spans.clone());
        drop(self);
        for span in spans.iter_mut().filter(|span| span.home == short.home) {
            span.lines = (span.lines * 2).min(REACH);
        }
        Self::new(table, spans)
    }

    fn for_each(&self, act: fn(&Line)) {
        for_each_line(self.table, &self.spans, act);
    }

    /// Where the entry with this tag is, if it owes anything.
    pub(super) fn find(&self, home: usize, tag: Tag, now: u64) -> Result<Option<Spot>, TooShort> {
        let held = self.held(home);
        for line in home..home + held {
            if let Some(slot) = self.table.lines[line].find(tag) {
                return Ok(Some(Spot { home, line, slot, tag, found: true }));
            }
            if self.table.lines[line].horizon() <= now {
                return Ok(None);
            }
        }
        if held < REACH { Err(TooShort { home }) } else { Ok(None) }
    }

    /// The slot that a new entry gets, among those that no other charge of this decision has.
    ///
    /// A free slot is one whose debt is gone. Where there is none, the newcomer gets the one that owes least.
    pub(super) fn claim(
        &self,
        home: usize,
        tag: Tag,
        now: u64,
        taken: &[Option<Spot>],
    ) -> Result<Option<Spot>, TooShort> {
        let held = self.held(home);
        let mut least: Option<(u64, Spot)> = None;
        for line in home..home + held {
            for slot in 0..SLOTS as u8 {
                if taken.iter().flatten().any(|other| other.line == line && other.slot == slot) {
                    continue;
                }
                let spot = Spot { home, line, slot, tag, found: false };
                let until = self.table.lines[line].read(slot).until;
                if until <= now {
                    return Ok(Some(spot));
                }
                if least.is_none_or(|(owed, _)| until < owed) {
                    least = Some((until, spot));
                }
            }
        }
        if held < REACH { Err(TooShort { home }) } else { Ok(least.map(|(_, spot)| spot)) }
    }

    fn held(&self, home: usize) -> usize {
        self.spans.iter().find(|span| span.home == home).map_or(0, |span| span.lines)
    }

    pub(super) fn read(&self, spot: Spot) -> Entry {
        if spot.found { self.table.lines[spot.line].read(spot.slot) } else { Entry::default() }
    }

    /// Writes the entry, and answers until when another one owed that had to go for it.
    pub(super) fn write(&self, spot: Spot, entry: Entry) -> u64 {
        for line in &self.table.lines[spot.home..spot.line] {
            line.raise_horizon(entry.until);
        }
        let line = &self.table.lines[spot.line];
        let gone = if spot.found { 0 } else { line.read(spot.slot).until };
        line.write(spot.slot, spot.tag, entry);
        gone
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.for_each(Line::unlock);
    }
}

/// Each line of the spans once, in ascending order; spans may overlap.
fn for_each_line(table: &Table, spans: &[Span], act: fn(&Line)) {
    let mut next = 0;
    for span in spans {
        let end = span.home + span.lines;
        for line in &table.lines[span.home.max(next).min(end)..end] {
            act(line);
        }
        next = next.max(end);
    }
}
