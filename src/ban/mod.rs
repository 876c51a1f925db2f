//! Who is let in no more, for a time, because it was refused too often.
//!
//! Only clients who were refused lately take room, of which there is a fixed amount. Time is whatever the caller says that it
//! is, in nanoseconds.

mod record;
#[cfg(test)]
mod tests;

use crate::{Key, arena::Table, identity::ClientLabel};
use record::Record;
pub(crate) use record::Terms;
use smallvec::SmallVec;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// Clients and what they have on record, in parts that are locked each by itself.
#[derive(Debug)]
pub(crate) struct Bans {
    terms: Terms,
    books: Arc<Books>,
}

/// What outlives the terms.
#[derive(Debug)]
struct Books {
    parts: Box<[Mutex<Part>]>,
    /// How many are banned, those among them whose time is over and who were not looked at since.
    banned: AtomicUsize,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Part {
    records: Table<Record>,
    /// Goes round all places, one at each look, to find bans that are over and room for newcomers.
    hand: u32,
}

/// Keys are spread evenly, so parts fill evenly too.
const PARTS: usize = 16;

/// So many places a newcomer looks at for one to take.
const LOOKS: u32 = 8;

/// Whom a refusal or a ban is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Suspect<'a> {
    pub(crate) key: Key,
    pub(crate) label: ClientLabel,
    /// The client's id or name, which operators know it by.
    pub(crate) name: Option<&'a str>,
}

/// A ban that was imposed, or that is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sentence {
    pub(crate) key: Key,
    pub(crate) label: ClientLabel,
    /// When it is over.
    pub(crate) until: u64,
    /// Which ban in a row it is; 0 for one by hand.
    pub(crate) times: u32,
}

/// A ban and its client's name, if that is known.
pub(crate) type Named = (Sentence, Option<Box<str>>);

/// Whose bans were found to be over.
pub(crate) type Released = SmallVec<[ClientLabel; 1]>;

impl Bans {
    /// Room for so many clients, and a few more.
    pub(crate) fn new(terms: Terms, clients: usize) -> Self {
        let part = || Mutex::new(Part { records: Table::new(clients.div_ceil(PARTS)), hand: 0 });
        let books = Books {
            parts: (0..PARTS).map(|_| part()).collect(),
            banned: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
        };
        Self { terms, books: Arc::new(books) }
    }

    /// The same bans and refusals, by other terms from now on.
    pub(crate) fn handed_on(&self, terms: Terms) -> Self {
        Self { terms, books: self.books.clone() }
    }

    /// The bytes that it takes.
    #[cfg(test)]
    pub(crate) const fn bytes(clients: usize) -> usize {
        PARTS * Table::<Record>::bytes(clients.div_ceil(PARTS))
    }

    /// Whether it is worth asking about anybody.
    pub(crate) fn any(&self) -> bool {
        self.books.banned.load(Relaxed) > 0
    }

    /// The client's ban, if it is in force.
    pub(crate) fn check(&self, key: Key, now: u64, released: &mut Released) -> Option<Sentence> {
        let mut part = self.part(key);
        part.look(now, |record| self.release(record, released));
        let number = part.find(key)?;
        let record = &mut part.records[number];
        if record.is_over(now) {
            self.release(record, released);
        }
        record.sentence()
    }

    /// Takes note of a refusal, and answers with the ban that it leads to. A banned client's refusals do not count.
    pub(crate) fn refused(
        &self,
        Suspect { key, label, name }: Suspect<'_>,
        now: u64,
        released: &mut Released,
    ) -> Option<Sentence> {
        let mut part = self.part(key);
        let Some(number) = part.place(key, label, LOOKS, now, |record| self.release(record, released)) else {
            self.books.dropped.fetch_add(1, Relaxed);
            return None;
        };
        let record = &mut part.records[number];
        if record.is_over(now) {
            self.release(record, released);
        }
        if !record.refuse(&self.terms, name, now) {
            return None;
        }
        self.books.banned.fetch_add(1, Relaxed);
        record.sentence()
    }

