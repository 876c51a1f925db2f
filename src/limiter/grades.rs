//! What most requests need of a registered client, in one word.
//!
//! Most clients of a tier were granted the same. That is kept once, as a grade, and a client's word is the number of its
//! grade beside a tag. A map that has all of a client touches several lines that no cache of the processor holds when there
//! are many clients; here it is one, in a table of some megabytes. Who has no place is found in the map, which stays the truth.

#[cfg(test)]
mod tests;

use super::Inner;
use crate::{
    Key, Rate,
    policy::{CompiledRule, Scope},
    sync::AtomicU64,
};
use smallvec::SmallVec;
use std::sync::{
    OnceLock,
    atomic::Ordering::{Acquire, Relaxed, Release},
};

/// What a client was granted of each limit that can be granted, in the order of their numbers; nothing where the limit's own
/// quota is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rates(SmallVec<[Option<Rate>; 2]>);

/// Read without a lock by all; whoever writes holds a lock of the caller's.
#[derive(Debug)]
pub(super) struct Grades {
    lines: Box<[Line]>,
    /// By their numbers; 0 is nobody's. They are never taken back, because somebody may be reading.
    grades: Box<[OnceLock<Rates>]>,
}

/// A word is 48 bits of the key above 16 of the grade's number. All of a line are looked at, whichever it is.
///
/// A key that is not there is taken for another with odds of eight in 2^48, and of which keys nobody without the secret can
/// tell. Whoever has that luck is a client that is not registered and passes as if it were, under a key of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; WORDS]);

const WORDS: usize = 8;
const NUMBER: u64 = 0xFFFF;
/// So many clients, at most, have room: 8 MiB.
const MOST_CLIENTS: usize = 1 << 19;
/// The first of them is no grade.
const GRADES: usize = 1024;

impl Rates {
    pub(super) fn new(rates: impl Iterator<Item = Option<Rate>>) -> Self {
        Self(rates.collect())
    }

    /// The rate of a limit, where one was granted.
    #[inline]
    pub(super) fn of(&self, granted: Option<usize>) -> Option<Rate> {
        self.0.get(granted?).copied().flatten()
    }

    /// The same, with others in place of those that there are in `wanted`.
    pub(super) fn overridden(&self, wanted: &Self) -> Self {
        Self::new(self.0.iter().zip(&wanted.0).map(|(rate, wanted)| wanted.or(*rate)))
    }
}

impl Grades {
    /// Room for so many clients and as many again, so that hardly any line is full; none if there is no memory for it.
    pub(super) fn new(clients: usize) -> Self {
        let (mut lines, mut grades) = (Vec::new(), Vec::new());
        let words = 2 * clients.min(MOST_CLIENTS);
        let count = if words == 0 { 0 } else { words.div_ceil(WORDS).next_power_of_two() };
        if count > 0 && lines.try_reserve_exact(count).is_ok() {
            lines.resize_with(count, Line::default);
            grades.resize_with(GRADES, OnceLock::new);
        }
        Self { lines: lines.into_boxed_slice(), grades: grades.into_boxed_slice() }
    }

    #[inline]
    pub(super) fn find(&self, key: Key) -> Option<&Rates> {
        let tag = tag(key);
        // Where no tag is the key's, it is 0.
        let number = self.line(key)?.0.iter().fold(0, |number, word| {
            let rest = word.load(Acquire) ^ tag;
            number | if rest <= NUMBER { rest } else { 0 }
        });
        self.grades.get(number as usize)?.get()
    }

    /// Puts a client there, unless its line or the grades are full.
    pub(super) fn put(&self, key: Key, rates: &Rates) {
        let Some(number) = self.number(rates) else { return self.remove(key) };
        let Some(Line(words)) = self.line(key) else { return };
        let own = words.iter().find(|word| is_tagged(word, key));
        // Nobody has to go for a newcomer: who comes often was mostly there first.
        if let Some(word) = own.or_else(|| words.iter().find(|word| word.load(Relaxed) == 0)) {
            word.store(tag(key) | number, Release);
        }
    }

    pub(super) fn remove(&self, key: Key) {
        let words = self.line(key).into_iter().flat_map(|line| &line.0);
        words.filter(|word| is_tagged(word, key)).for_each(|word| word.store(0, Release));
    }

    /// Removes all.
    pub(super) fn clear(&self) {
        self.lines.iter().flat_map(|line| &line.0).for_each(|word| word.store(0, Release));
    }

    /// The number of a grade, which gets one if there is any left.
    fn number(&self, rates: &Rates) -> Option<u64> {
        let mut grades = (0..).zip(&self.grades).skip(1);
        grades.find(|(_, grade)| grade.get_or_init(|| rates.clone()) == rates).map(|(number, _)| number)
    }

    #[inline]
    fn line(&self, key: Key) -> Option<&Line> {
        self.lines.get(key.lo as usize & self.lines.len().wrapping_sub(1))
    }
}

impl Inner {
    /// Has the processor fetch what a client owes beside its word; the lock would wait for one, and then the other.
    #[inline(always)]
    pub(super) fn fetch(&self, rule: &CompiledRule, client: Key) {
        let scope = self.policy.limits.get(rule.limits.start).map(|limit| limit.scope);
        if let (Some(memory), Some(Scope::Client(group))) = (self.engine.memory(), scope) {
            memory.fetch(client.and(group));
        }
    }
}

/// Of the half of the key that does not choose the line.
const fn tag(key: Key) -> u64 {
    key.hi << 16
}

fn is_tagged(word: &AtomicU64, key: Key) -> bool {
    let word = word.load(Relaxed);
    word != 0 && word ^ tag(key) <= NUMBER
}
