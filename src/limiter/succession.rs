//! Policies that follow one another while requests come.
//!
//! All handles of a limiter hold the first of them; whatever is asked goes to the one in force. A request that began under one
//! goes on under it. What was counted goes on under all of them: it lies in the same memory or store, at places that go by the
//! names of limits, and quotas of one name are one cell, so that no two policies count a limit at different rates.

use super::{
    Grants, Inner, Limiter,
    room::{DEFAULT_CLIENTS, missing_registry, missing_timer, permits},
};
use crate::{
    BuildError, Mistake, Policy, ban::Bans, event::Event, observe::Meters, policy::Compiled, store::Memory,
};
use arc_swap::{ArcSwap, Guard};
use std::{
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

/// What follows the first policy of a limiter.
#[derive(Default)]
pub(super) struct Succession {
    /// The one in force, once one has followed.
    latest: OnceLock<ArcSwap<Inner>>,
    writer: Mutex<()>,
}

impl Succession {
    /// Holds others up that change what is in force.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is in force now. Few limiters ever get a second policy, and to the others this is one look.
pub(crate) enum InForce<'l> {
    First(&'l Arc<Inner>),
    Later(Guard<Arc<Inner>>),
}

impl Deref for InForce<'_> {
    type Target = Arc<Inner>;

    #[inline(always)]
    fn deref(&self) -> &Arc<Inner> {
        match self {
            Self::First(inner) => inner,
            Self::Later(inner) => inner,
        }
    }
}

impl Limiter {
    #[inline(always)]
    pub(crate) fn now(&self) -> InForce<'_> {
        match self.inner.succession.latest.get() {
            None => InForce::First(&self.inner),
            Some(latest) => InForce::Later(latest.load()),
        }
    }

    /// Puts another policy in force, from the next request on, for all clones of the limiter and all layers, clients and pacers
    /// that were made of it. Requests that are under way end under the former one.
    ///
    /// What clients owe goes by the names of limits: a limit that keeps its name keeps its counts, whatever else becomes of it,
    /// and so do permits that are held, bans and refusals. A limit that is left out and comes back finds what has not drained.
    /// What was changed while the limiter ran, by [`set_quota`](Self::set_quota), [`set_concurrency`](Self::set_concurrency) and
    /// on the lists, stays unless the policy differs in it from the former one.
    ///
    /// Each shared limit with a new name takes 128 bytes more than the memory that was set.
    ///
    /// # Errors
    ///
    /// If the policy has a mistake; the error names all of them, and the former policy stays in force.
    pub fn set_policy(&self, policy: Policy) -> Result<(), BuildError> {
        let succession = &self.inner.succession;
        let alone = succession.alone();
        let former = self.now();
        let next = Arc::new(former.succeeded_by(&policy)?);
        next.enforce(&former);
        match succession.latest.get() {
            Some(latest) => latest.store(next),
            None => drop(succession.latest.set(ArcSwap::new(next))),
        }
        drop(alone);
        self.inner.emit(&Event::PolicyChanged { rules: policy.rules.len() });
        Ok(())
    }
}

impl Inner {
    /// Whether both are policies of one limiter.
    pub(super) fn is_of_one_limiter(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.policy.lists, &other.policy.lists)
    }

    /// All that a policy needs that follows.
    fn succeeded_by(&self, policy: &Policy) -> Result<Self, BuildError> {
        let mut mistakes = Vec::new();
        let is_grouped = self.engine.memory().is_some();
        let policy = Compiled::new(policy, Some(&self.policy), &self.keys, is_grouped, &mut mistakes);
        mistakes.extend(self.changed_lease(&policy));
        mistakes.extend(missing_registry(&policy, self.grants.is_some()));
        mistakes.extend(missing_timer(&policy, self.timer.is_some()));
        let engine = self.engine.handed_on(&policy).map_err(|mistake| mistakes.push(mistake));
        let permits = permits(&policy, self.permits.as_ref(), self.timer.is_some(), self.room)
            .map_err(|mistake| mistakes.push(mistake));
        let (Ok(engine), Ok(permits), true) = (engine, permits, mistakes.is_empty()) else {
            return Err(BuildError::new(mistakes));
        };
        let bans = policy.ban.map(|(terms, clients)| match &self.bans {
            Some(bans) => bans.handed_on(terms),
            None => Bans::new(terms, clients),
        });
        let clients = engine.memory().map_or(DEFAULT_CLIENTS, Memory::capacity);
        let grants = self.grants.as_ref();
        let grants =
            grants.map(|grants| Grants::new(grants.office.clone(), self.keys.clone(), &policy, clients));
        let meters = Meters::new(policy.rules.iter().map(|rule| rule.name.as_str()));
        Ok(Self {
            policy,
            keys: self.keys.clone(),
            engine,
            permits,
            room: self.room,
            timer: self.timer.clone(),
            bans,
            grants,
            observers: self.observers.clone(),
            meters,
            plain_addresses: self.plain_addresses,
            warned_anonymous: false.into(),
            warned_proxy: false.into(),
            succession: Succession::default(),
        })
    }

    /// That a limit is leased otherwise, which a store elsewhere is told when it is joined.
    fn changed_lease(&self, policy: &Compiled) -> Option<Mistake> {
        let leased = |policy: &Compiled, name: &str| policy.limit(name).and_then(|limit| limit.leased);
        let differs = |name: &&str| leased(policy, name) != leased(&self.policy, name);
        let names = policy
            .limits
            .iter()
            .filter(|limit| limit.leased.is_some() || self.policy.limit(&limit.words.name).is_some());
        let name = names.map(|limit| limit.words.name.as_str()).find(differs)?;
        if self.engine.memory().is_some() {
            return None;
        }
        let reason = format!("limit {name:?} is leased otherwise than before; build a limiter anew for that");
        Some(Mistake::Setting { setting: "Limit::leased", reason })
    }

    /// Puts in force what policies share, just before requests are held to this one.
    fn enforce(&self, former: &Self) {
        for limit in &self.policy.limits {
            limit.quota.enforce();
        }
        for limit in &self.policy.concurrency {
            let said = former.policy.concurrency.iter().find(|other| other.slot == limit.slot);
            let Some(permits) =
                self.permits.as_ref().filter(|_| said.is_none_or(|said| said.max != limit.max))
            else {
                continue;
            };
            permits.declare(limit.slot, limit.max);
            permits.revise(limit.slot, limit.max);
        }
        let lists = &self.policy.lists;
        lists.set_others(self.policy.exempt_preflights || self.bans.is_some());
        self.hand_on_lists(former);
    }
}
