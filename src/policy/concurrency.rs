//! How many requests at once.

use super::{Rule, Shares, StoreDown};
use crate::{
    Key, Mistake, Place,
    key::{Keys, Material},
    response,
};
use std::time::Duration;

/// A named limit on how many requests run at once, and who shares it.
///
/// A request holds its permit from before it is counted until its response's body has been sent or is dropped, whoever
/// goes away first. It takes all the permits that it needs together or none.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Concurrency, Limit, Limiter, Policy, Quota, Rule};
///
/// # fn main() -> Result<(), tidegate::BuildError> {
/// let exports = Rule::new("exports")
///     .route("/export")
///     .limit(Limit::per_client("exports", Quota::per_hour(20)))
///     .concurrency(Concurrency::per_client("exports-at-once", 2))
///     .concurrency(Concurrency::shared("all-exports", 10).wait(5, Duration::from_secs(10)));
/// let limiter = Limiter::builder(Policy::new().rule(exports)).timer(tokio::time::sleep).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Concurrency {
    pub(crate) name: String,
    pub(crate) max: u32,
    pub(crate) shares: Shares,
    pub(crate) queue: Option<(u32, Duration)>,
    pub(crate) granted: bool,
    pub(crate) per_instance: bool,
    pub(crate) store_down: StoreDown,
}

impl Concurrency {
    /// Each client may have so many requests under this rule at once.
    pub fn per_client(name: impl Into<String>, max: u32) -> Self {
        Self::new(name, max, Shares::Nobody)
    }

    /// Each client may have so many requests at once on each route.
    ///
    /// Routes are told apart as by [`Limit::per_client_and_route`](crate::Limit::per_client_and_route).
    pub fn per_client_and_route(name: impl Into<String>, max: u32) -> Self {
        Self::new(name, max, Shares::NobodyOnOneRoute)
    }

    /// All clients together may have so many requests under this rule at once.
    pub fn shared(name: impl Into<String>, max: u32) -> Self {
        Self::new(name, max, Shares::All)
    }

    fn new(name: impl Into<String>, max: u32, shares: Shares) -> Self {
        let (name, store_down) = (name.into(), StoreDown::Deny);
        Self { name, max, shares, queue: None, granted: false, per_instance: false, store_down }
    }

    /// Registered clients may have as many requests at once as they were granted with `max_concurrent`, instead of this
    /// number. The rule's source must be [registered](crate::Source::registered).
    #[must_use]
    pub const fn granted(mut self) -> Self {
        self.granted = true;
        self
    }

    /// Each instance lets so many run at once, whatever runs on others: for what is an instance's own, such as its memory.
    ///
    /// Unless it is set, all instances whose store counts permits too ([`Store::occupy`](crate::Store::occupy)) let so many
    /// run together. It means nothing where counting is in memory.
    #[must_use]
    pub const fn per_instance(mut self) -> Self {
        self.per_instance = true;
        self
    }

    /// What becomes of requests while the store that permits are counted in cannot decide; they are refused with 503 unless
    /// set. With [`StoreDown::Local`] each instance lets its part run at once, and at least one; with [`StoreDown::Allow`] as
    /// many as the limit says.
    #[must_use]
    pub const fn store_down(mut self, store_down: StoreDown) -> Self {
        self.store_down = store_down;
        self
    }

    /// Beyond the limit requests wait, up to `queue` of each client and no longer than `patience`, instead of being refused
    /// at once. It needs a [`timer`](crate::LimiterBuilder::timer).
    ///
    /// Clients are served in turn, and each client's requests as they came. A request that waits holds no permit and has
    /// been charged nothing; it waits in the response's future, and leaves the line when that is dropped. Under
    /// several limits it waits if all those that are reached let it, as long as the least patient of them says.
    ///
    /// Where a store counts for many instances, as many as may run at once on one instance look twenty times a second
    /// whether others have left room, and only those behind them are in the queue; turns are taken within an instance.
    #[must_use]
    pub const fn wait(mut self, queue: u32, patience: Duration) -> Self {
        self.queue = Some((queue, patience));
        self
    }
}

/// A limit on concurrency without mistakes.
#[derive(Debug)]
pub(crate) struct CompiledConcurrency {
    pub(crate) name: String,
    /// The name as a String of RFC 9651 and of JSON.
    pub(crate) quoted: String,
    pub(crate) rule: usize,
    /// The number under which its permits are counted.
    pub(crate) slot: u32,
    pub(crate) shares: Shares,
    /// What its keys are made from.
    key: Key,
    /// How many at once, to begin with.
    pub(crate) max: u32,
    /// Whether registered clients have a maximum of their own.
    pub(crate) granted: bool,
    pub(crate) queue: u32,
    /// How long a request waits, if any may.
    pub(crate) patience: Duration,
    /// Whether each instance counts by itself, even if there is a store for all.
    pub(crate) per_instance: bool,
    pub(crate) store_down: StoreDown,
}

impl CompiledConcurrency {
    pub(super) fn compile(
        number: usize,
        slot: u32,
        rule: &Rule,
        concurrency: &Concurrency,
        keys: &Keys,
    ) -> Result<Self, Mistake> {
        let Concurrency { name, max, shares, queue, granted, per_instance, store_down } = concurrency;
        check(&rule.name, name, *max)?;
        let (queue, patience) = match *queue {
            Some((0, _)) => {
                return Err(mistake(
                    &rule.name,
                    name,
                    "nobody may wait; give a queue of 1 at least, or no wait",
                ));
            }
            Some((_, Duration::ZERO)) => {
                return Err(mistake(&rule.name, name, "nobody may wait for any time; give some, or no wait"));
            }
            queue => queue.unwrap_or_default(),
        };
        Ok(Self {
            name: name.clone(),
            quoted: response::quoted(name),
            rule: number,
            slot,
            shares: *shares,
            key: keys.key(Material::Permit, &[name.as_bytes()]),
            max: *max,
            granted: *granted,
            queue,
            patience,
            per_instance: *per_instance,
            store_down: *store_down,
        })
    }

    /// Where a store keeps the permits under one of its keys, and the limit's name there.
    pub(crate) fn place(&self, key: Key) -> (Place, u64) {
        let place = match self.shares {
            Shares::All => Place::Shared(0),
            // Keys are pairs, of which this is the other half.
            Shares::Nobody | Shares::NobodyOnOneRoute => Place::Client(key.and(self.key)),
        };
        (place, self.key.hi)
    }

    /// Where the permits of a client, or of all, are counted.
    pub(crate) const fn key(&self, client: Key) -> Key {
        match self.shares {
            Shares::All => self.key,
            Shares::Nobody | Shares::NobodyOnOneRoute => client.and(self.key),
        }
    }

    /// Whether so many at once can be.
    pub(crate) fn check(&self, rule: &str, max: u32) -> Result<(), Mistake> {
        check(rule, &self.name, max)
    }
}

fn check(rule: &str, limit: &str, max: u32) -> Result<(), Mistake> {
    match max {
        0 => Err(mistake(rule, limit, "none at once admits nobody; allow 1 at least, or block the clients")),
        _ => Ok(()),
    }
}

fn mistake(rule: &str, limit: &str, reason: &str) -> Mistake {
    Mistake::Concurrency { rule: rule.to_owned(), limit: limit.to_owned(), reason: reason.to_owned() }
}
