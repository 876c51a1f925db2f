//! The permits that a request needs.

use super::{Inner, grants::Granted};
use crate::{
    ClientRecord, Key,
    permit::Demand,
    policy::{CompiledRule, Shares},
};
use smallvec::SmallVec;
use std::sync::Arc;

/// The permits that a request needs.
#[derive(Debug)]
pub(super) struct Demands {
    /// Who takes turns with others.
    pub(super) client: Key,
    pub(super) enforced: SmallVec<[Demand; 2]>,
    pub(super) watched: SmallVec<[Demand; 2]>,
    /// What it may have to wait for by what clients were granted.
    pub(super) stakes: SmallVec<[Stake; 1]>,
}

/// A client of the registry, and the permits of which it was granted a number.
#[derive(Debug)]
pub(super) struct Stake {
    pub(super) client: Key,
    pub(super) record: Arc<ClientRecord>,
    pub(super) keys: SmallVec<[Key; 2]>,
}

impl Demands {
    pub(super) fn new(client: Key) -> Self {
        Self { client, enforced: SmallVec::new(), watched: SmallVec::new(), stakes: SmallVec::new() }
    }

    /// Adds those of a rule, for whom it takes to be its client and what that was granted, on the routes that the request may be for.
    pub(super) fn add(
        &mut self,
        inner: &Inner,
        rule: &CompiledRule,
        client: Key,
        granted: Option<&Granted>,
        mut routes: impl FnMut() -> SmallVec<[Key; 2]>,
    ) {
        let demands = if rule.shadow { &mut self.watched } else { &mut self.enforced };
        let first = demands.len();
        let mut may_wait = false;
        for number in rule.concurrency.clone() {
            let limit = &inner.policy.concurrency[number];
            let queue = if rule.shadow { 0 } else { limit.queue };
            let own = granted.filter(|_| limit.granted).map(|granted| granted.max_concurrent);
            let demand = |key| Demand { key, limit: limit.slot, number, own, queue };
            may_wait |= own.is_some() && queue > 0;
            let key = limit.key(client);
            match limit.shares {
                Shares::NobodyOnOneRoute => {
                    demands.extend(routes().into_iter().map(|route| demand(key.and(route))));
                }
                Shares::Nobody | Shares::All => demands.push(demand(key)),
            }
        }
        if let Some(granted) = granted.filter(|granted| may_wait && granted.follows) {
            let own = demands[first..].iter().filter(|demand| demand.own.is_some());
            let keys = own.map(|demand| demand.key).collect();
            self.stakes.push(Stake { client, record: granted.record.clone(), keys });
        }
    }
}
