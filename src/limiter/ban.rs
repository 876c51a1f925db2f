//! Bans by hand, and those in force.

use super::{Inner, Limiter};
use crate::{
    Identity, Key,
    ban::{Bans, Named, Released, Suspect},
    clock::nanos,
    identity::ClientLabel,
};
use std::{error::Error, fmt, time::Duration};

/// A ban in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Banned {
    key: Key,
    label: ClientLabel,
    name: Option<Box<str>>,
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

    /// The id of a registered client, or the [name](Identity::name) of another one; nothing where the client is known by
    /// anything else, or its name has more than 128 bytes.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
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
        let (inner, now) = (self.now(), self.inner.engine.now());
        let all = inner.bans.as_ref().map(|bans| bans.list(now)).unwrap_or_default();
        all.into_iter().map(|named| inner.shown(named, now)).collect()
    }

    /// The ban of a client, if one is in force by this identity. A registered client is banned by the
    /// [name](Identity::name) that is its id.
    pub fn ban_of(&self, identity: &Identity<'_>) -> Option<Banned> {
        let (inner, now) = (self.now(), self.inner.engine.now());
        let named = inner.bans.as_ref()?.get(identity.key(&inner.keys), now)?;
        Some(inner.shown(named, now))
    }

    /// Bans a client, as the policy's source or a rule's own one finds it, from its next request on; one that is banned
    /// already gets this time instead. An address is banned whatever else its client is known by.
    ///
    /// A registered client is banned by the [name](Identity::name) that is its id, and then however it comes: with any of
    /// its API keys, and also when it was deleted and created anew. A ban of one API key holds for that key alone.
    ///
    /// # Errors
    ///
    /// If the policy has no bans, or all room is taken by other bans.
    pub fn ban(&self, identity: &Identity<'_>, time: Duration) -> Result<Banned, BanError> {
        let (inner, key) = (self.now(), identity.key(&self.inner.keys));
        let now = inner.engine.now();
        let bans = inner.bans.as_ref().ok_or(BanError::Off)?;
        let mut released = Released::new();
        let suspect = Suspect { key, label: identity.label(key), name: identity.as_name() };
        let sentence = bans.ban(suspect, nanos(time), now, &mut released);
        inner.report_released(released);
        let sentence = sentence.ok_or(BanError::NoRoom)?;
        inner.report_banned(&sentence, &inner.occasion(Some(sentence.label), None, None));
        Ok(inner.shown((sentence, identity.as_name().map(Into::into)), now))
    }

    /// Ends a client's ban and forgets its refusals; answers whether it was banned.
    pub fn lift_ban(&self, identity: &Identity<'_>) -> bool {
        self.lift_ban_of(identity.key(&self.inner.keys))
    }

    /// The same for one of the [bans](Self::bans).
    pub fn lift_ban_of(&self, key: Key) -> bool {
        self.lift(key).is_some()
    }

    /// The ban that was lifted, if there was one.
    pub(crate) fn lift(&self, key: Key) -> Option<Banned> {
        let (inner, now) = (self.now(), self.inner.engine.now());
        let lifted = inner.bans.as_ref()?.lift(key, now)?;
        inner.report_released([lifted.0.label].into_iter().collect());
        Some(inner.shown(lifted, now))
    }

    /// How many refusals were not noted since the start, because all room was taken by bans. If it grows, let the policy's
    /// [`Ban`](crate::Ban) remember more clients.
    pub fn unnoted_refusals(&self) -> u64 {
        self.now().bans.as_ref().map_or(0, Bans::dropped)
    }
}

impl Inner {
    fn shown(&self, (sentence, name): Named, now: u64) -> Banned {
        Banned {
            key: sentence.key,
            label: sentence.label,
            name,
            plain_addresses: self.plain_addresses,
            remaining: Duration::from_nanos(sentence.until.saturating_sub(now)),
            times: sentence.times,
        }
    }
}
