//! Clients that are let in no more.

use super::{Charged, Inner, Limiter};
use crate::{
    Identity, Key, RequestHead,
    ban::{Bans, Released, Sentence},
    clock::nanos,
    event::{Event, Occasion},
    identity::{ClientLabel, client_address},
    policy::{Scope, Shares},
};
use std::{error::Error, fmt, time::Duration};

/// A ban in force.
#[derive(Debug, Clone)]
pub struct Banned {
    key: Key,
    label: ClientLabel,
    plain_addresses: bool,
    remaining: Duration,
    times: u32,
}

impl Banned {
    /// The client's key, to [lift](Limiter::lift_ban_of) its ban.
    pub const fn key(&self) -> Key {
        self.key
    }

    /// The client, as logs may name it: a fingerprint, or the address where the limiter was told to show addresses.
    pub fn client(&self) -> impl fmt::Display + use<> {
        self.label.display(self.plain_addresses)
    }

    /// How long it takes yet.
    pub const fn remaining(&self) -> Duration {
        self.remaining
    }

    /// Which ban of its client in a row it is, from 1 on; 0 for one by hand.
    pub const fn times(&self) -> u32 {
        self.times
    }
}

/// A client could not be banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BanError {
    /// The policy has no bans.
    Off,
    /// All room is taken by other bans.
    NoRoom,
}

impl fmt::Display for BanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => {
                "the policy has no bans; give it `.ban(Ban::by_hand())`, or terms by which clients are banned"
            }
            Self::NoRoom => {
                "all room is taken by other bans; lift some, or let the policy's `Ban` remember more clients"
            }
        })
    }
}

impl Error for BanError {}

impl Limiter {
    /// The bans in force, those that end soonest first.
    pub fn bans(&self) -> Vec<Banned> {
        let (inner, now) = (&self.inner, self.inner.engine.now());
        let sentences = inner.bans.as_ref().map(|bans| bans.list(now)).unwrap_or_default();
        let banned = |Sentence { key, label, until, times }| Banned {
            key,
            label,
            plain_addresses: inner.plain_addresses,
            remaining: Duration::from_nanos(until.saturating_sub(now)),
            times,
        };
        sentences.into_iter().map(banned).collect()
    }

    /// Bans a client, as the policy's source or a rule's own one finds it, from its next request on; one that is banned
    /// already gets this time instead. An address is banned whatever else its client is known by.
    ///
    /// # Errors
    ///
    /// If the policy has no bans, or all room is taken by other bans.
    pub fn ban(&self, identity: &Identity<'_>, time: Duration) -> Result<(), BanError> {
        let (inner, key) = (&self.inner, identity.key(&self.inner.keys));
        let bans = inner.bans.as_ref().ok_or(BanError::Off)?;
        let mut released = Released::new();
        let sentence = bans.ban(key, identity.label(key), nanos(time), inner.engine.now(), &mut released);
        inner.report_released(released);
        let sentence = sentence.ok_or(BanError::NoRoom)?;
        inner.report_banned(&sentence, &inner.occasion(Some(sentence.label), None, None));
        Ok(())
    }

    /// Ends a client's ban and forgets its refusals; answers whether it was banned.
    pub fn lift_ban(&self, identity: &Identity<'_>) -> bool {
        self.lift_ban_of(identity.key(&self.inner.keys))
    }

    /// The same for one of the [bans](Self::bans).
    pub fn lift_ban_of(&self, key: Key) -> bool {
        let inner = &self.inner;
        let lifted = inner.bans.as_ref().and_then(|bans| bans.lift(key, inner.engine.now()));
        inner.report_released(lifted.into_iter().collect());
        lifted.is_some()
    }

    /// How many refusals were not noted since the start, because all room was taken by bans. If it grows, let the policy's
    /// [`Ban`](crate::Ban) remember more clients.
    pub fn unnoted_refusals(&self) -> u64 {
        self.inner.bans.as_ref().map_or(0, Bans::dropped)
    }
}

