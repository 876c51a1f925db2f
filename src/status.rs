//! What one limit says.

use crate::{Quota, Rate, Reading, live::LiveQuota};
use std::time::Duration;

/// One limit as a decision left it.
#[derive(Debug, Clone, Copy)]
pub struct LimitStatus<'a> {
    pub(crate) rule: &'a str,
    pub(crate) words: &'a Words,
    pub(crate) quota: &'a LiveQuota,
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
}

impl Words {
    /// What stands between the quotes.
    pub(crate) fn escaped(&self) -> &str {
        self.quoted.get(1..self.quoted.len() - 1).unwrap_or_default() // there always are two
    }
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

/// How long until none of the limits refuses, if nothing else is charged. Nothing where none does, or one always will.
pub(crate) fn retry_after<'a>(limits: impl Iterator<Item = LimitStatus<'a>>) -> Option<Duration> {
    let mut longest = None;
    for limit in limits.filter(LimitStatus::refuses) {
        longest = longest.max(Some(limit.reading.retry_after()?));
    }
    longest
}
