//! What one limit says.

use crate::{Quota, Rate, Reading};
use http::HeaderValue;
use std::time::Duration;

/// One limit as a decision left it.
#[derive(Debug, Clone, Copy)]
pub struct LimitStatus<'a> {
    pub(crate) rule: &'a str,
    pub(crate) limit: &'a str,
    pub(crate) quota: Quota,
    pub(crate) rate: Rate,
    pub(crate) reading: Reading,
    pub(crate) shadow: bool,
    /// `response::policy_member` of this limit at this rate, where it was made beforehand.
    pub(crate) policy: Option<&'a HeaderValue>,
}

impl<'a> LimitStatus<'a> {
    /// The rule that holds the limit.
    pub const fn rule(&self) -> &'a str {
        self.rule
    }

    /// The limit's name.
    pub const fn limit(&self) -> &'a str {
        self.limit
    }

    /// The quota in force.
    pub const fn quota(&self) -> Quota {
        self.quota
    }

    /// The quota as it is counted.
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
}

/// How long until none of the limits refuses, if nothing else is charged. Nothing where none does, or one always will.
pub(crate) fn retry_after<'a>(limits: impl Iterator<Item = LimitStatus<'a>>) -> Option<Duration> {
    let mut longest = None;
    for limit in limits.filter(LimitStatus::refuses) {
        longest = longest.max(Some(limit.reading.retry_after()?));
    }
    longest
}
