use super::{
    super::kinds::{Amount, Period},
    cost::{CostSection, SettleSection},
};
use crate::{Concurrency, Limit, StoreDown};
use schemars::JsonSchema;
use serde::Deserialize;

/// A named quota, and who shares it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct LimitSection {
    /// A name that no other limit has, 1 to 64 printable ASCII characters, because clients are told it; that of the rule unless
    /// set. What clients owe goes by it, so that it stays theirs when the file is read again.
    #[schemars(length(min = 1, max = 64))]
    pub(in super::super) name: Option<String>,
    /// How much, how fast: an amount, `/` or `per`, a period, and then `burst` with a number, `strict` or both. From `1/365d` to
    /// `10_000_000/second`.
    quota: Amount,
    /// Who has the quota for itself.
    #[serde(default)]
    per: Per,
    /// How many units a request takes; 1 unless set.
    cost: Option<CostSection>,
    /// What the response makes of that; nothing unless set.
    settle: Option<SettleSection>,
    /// The units beyond the burst that a response may add as debt; as many as the burst unless set.
    max_debt: Option<u32>,
    /// Registered clients have the quota that they were granted instead of this one, if they were granted one:
    /// `requests_per_min` where the limit is named `requests`, else by its name; false unless set.
    #[serde(default)]
    granted: bool,
    /// What becomes of requests while the store cannot decide.
    #[serde(default)]
    store_down: Down,
    /// How many units of each key an instance may take from the store in advance, from 1 to the burst, for hot keys; none
    /// unless set.
    #[schemars(range(min = 1))]
    leased: Option<u32>,
}

/// Who has a limit for itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Per {
    /// Each client, unless set.
    #[default]
    Client,
    /// Each client on each route.
    ClientAndRoute,
    /// All clients share it.
    All,
}

/// What becomes of requests without their store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Down {
    /// They are refused with 503, unless set.
    #[default]
    Deny,
    /// They pass, uncounted.
    Allow,
    /// They are counted in memory, at this instance's part of the quota.
    Local,
}

impl From<Down> for StoreDown {
    fn from(down: Down) -> Self {
        match down {
            Down::Deny => Self::Deny,
            Down::Allow => Self::Allow,
            Down::Local => Self::Local,
        }
    }
}

impl LimitSection {
    /// Whether all clients share it.
    pub(super) fn is_shared(&self) -> bool {
        self.per == Per::All
    }

    /// `rule` is the name that it has unless it has one of its own.
    pub(super) fn build(&self, rule: &str) -> Limit {
        let (name, quota) = (self.name.as_deref().unwrap_or(rule), *self.quota);
        let mut limit = match self.per {
            Per::Client => Limit::per_client(name, quota),
            Per::ClientAndRoute => Limit::per_client_and_route(name, quota),
            Per::All => Limit::shared(name, quota),
        };
        limit = self.cost.iter().map(CostSection::build).fold(limit, Limit::cost);
        limit = self.settle.iter().map(SettleSection::build).fold(limit, Limit::settle);
        limit = self.max_debt.into_iter().fold(limit, Limit::max_debt);
        let limit = limit.store_down(self.store_down.into());
        let limit = self.leased.into_iter().fold(limit, Limit::leased);
        if self.granted { limit.granted() } else { limit }
    }
}

/// A named limit on how many requests run at once, until their responses' bodies have been sent.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct ConcurrencySection {
    /// A name that no other limit has, 1 to 64 printable ASCII characters; that of the rule unless set.
    #[schemars(length(min = 1, max = 64))]
    pub(in super::super) name: Option<String>,
    /// How many requests at once, at least 1.
    #[schemars(range(min = 1))]
    max: u32,
    /// Who has the number for itself.
    #[serde(default)]
    per: Per,
    /// Beyond it requests wait in turn, instead of being refused at once.
    pub(in super::super) wait: Option<WaitSection>,
    /// Each instance lets so many run at once, whatever runs on others that share its store; false unless set.
    #[serde(default)]
    per_instance: bool,
    /// What becomes of requests while the store that permits are counted in cannot decide.
    #[serde(default)]
    store_down: Down,
    /// Registered clients may have as many requests at once as they were granted with `max_concurrent`, instead of this number;
    /// false unless set.
    #[serde(default)]
    granted: bool,
}

/// Who may wait for a permit.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct WaitSection {
    /// How many requests of each client may wait, at least 1.
    #[schemars(range(min = 1))]
    queue: u32,
    /// How long each of them waits.
    patience: Period,
}

impl ConcurrencySection {
    pub(super) fn build(&self, rule: &str) -> Concurrency {
        let (name, max) = (self.name.as_deref().unwrap_or(rule), self.max);
        let mut limit = match self.per {
            Per::Client => Concurrency::per_client(name, max),
            Per::ClientAndRoute => Concurrency::per_client_and_route(name, max),
            Per::All => Concurrency::shared(name, max),
        };
        if let Some(WaitSection { queue, patience }) = &self.wait {
            limit = limit.wait(*queue, patience.0);
        }
        limit = limit.store_down(self.store_down.into());
        limit = if self.per_instance { limit.per_instance() } else { limit };
        if self.granted { limit.granted() } else { limit }
    }
}
