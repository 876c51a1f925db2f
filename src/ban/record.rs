use super::Sentence;
use crate::{Key, identity::ClientLabel};

/// When a client is banned, and for how long; all times in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// So many refusals within the window lead to a ban.
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
    label: Option<ClientLabel>,
    /// When the window began, which is when it was first refused in it.
    since: u64,
    refusals: u32,
    /// When it was last refused, while it was not banned.
    pub(super) last_refused: u64,
    /// When the ban is over, or was; 0 without one.
    until: u64,
    is_banned: bool,
    /// How many bans in a row.
    times: u32,
}

impl Record {
    pub(super) fn new(key: Key, label: ClientLabel) -> Self {
        Self { key, label: Some(label), ..Self::default() }
    }

    /// The ban, be it over or not, until it is released.
    pub(super) fn sentence(&self) -> Option<Sentence> {
        let &Self { key, label, until, is_banned, times, .. } = self;
        label.filter(|_| is_banned).map(|label| Sentence { key, label, until, times })
    }

    /// Whether there is a ban to be released.
    pub(super) const fn is_over(&self, now: u64) -> bool {
        self.is_banned && self.until <= now
    }

    pub(super) const fn release(&mut self) {
        self.is_banned = false;
    }

    /// Takes note of a refusal, and answers whether it led to a ban.
    pub(super) fn refuse(&mut self, terms: &Terms, now: u64) -> bool {
        if self.is_banned {
            return false;
        }
        if self.refusals == 0 || now.saturating_sub(self.since) >= terms.window {
            (self.since, self.refusals) = (now, 0);
        }
        self.refusals += 1;
        self.last_refused = now;
        if self.refusals < terms.refusals {
            return false;
        }
        if now.saturating_sub(self.until) >= terms.quiet {
            self.times = 0;
        }
        self.times = self.times.saturating_add(1);
        self.sentence_to(terms.length(self.times), now);
        true
    }

    /// A ban by hand. It is none of those in a row.
    pub(super) fn ban(&mut self, nanos: u64, now: u64) {
        self.times = 0;
        self.sentence_to(nanos, now);
    }

    fn sentence_to(&mut self, nanos: u64, now: u64) {
        self.refusals = 0;
        self.until = now.saturating_add(nanos);
        self.is_banned = true;
    }
}
