//! A limit without mistakes.

use super::checked_rate;
use crate::{
    Key, Mistake, Quota, Rate,
    live::QuotaCell,
    policy::{Settlement, StoreDown, UnitCost},
    status::Words,
    store::{Place, Ready},
};
use std::num::NonZeroU32;

pub(crate) struct CompiledLimit {
    pub(crate) words: Words,
    pub(crate) rule: usize,
    pub(crate) quota: QuotaCell,
    /// The name, hashed.
    pub(crate) id: u64,
    pub(crate) scope: Scope,
    pub(crate) cost: UnitCost,
    pub(crate) settle: Option<Settlement>,
    /// Its number among the limits whose quota registered clients are granted.
    pub(crate) granted: Option<usize>,
    pub(super) max_debt: Option<u32>,
    pub(crate) store_down: StoreDown,
    /// How many units of a key an instance may hold in advance, if any.
    pub(crate) leased: Option<u32>,
    /// What it charges a request, whoever pays, as long as its quota is the one that it was built with.
    pub(super) ready: Ready,
}

impl CompiledLimit {
    /// What it charges a request, whoever pays, unless its quota was changed.
    #[inline(always)]
    pub(crate) fn ready(&self) -> Option<&Ready> {
        self.quota.is_unchanged().then_some(&self.ready)
    }

    /// Puts another quota in force and answers with the former one.
    pub(crate) fn set_quota(&self, rule: &str, quota: Quota) -> Result<Quota, Mistake> {
        let rate = checked_rate(rule, &self.words.name, quota, &self.cost)?;
        Ok(self.quota.set(quota, rate))
    }

    /// Whether a client was granted another rate than the limit's.
    pub(crate) fn has_other_rate(&self, rate: Rate) -> bool {
        self.granted.is_some() && rate != self.quota.rate()
    }

    pub(crate) fn max_debt(&self, burst: NonZeroU32) -> u32 {
        if self.settle.is_some() { self.max_debt.unwrap_or(burst.get()) } else { 0 }
    }
}

/// Who pays.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope {
    /// The client; `Key` sets groups of limits apart, so that few of them lie together.
    Client(Key),
    ClientAndRoute(Key),
    Shared(u16),
}

impl Scope {
    /// Whether it is each client's own, in that group.
    pub(in crate::policy) fn is_of(self, group: Key) -> bool {
        matches!(self, Self::Client(own) if own == group)
    }

    pub(crate) fn place(self, client: Key, route: impl FnOnce() -> Key) -> Place {
        match self {
            Self::Client(group) => Place::Client(client.and(group)),
            Self::ClientAndRoute(group) => Place::Client(client.and(group).and(route())),
            Self::Shared(number) => Place::Shared(number),
        }
    }
}