    /// Bans a client for so many nanoseconds, whatever it has on record; nothing where all room is taken by other bans.
    pub(crate) fn ban(
        &self,
        Suspect { key, label, name }: Suspect<'_>,
        nanos: u64,
        now: u64,
        released: &mut Released,
    ) -> Option<Sentence> {
        let mut part = self.part(key);
        // Who bans by hand can wait for a look at every place.
        let number = part.place(key, label, u32::MAX, now, |record| self.release(record, released))?;
        let record = &mut part.records[number];
        if record.sentence().is_none() {
            self.books.banned.fetch_add(1, Relaxed);
        }
        record.ban(nanos, name, now);
        record.sentence()
    }

    /// Ends a client's ban and forgets what it has on record; answers with the ban, if one was in force.
    pub(crate) fn lift(&self, key: Key, now: u64) -> Option<Named> {
        let mut part = self.part(key);
        let number = part.find(key)?;
        let record = part.records.remove(key.lo, number);
        record.sentence()?;
        self.books.banned.fetch_sub(1, Relaxed);
        record.named(now)
    }

    /// The client's ban, if it is in force, and its name. Unlike [`check`](Self::check) it changes nothing.
    pub(crate) fn get(&self, key: Key, now: u64) -> Option<Named> {
        let part = self.part(key);
        part.find(key).and_then(|number| part.records[number].named(now))
    }

    /// The bans in force, those that end soonest first.
    pub(crate) fn list(&self, now: u64) -> Vec<Named> {
        let mut all = Vec::new();
        for part in &self.books.parts {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(part.records.numbers().filter_map(|number| part.records[number].named(now)));
        }
        all.sort_by_key(|(sentence, _)| sentence.until);
        all
    }

    /// How many refusals were not noted, because all room was taken by bans.
    pub(crate) fn dropped(&self) -> u64 {
        self.books.dropped.load(Relaxed)
    }

    fn part(&self, key: Key) -> MutexGuard<'_, Part> {
        // The other half of the key chooses the place in the part.
        self.books.parts[key.hi as usize % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, record: &mut Record, released: &mut Released) {
        if let Some(sentence) = record.sentence() {
            self.books.banned.fetch_sub(1, Relaxed);
            released.push(sentence.label);
            record.release();
        }
    }
}

impl Part {
    fn find(&self, key: Key) -> Option<u32> {
        self.records.find(key.lo, |record| record.key == key)
    }

    /// Moves the hand on by one place, and answers with its number; releases whoever's ban there is over.
    fn look(&mut self, now: u64, release: impl FnOnce(&mut Record)) -> u32 {
        let number = self.hand;
        self.hand = if number as usize + 1 < self.records.capacity() { number + 1 } else { 0 };
        if self.records.capacity() > 0 && self.records[number].is_over(now) {
            release(&mut self.records[number]);
        }
        number
    }

    /// The client's record: the one that it has, or a new one. Where there is no room it gets the place of the client that
    /// was refused longest ago, among some that are not banned.
    fn place(
        &mut self,
        key: Key,
        label: ClientLabel,
        looks: u32,
        now: u64,
        mut release: impl FnMut(&mut Record),
    ) -> Option<u32> {
        if let Some(number) = self.find(key) {
            return Some(number);
        }
        if let Some(number) = self.records.insert(key.lo, Record::new(key, label)) {
            return Some(number);
        }
        let looks = looks.min(u32::try_from(self.records.capacity()).unwrap_or(u32::MAX));
        let mut stalest: Option<u32> = None;
        for _ in 0..looks {
            let number = self.look(now, &mut release);
            let is_staler = |other: u32| self.records[number].last_refused < self.records[other].last_refused;
            if self.records[number].sentence().is_none() && stalest.is_none_or(is_staler) {
                stalest = Some(number);
            }
        }
        let stalest = stalest?;
        let former = self.records[stalest].key;
        self.records.remove(former.lo, stalest);
        self.records.insert(key.lo, Record::new(key, label))
    }
}
