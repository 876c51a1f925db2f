use super::{Cost, Settle, StoreDown};
use crate::Quota;

/// A named quota, and who shares it.
#[derive(Debug, Clone)]
pub struct Limit {
    pub(crate) name: String,
    pub(crate) quota: Quota,
    pub(crate) shares: Shares,
    pub(crate) cost: Cost,
    pub(crate) settle: Option<Settle>,
    pub(crate) max_debt: Option<u32>,
    pub(crate) granted: bool,
    pub(crate) store_down: StoreDown,
    pub(crate) leased: Option<u32>,
}

/// Who shares a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shares {
    Nobody,
    NobodyOnOneRoute,
    All,
}

impl Limit {
    /// Each client has the quota for itself.
    pub fn per_client(name: impl Into<String>, quota: Quota) -> Self {
        Self::new(name, quota, Shares::Nobody)
    }

    /// Each client has the quota for itself on each route.
    ///
    /// Routes are templates, never raw paths: axum's `MatchedPath`, or the pattern of the policy that the path
    /// matches. All requests without one share a route.
    pub fn per_client_and_route(name: impl Into<String>, quota: Quota) -> Self {
        Self::new(name, quota, Shares::NobodyOnOneRoute)
    }

    /// All clients share the quota.
    pub fn shared(name: impl Into<String>, quota: Quota) -> Self {
        Self::new(name, quota, Shares::All)
    }

    fn new(name: impl Into<String>, quota: Quota, shares: Shares) -> Self {
        Self {
            name: name.into(),
            quota,
            shares,
            cost: Cost::fixed(1),
            settle: None,
            max_debt: None,
            granted: false,
            store_down: StoreDown::Deny,
            leased: None,
        }
    }

    /// Registered clients have the quota that they were granted, if they were granted one, instead of this one: by
    /// `requests_per_min` where the limit is named `requests`, else by the name among a grant's
    /// [limits](crate::Grant::limit). The rule's source must be [registered](crate::Source::registered).
    #[must_use]
    pub const fn granted(mut self) -> Self {
        self.granted = true;
        self
    }

    /// How many units a request takes; 1 unless set.
    #[must_use]
    pub fn cost(mut self, cost: impl Into<Cost>) -> Self {
        self.cost = cost.into();
        self
    }

    /// What the response makes of that.
    #[must_use]
    pub fn settle(mut self, settle: impl Into<Settle>) -> Self {
        self.settle = Some(settle.into());
        self
    }

    /// What becomes of requests while the store cannot decide; they are refused with 503 unless set.
    ///
    /// It means nothing where counting is in memory.
    #[must_use]
    pub const fn store_down(mut self, store_down: StoreDown) -> Self {
        self.store_down = store_down;
        self
    }

    /// Each instance may debit up to `units` of each key in advance and spend them without asking the store, from 1 to the
    /// quota's burst: for hot keys that many requests go by. Unless it is set, each request asks the store.
    ///
    /// An instance takes what was asked of it in the last tenth of a second, never more than a quarter of what is left, and
    /// gives back what it has not spent in a second. So in any interval all instances together admit at most `units` each
    /// beyond the quota, and in the long run nothing beyond it; and one may refuse while others hold that much. A request
    /// needs no answer of the store if all limits that it is charged for are leased.
    ///
    /// It means nothing where counting is in memory.
    #[must_use]
    pub const fn leased(mut self, units: u32) -> Self {
        self.leased = Some(units);
        self
    }

    /// The units beyond the burst that a response may add as debt; as many as the burst unless set.
    ///
    /// A client in debt is refused until it is below the burst again. What goes beyond the bound is forgiven, so set it no
    /// lower than one response can add. Where bodies wait ([`Bandwidth::pace`](crate::Bandwidth::pace)), what may wait is the
    /// bound, and this means nothing.
    #[must_use]
    pub const fn max_debt(mut self, units: u32) -> Self {
        self.max_debt = Some(units);
        self
    }
}
