//! What one limit says.

use crate::{Quota, Rate, Reading, live::QuotaCell};
use std::{num::NonZeroU32, time::Duration};

/// One limit as a decision left it.
#[derive(Debug, Clone, Copy)]
pub struct LimitStatus<'a> {
    pub(crate) rule: &'a str,
    pub(crate) words: &'a Words,
    pub(crate) quota: &'a QuotaCell,
    /// Whether the client was granted another quota than the limit's.
    pub(crate) own: bool,
    pub(crate) rate: Rate,
    pub(crate) reading: Reading,
    pub(crate) shadow: bool,
}

/// A limit in words, made when the limiter is built because answers are full of them.
#[derive(Debug)]
pub(crate) struct Words {
    pub(crate) name: String,
    /// The name as a String of RFC 9651, and of JSON as well, because names are printable ASCII.
    pub(crate) quoted: String,
    /// What `RateLimit-Policy` says of the quota that the limit was built with.
    pub(crate) policy: String,
    /// That quota as text.
    pub(crate) quota: String,
    /// How many bytes a unit is, where the limit counts those.
    pub(crate) grain: Option<NonZeroU32>,
}

impl Words {
    /// What stands between the quotes.
    pub(crate) fn escaped(&self) -> &str {
        unquoted(&self.quoted)
    }
}

fn unquoted(quoted: &str) -> &str {
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default() // there always are two quotes
}

impl<'a> LimitStatus<'a> {
    /// The rule that holds the limit.
    pub const fn rule(&self) -> &'a str {
        self.rule
    }

    /// The limit's name.
    pub fn limit(&self) -> &'a str {
        &self.words.name
    }

    /// The quota in force.
    pub fn quota(&self) -> Quota {
        if self.own { self.rate.quota() } else { self.quota.quota() }
    }

    /// The quota as it was counted.
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// Debt, and whether the charge fits.
    pub const fn reading(&self) -> Reading {
        self.reading
    }

    /// How many bytes a unit is, where the limit counts those; see [`Bandwidth`](crate::Bandwidth).
    pub fn grain(&self) -> Option<u32> {
        self.words.grain.map(NonZeroU32::get)
    }

    /// The units that can be spent now.
    pub const fn remaining(&self) -> u32 {
        self.reading.remaining(self.rate)
    }

    /// Whether the limit refuses; one that only watches never does.
    pub const fn refuses(&self) -> bool {
        !self.shadow && !self.reading.is_allowed()
    }

    /// Whether the limit only watches and never refuses.
    pub const fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// The words that were made beforehand, unless they tell of another quota than the one in force.
    pub(crate) fn told(&self) -> Option<&'a Words> {
        (!self.own && self.quota.is_unchanged()).then_some(self.words)
    }
}

/// One limit on concurrency as a decision left it.
#[derive(Debug, Clone, Copy)]
pub struct PermitStatus<'a> {
    pub(crate) rule: &'a str,
    pub(crate) limit: &'a str,
    pub(crate) quoted: &'a str,
    pub(crate) used: u32,
    pub(crate) max: u32,
    pub(crate) fits: bool,
    pub(crate) shadow: bool,
}

impl<'a> PermitStatus<'a> {
    /// The rule that holds the limit.
    pub const fn rule(&self) -> &'a str {
        self.rule
    }

    /// The limit's name.
    pub const fn limit(&self) -> &'a str {
        self.limit
    }

    /// How many requests were running, this one among them if it was admitted. It is more than
    /// [`max`](Self::max) where that was lowered since.
    pub const fn used(&self) -> u32 {
        self.used
    }

    /// How many may run at once.
    pub const fn max(&self) -> u32 {
        self.max
    }

    /// How many more may run.
    pub const fn remaining(&self) -> u32 {
        self.max.saturating_sub(self.used)
    }

    /// Whether there was room for the request under this limit.
    pub const fn is_allowed(&self) -> bool {
        self.fits
    }

    /// Whether the limit refuses; one that only watches never does.
    pub const fn refuses(&self) -> bool {
        !self.shadow && !self.fits
    }

    /// Whether the limit only watches and never refuses.
    pub const fn is_shadow(&self) -> bool {
        self.shadow
    }

    pub(crate) fn escaped(&self) -> &'a str {
        unquoted(self.quoted)
    }
}

/// How long to stay away from a limit on concurrency. Nobody knows when a request will end; this is the least that
/// `Retry-After` can say.
const PERMIT_RETRY: Duration = Duration::from_secs(1);

/// How long until none of the limits refuses, if nothing else is charged. Nothing where none does, or one always will.
pub(crate) fn retry_after<'a>(
    limits: impl Iterator<Item = LimitStatus<'a>>,
    mut permits: impl Iterator<Item = PermitStatus<'a>>,
) -> Option<Duration> {
    let mut longest = permits.any(|permit| permit.refuses()).then_some(PERMIT_RETRY);
    for limit in limits.filter(LimitStatus::refuses) {
        longest = longest.max(Some(limit.reading.retry_after()?));
    }
    longest
}
