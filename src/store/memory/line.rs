//! Two cache lines of the table: a lock, a horizon and five slots.

use crate::sync::{AtomicU64, LockWord, spin_loop, yield_now};
use std::{
    ops::Deref,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
};

pub(super) const SLOTS: usize = 5;

/// Atomics stand in for plain cells, because the lock is ours: whoever holds it is alone with them, and they are
/// read and written with `Relaxed`, which costs nothing on the machines in use.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Line {
    /// Bit 0 is the lock. The rest is the horizon: the time until which entries that belong here may owe further on.
    head: LockWord,
    slots: [Slot; SLOTS],
}

/// The parts of an entry lie together, so that processors who fight for one client hand each other one cache line
/// rather than two.
#[derive(Debug, Default)]
struct Slot {
    tag: AtomicU64,
    until: AtomicU64,
    /// 32 bits more of the tag, and the interval that `until` was written under.
    note: AtomicU64,
}

/// What a slot is known by: 96 bits, beside the bits that chose its line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) high: u64,
    pub(super) low: u32,
}

/// When a slot's debt is gone, and the interval under which that was reckoned.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry {
    pub(super) until: u64,
    pub(super) interval: Interval,
}

/// An interval in 32 bits, to 3e-8 of itself and never more than it: 6 bits of exponent and 26 of mantissa.
///
/// That is enough to see that a quota has changed, and to carry debt over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Interval(u32);

impl Interval {
    #[inline(always)]
    pub(super) fn of(nanos: u64) -> Self {
        let shift = 38u32.saturating_sub(nanos.leading_zeros());
        // 26 significant bits are left, and the shift is at most 38.
        Self(shift << 26 | (nanos >> shift) as u32)
    }

    pub(super) fn nanos(self) -> u64 {
        u64::from(self.0 & ((1 << 26) - 1)) << (self.0 >> 26)
    }
}

/// A line that is locked as long as this lives.
pub(super) struct Held<'t>(&'t Line);

impl Deref for Held<'_> {
    type Target = Line;

    fn deref(&self) -> &Line {
        self.0
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

impl Line {
    #[inline(always)]
    pub(super) fn hold(&self) -> Held<'_> {
        self.lock();
        Held(self)
    }

    #[inline(always)]
    pub(super) fn lock(&self) {
        if self.head.fetch_or(1, Acquire) & 1 == 1 {
            self.wait();
        }
    }

    #[cold]
    fn wait(&self) {
        let mut spins = 0u32;
        loop {
            while self.head.load(Relaxed) & 1 == 1 {
                spins += 1;
                // A holder needs nanoseconds, unless it lost its processor: then it should get ours.
                if spins % 128 == 0 { yield_now() } else { spin_loop() }
            }
            if self.head.fetch_or(1, Acquire) & 1 == 0 {
                return;
            }
        }
    }

    pub(super) fn unlock(&self) {
        self.head.store(self.horizon(), Release);
    }

    /// Entries whose home is here, or before, may lie beyond this line until then.
    pub(super) fn horizon(&self) -> u64 {
        self.head.load(Relaxed) & !1
    }

    pub(super) fn raise_horizon(&self, until: u64) {
        // Rounded up to leave bit 0 to the lock, which is held.
        self.head.store(self.horizon().max((until + 1) & !1) | 1, Relaxed);
    }

    #[inline(always)]
    pub(super) fn find(&self, tag: Tag) -> Option<u8> {
        // A loop rather than a search by an iterator, which the compiler leaves as a call where there are two of them.
        for slot in 0..SLOTS {
            let Slot { tag: high, note, .. } = &self.slots[slot];
            if high.load(Relaxed) == tag.high && (note.load(Relaxed) >> 32) as u32 == tag.low {
                return Some(slot as u8);
            }
        }
        None
    }

    /// A slot that owes nothing any more and is not among those `taken`.
    pub(super) fn free(&self, now: u64, taken: &[u8]) -> Option<u8> {
        (0..SLOTS as u8)
            .find(|slot| self.slots[usize::from(*slot)].until.load(Relaxed) <= now && !taken.contains(slot))
    }

    #[cfg(test)]
    pub(super) fn tag(&self, slot: u8) -> Tag {
        self.slots[usize::from(slot)].tag()
    }

    pub(super) fn read(&self, slot: u8) -> Entry {
        let slot = &self.slots[usize::from(slot)];
        Entry { until: slot.until.load(Relaxed), interval: Interval(slot.note.load(Relaxed) as u32) }
    }

    pub(super) fn write(&self, slot: u8, tag: Tag, entry: Entry) {
        let slot = &self.slots[usize::from(slot)];
        slot.tag.store(tag.high, Relaxed);
        slot.until.store(entry.until, Relaxed);
        slot.note.store(u64::from(tag.low) << 32 | u64::from(entry.interval.0), Relaxed);
    }
}

#[cfg(test)]
impl Slot {
    fn tag(&self) -> Tag {
        Tag { high: self.tag.load(Relaxed), low: (self.note.load(Relaxed) >> 32) as u32 }
    }
}
