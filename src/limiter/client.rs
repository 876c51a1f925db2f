//! Charging without HTTP.

use super::{Charging, Holding, Limiter};
use crate::{ChargeError, ClientRecord, Decision, Identity, Key, identity::ClientLabel, registry::Who};
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

    /// Its key, by which it can be told from others: the same for the same identity, as long as the limiter's secret is.
    pub const fn key(&self) -> Key {
        self.key
    }

    /// Charges the limits of a rule, all of them or none; await it.
    ///
    /// It costs what each limit says of every request, or 1 where that depends on a request's head, unless
    /// [`cost`](Charging::cost) is set. What the rule says about methods, routes and responses does not matter here, nor
    /// do its limits on concurrency, which are for [`hold`](Self::hold).
    pub fn charge<'a>(&'a self, rule: &'a str) -> Charging<'a> {
        Charging::new(&self.limiter, self.key, self.label, self.who.clone(), rule)
    }

    /// Takes the permits of a rule and charges its limits, all of them or none; await it, and keep the [`Hold`](crate::Hold) for
    /// as long as the work goes on.
    ///
    /// Where the rule's limits on concurrency let requests wait, so does this. Work that the layer does not see the end of
    /// is held this way: a WebSocket, say, whose upgrade is all that the layer sees.
    ///
    /// ```
    /// # use tidegate::{ChargeError, Client};
    /// # async fn export() {}
    /// # async fn test(client: Client) -> Result<(), ChargeError> {
    /// let hold = client.hold("exports").await?;
    /// if hold.is_allowed() {
    ///     export().await;
    /// }
    /// drop(hold);
    /// # Ok(())
    /// # }
    /// ```
    pub fn hold<'a>(&'a self, rule: &'a str) -> Holding<'a> {
        Holding(self.charge(rule).holding())
    }

    /// Asks what [`charge`](Self::charge) would answer, and charges nothing.
    pub fn peek<'a>(&'a self, rule: &'a str) -> Charging<'a> {
        self.charge(rule).only_asking()
    }

    /// The same for an operator, who wants to know it of whoever is banned or on a list too, and what runs at once.
    #[cfg(feature = "admin")]
    pub(crate) fn inspect<'a>(&'a self, rule: &'a str) -> Charging<'a> {
        self.charge(rule).inspecting()
    }

    /// Forgives everything that the client owes to the limits of a rule, but not what it shares with all clients.
    pub fn reset<'a>(&'a self, rule: &'a str) -> Charging<'a> {
        self.charge(rule).forgiving()
    }

    /// The client's record, disabled or not: nothing where there is no registry, or nothing by which to find anybody in it.
    /// Nobody is created, and neither a fallback nor whom unknown clients share is theirs.
    ///
    /// # Errors
    ///
    /// If the registry does not know the client or its key, or cannot be asked.
    pub async fn record(&self) -> Result<Option<Arc<ClientRecord>>, ChargeError> {
        let Some(grants) = self.limiter.now().grants.clone() else { return Ok(None) };
        let who = match self.who.as_deref() {
            Some(Who::Nobody) | None => return Ok(None),
            Some(who) => who.clone(),
        };
        if let Some(record) = grants.with(self.key, |granted| granted.record.clone()) {
            return Ok(Some(record));
        }
        let looked = match grants.look_up(self.key, who, None) {
            Ok(looked) => looked,
            Err(lookup) => lookup.await.1,
        };
        let granted = looked.outcome.map_err(ChargeError::from)?;
        Ok(looked.stored.then_some(granted.record))
    }

    /// The client's record, where there is a registry and it is one of its kind. It is only asked after, and not created.
    #[cfg(feature = "admin")]
    pub(crate) async fn lookup(&self) -> Option<Result<Arc<ClientRecord>, ChargeError>> {
        let inner = self.limiter.now();
        let (grants, who) = inner.grants.as_ref().zip(self.who.as_deref())?;
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
