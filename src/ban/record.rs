use super::{Named, Sentence};
use crate::{
    Key,
    identity::{ClientLabel, Network},
};

/// When a client is banned, and for how long; all times in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// So many refusals within two halves of the window that follow one another lead to a ban: fewer in a window never do,
    /// and as many within half a window always do.
    pub(crate) refusals: u32,
    pub(crate) window: u64,
    /// The first ban; each further one takes twice as long as the one before.
    pub(crate) first: u64,
    pub(crate) longest: u64,
    /// So long after a ban its client has to go without another one to be banned like the first time.
    pub(crate) quiet: u64,
}

impl Terms {
    pub(super) fn length(&self, times: u32) -> u64 {
        let doublings = times.saturating_sub(1).min(63);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }
}

/// What a client has on record.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) key: Key,
    kind: &'static str,
    address: Option<Network>,
    /// The name of a client that is banned, if it has one.
    name: Option<Box<str>>,
    /// When the later half of the window began.
    since: u64,
    /// Refusals in the earlier half, which ended when the later one began, and in the later one.
    earlier: u32,
    later: u32,
    /// When it was last refused, while it was not banned.
    pub(super) last_refused: u64,
    /// When the ban is over, or was; 0 without one.
    until: u64,
    is_banned: bool,
    /// How many bans in a row.
    times: u32,
}

/// Longer names are not kept, because names come with requests.
const LONGEST_NAME: usize = 128;

impl Record {
    pub(super) fn new(key: Key, label: ClientLabel) -> Self {
        Self { key, kind: label.kind, address: label.address, ..Self::default() }
    }

    /// The ban, be it over or not, until it is released.
    pub(super) fn sentence(&self) -> Option<Sentence> {
        let &Self { key, kind, address, until, is_banned, times, .. } = self;
        let label = ClientLabel { kind, address, fingerprint: key.fingerprint() };
        is_banned.then_some(Sentence { key, label, until, times })
    }

    /// The ban, if it is in force, and its client's name.
    pub(super) fn named(&self, now: u64) -> Option<Named> {
        let sentence = self.sentence().filter(|sentence| sentence.until > now)?;
        Some((sentence, self.name.clone()))
    }

    /// Whether there is a ban to be released.
    pub(super) const fn is_over(&self, now: u64) -> bool {
        self.is_banned && self.until <= now
    }

    pub(super) fn release(&mut self) {
        self.is_banned = false;
        self.name = None;
    }

    /// Takes note of a refusal, and answers whether it led to a ban.
    pub(super) fn refuse(&mut self, terms: &Terms, name: Option<&str>, now: u64) -> bool {
        if self.is_banned {
            return false;
        }
        let half = (terms.window / 2).max(1);
        let elapsed = now.saturating_sub(self.since);
        if self.later == 0 || elapsed >= half {
            let follows = self.later > 0 && elapsed - half < half;
            (self.since, self.earlier) = if follows { (self.since + half, self.later) } else { (now, 0) };
            self.later = 0;
        }
        self.later = self.later.saturating_add(1);
        self.last_refused = now;
        if self.earlier.saturating_add(self.later) < terms.refusals {
            return false;
        }
        if now.saturating_sub(self.until) >= terms.quiet {
            self.times = 0;
        }
        self.times = self.times.saturating_add(1);
        self.sentence_to(terms.length(self.times), name, now);
        true
    }

    /// A ban by hand. It is none of those in a row.
    pub(super) fn ban(&mut self, nanos: u64, name: Option<&str>, now: u64) {
        self.times = 0;
        self.sentence_to(nanos, name, now);
    }

    fn sentence_to(&mut self, nanos: u64, name: Option<&str>, now: u64) {
        (self.earlier, self.later) = (0, 0);
        self.until = now.saturating_add(nanos);
        self.is_banned = true;
        self.name = name.filter(|name| name.len() <= LONGEST_NAME).map(Into::into);
    }
}
