//! Charging without HTTP.

use super::{Charging, Limiter};
#[cfg(feature = "admin")]
use crate::{ChargeError, ClientRecord};
use crate::{Decision, Identity, Key, identity::ClientLabel, registry::Who};
use std::sync::Arc;

/// One client of a limiter, to be charged by hand.
#[derive(Debug, Clone)]
pub struct Client {
    limiter: Limiter,
    key: Key,
    label: ClientLabel,
    /// Whom to look for, where there is a registry.
    who: Option<Arc<Who>>,
}

impl Client {
    pub(super) fn new(limiter: Limiter, identity: &Identity<'_>) -> Self {
        let key = identity.key(&limiter.inner.keys);
        let who = limiter.inner.claimed(identity);
        Self { limiter, key, label: identity.label(key), who }
    }

    /// Charges the limits of a rule, all of them or none; await it.
    ///
    /// It costs what each limit says of every request, or 1 where that depends on a request's head, unless
    /// [`cost`](Charging::cost) is set. What the rule says about methods, routes and responses does not matter here.
    pub fn charge<'a>(&'a self, rule: &'a str) -> Charging<'a> {
        Charging::new(&self.limiter, self.key, self.label, self.who.clone(), rule)
    }

    /// Asks what [`charge`](Self::charge) would answer, and charges nothing.
    pub fn peek<'a>(&'a self, rule: &'a str) -> Charging<'a> {
        self.charge(rule).only_asking()
    }

    /// Forgives everything that the client owes to the limits of a rule, but not what it shares with all clients.
    pub fn reset<'a>(&'a self, rule: &'a str) -> Charging<'a> {
        self.charge(rule).forgiving()
    }

    /// The client's record, where there is a registry and it is one of its kind. It is only asked after, and not created.
    #[cfg(feature = "admin")]
    pub(crate) async fn lookup(&self) -> Option<Result<Arc<ClientRecord>, ChargeError>> {
        let (grants, who) = self.limiter.inner.grants.as_ref().zip(self.who.as_deref())?;
        let looked = match grants.look_up(self.key, who.clone(), None) {
            Ok(looked) => looked,
            Err(lookup) => lookup.await.1,
        };
        Some(looked.outcome.map(|granted| granted.record).map_err(ChargeError::from))
    }

    /// Gives back what a decision charged, once, and as far as it is still owed: what has drained since is not given back.
    /// A decision that refused charged nothing.
    pub fn refund(&self, decision: &Decision) {
        self.limiter.refund(decision);
    }
}
