//! A limit without mistakes.

use super::checked_rate;
use crate::{
    Key, Mistake, Quota, Rate,
    live::QuotaCell,
    policy::{Metering, Settlement, StoreDown, UnitCost},
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
        self.granted.is_some() && self.told_by(rate) != self.quota.rate()
    }

    pub(crate) fn max_debt(&self, rate: Rate) -> u32 {
        match (&self.settle, self.paced()) {
            (None, _) => 0,
            (_, Some(metering)) => metering.room(rate),
            _ => self.max_debt.unwrap_or(rate.burst().get()),
        }
    }

    /// What of bodies it makes wait, if it does.
    pub(crate) fn paced(&self) -> Option<&Metering> {
        self.settle.as_ref()?.metering().filter(|metering| metering.pace.is_some())
    }

    /// The rate by which units are taken: where bodies wait, those that wait have room beyond the burst.
    pub(crate) fn taken_by(&self, rate: Rate) -> Rate {
        match self.paced() {
            None => rate,
            Some(metering) => Rate::new(rate.interval_ns(), rate.burst().saturating_add(metering.room(rate))),
        }
    }

    /// The rate of which [`taken_by`](Self::taken_by) made this one.
    pub(crate) fn told_by(&self, taken: Rate) -> Rate {
        match self.paced() {
            None => taken,
            Some(metering) => {
                let burst = taken.burst().get().saturating_sub(metering.room(taken));
                Rate::new(taken.interval_ns(), NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN))
            }
        }
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