impl Inner {
    /// The ban of whoever sends a request, by its address and by whatever source of the policy knows it, and for how long
    /// it is in force yet.
    pub(super) fn banned(&self, head: &RequestHead<'_>) -> Option<(ClientLabel, Duration)> {
        let bans = self.bans.as_ref().filter(|bans| bans.any())?;
        let proxies = self.policy.proxies.as_ref();
        let address = client_address(head, proxies).ok().flatten().map(Identity::address);
        let known = self.policy.sources.iter().filter_map(|source| {
            let (key, is_somebody) = source.key(head, proxies, &self.keys).ok()?;
            is_somebody.then_some(key)
        });
        let mut keys = address.map(|address| address.key(&self.keys)).into_iter().chain(known);
        keys.find_map(|key| self.banned_key(bans, key))
    }

    /// The ban of a client that is charged by hand.
    pub(super) fn banned_client(&self, key: Key) -> Option<Duration> {
        let bans = self.bans.as_ref().filter(|bans| bans.any())?;
        self.banned_key(bans, key).map(|(_, time)| time)
    }

    fn banned_key(&self, bans: &Bans, key: Key) -> Option<(ClientLabel, Duration)> {
        let (now, mut released) = (self.engine.now(), Released::new());
        let sentence = bans.check(key, now, &mut released);
        self.report_released(released);
        sentence.map(|sentence| (sentence.label, Duration::from_nanos(sentence.until.saturating_sub(now))))
    }

    /// Takes note that a request was refused.
    pub(crate) fn note_refusal(&self, charged: &Charged, head: RequestHead<'_>) {
        let Some(bans) = &self.bans else { return };
        let Some(rule) = self.offended(charged) else { return };
        let source = &self.policy.sources[self.policy.rules[rule].source];
        let Ok(identity) = source.identify(head, self.policy.proxies.as_ref()) else { return };
        if !identity.is_anonymous() {
            let key = identity.key(&self.keys);
            let label = identity.label(key);
            let occasion = self.occasion(Some(label), Some(head.method()), self.route(head));
            self.note(bans, key, label, &occasion);
        }
    }

    /// Takes note that a charge by hand was refused.
    pub(super) fn note_refused_client(&self, charged: &Charged, key: Key, label: ClientLabel) {
        if let Some(bans) = self.bans.as_ref().filter(|_| self.offended(charged).is_some()) {
            self.note(bans, key, label, &self.occasion(Some(label), None, None));
        }
    }

    fn note(&self, bans: &Bans, key: Key, label: ClientLabel, occasion: &Occasion<'_>) {
        let mut released = Released::new();
        let sentence = bans.refused(key, label, self.engine.now(), &mut released);
        self.report_released(released);
        if let Some(sentence) = sentence {
            self.report_banned(&sentence, occasion);
        }
    }

    /// The rule of the first limit that refused its client for what the client itself did.
    fn offended(&self, charged: &Charged) -> Option<usize> {
        let limits = charged.asked.iter().filter(|asked| !asked.charge.shadow && !asked.reading.is_allowed());
        let limits = limits.map(|asked| &self.policy.limits[asked.limit]);
        let own = limits.filter(|limit| !matches!(limit.scope, Scope::Shared(_))).map(|limit| limit.rule);
        let permits = charged.refusing_permits().map(|number| &self.policy.concurrency[number]);
        own.chain(permits.filter(|limit| limit.shares != Shares::All).map(|limit| limit.rule)).next()
    }

    fn report_banned(&self, sentence: &Sentence, occasion: &Occasion<'_>) {
        let time = Duration::from_nanos(sentence.until.saturating_sub(self.engine.now()));
        self.emit(&Event::Banned { occasion, time, times: sentence.times });
    }

    fn report_released(&self, released: Released) {
        for label in released {
            self.emit(&Event::Released(&self.occasion(Some(label), None, None)));
        }
    }
}
