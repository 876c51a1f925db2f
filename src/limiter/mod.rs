//! The only place where identity, policy and store meet.

mod admit;
mod asking;
#[cfg(feature = "pace")]
mod at_once;
mod ban;
mod banned;
mod builder;
mod charge_error;
mod charging;
mod client;
mod decision;
mod demands;
mod elsewhere;
mod engine;
mod fallback;
mod grades;
mod grants;
mod held;
mod hold;
mod line;
mod lists;
mod metered;
mod news;
#[cfg(feature = "pace")]
mod pacing;
mod readers;
mod rejected;
mod report;
mod reserve;
mod room;
mod sole;
mod succession;
mod timer;

pub(crate) use admit::Admission;
#[cfg(feature = "pace")]
pub(crate) use at_once::{AtOnce, Sender};
pub use ban::{BanError, Banned};
pub use builder::LimiterBuilder;
pub use charge_error::ChargeError;
pub use charging::{ChargeFuture, Charging};
pub use client::Client;
pub use decision::Decision;
pub(crate) use decision::{Charged, statuses};
pub(crate) use engine::{Engine, Pending, Remote, Verdict};
pub(crate) use grants::{Grants, Known};
pub(crate) use held::{Held, Permits};
pub use hold::{Hold, HoldFuture, Holding};
pub use lists::ListEntry;
#[cfg(feature = "pace")]
pub(crate) use pacing::{Barred, Paced, Question, Slowness};
pub(crate) use reserve::{Reservation, Turn};
pub(crate) use sole::Sure;
use succession::Succession;
pub(crate) use timer::Sleep;

#[cfg(feature = "metrics")]
use crate::observe::LimiterGauges;
use crate::{
    BuildError, Clients, Identity, Key, Mistake, Observe, Policy, Quota, Rejection, RequestHead,
    ban::Bans,
    event::Event,
    identity::{Identify, client_address},
    key::{Keys, Material},
    observe::Meters,
    permit,
    policy::Compiled,
    store::Memory,
};
use http::{HeaderMap, Uri};
use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, atomic::AtomicBool},
};

/// Holds clients to a policy. Clones share everything and cost one reference count.
///
/// Put its [`layer`](Self::layer) around a service, or charge by hand through a [`client`](Self::client).
///
/// ```
/// use axum::{Router, routing::get};
/// use tidegate::{Limiter, Policy, Quota};
///
/// # fn main() -> Result<(), tidegate::BuildError> {
/// let limiter = Limiter::new(Policy::per_client(Quota::per_minute(100)))?;
/// let app: Router = Router::new().route("/", get(|| async { "hello" })).layer(limiter.layer());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Limiter {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) policy: Compiled,
    pub(crate) keys: Keys,
    pub(crate) engine: Engine,
    /// Where permits are counted, if any limit is on concurrency.
    permits: Option<permit::Permits>,
    timer: Option<timer::Timer>,
    /// How many may hold permits or wait for them.
    room: (usize, usize),
    bans: Option<Bans>,
    pub(crate) grants: Option<Arc<Grants>>,
    observers: Arc<[Arc<dyn Observe>]>,
    pub(crate) meters: Meters,
    pub(crate) plain_addresses: bool,
    warned_anonymous: AtomicBool,
    warned_proxy: AtomicBool,
    /// What follows it, where it is the first of its limiter.
    succession: Succession,
}

impl Limiter {
    /// A limiter that counts in memory, with the settings that [`builder`](Self::builder) starts from.
    ///
    /// # Errors
    ///
    /// If the policy has a mistake; the error names all of them.
    pub fn new(policy: Policy) -> Result<Self, BuildError> {
        Self::builder(policy).build()
    }

    /// To set where a limiter counts, by which clock, and who is told what happens.
    pub fn builder(policy: Policy) -> LimiterBuilder {
        LimiterBuilder::new(policy)
    }

    /// The client that the policy finds in a request, to charge it by hand.
    ///
    /// It is whom the layer would charge in rules that have no source of their own.
    ///
    /// # Errors
    ///
    /// If nobody can be identified and the policy's source refuses that, or a credential is malformed.
    pub fn identify(&self, head: RequestHead<'_>) -> Result<Client, Rejection> {
        let policy = &self.now().policy;
        Ok(self.client(&policy.sources[0].identify(head, policy.proxies.as_ref())?))
    }

    /// Where a request comes from: its peer, or behind [trusted](Policy::trust_proxies) proxies the address that they say.
    /// Nothing where no peer is known.
    ///
    /// # Errors
    ///
    /// If the request has come through fewer proxies than there have to be.
    pub fn client_address(&self, head: RequestHead<'_>) -> Result<Option<IpAddr>, Rejection> {
        client_address(&head, self.now().policy.proxies.as_ref())
    }

    /// The query parameters in which clients send API keys, for whoever writes queries to a log and must leave them out.
    pub fn key_parameters(&self) -> Vec<String> {
        let named = |source: &Identify| source.key_parameters().map(str::to_owned).collect::<Vec<_>>();
        self.now().policy.sources.iter().flat_map(named).collect()
    }

    /// Takes the credentials off that the policy knows clients by, for proxies whose upstreams shall not see them: bearer
    /// tokens, and keys in fields, queries and cookies. What a closure goes by stays.
    pub fn strip_credentials(&self, uri: &mut Uri, headers: &mut HeaderMap) {
        self.now().policy.sources.iter().for_each(|source| source.strip(uri, headers));
    }

    /// A client, to charge it by hand: for each message of a WebSocket, say, or for what a query turned out to cost.
    ///
    /// The identity must be the one that the layer would find, if both are to share a quota.
    pub fn client(&self, identity: &Identity<'_>) -> Client {
        Client::new(self.clone(), identity)
    }

    /// Charges a client once; [`client`](Self::client) is for those who charge it again and again.
    ///
    /// See [`Client::charge`].
    pub fn charge<'a>(&'a self, identity: &Identity<'_>, rule: &'a str) -> Charging<'a> {
        let key = identity.key(&self.inner.keys);
        Charging::new(self, key, identity.label(key), self.inner.claimed(identity), rule)
    }

    /// The registry's clients, if there is a registry.
    pub fn clients(&self) -> Option<&Clients> {
        self.inner.grants.as_ref().map(|grants| &grants.office.clients)
    }

    /// How many requests came without a client's id and were counted for the [fallback](Clients::fallback) client.
    pub fn fallback_uses(&self) -> u64 {
        self.inner.grants.as_ref().map_or(0, |grants| grants.office.fallback_uses())
    }

    /// Puts another quota in force for a limit, from the next request on, and answers with the former one.
    ///
    /// What clients owe is carried over in units, at most one burst: nobody stays locked out after a raise, and
    /// nobody gets a fresh quota by a change.
    ///
    /// # Errors
    ///
    /// If no limit has that name, the quota cannot be counted, or a request costs more than its burst.
    pub fn set_quota(&self, limit: &str, quota: Quota) -> Result<Quota, BuildError> {
        let alone = self.inner.succession.alone();
        let policy = &self.now().policy;
        let Some(compiled) = policy.limit(limit) else {
            let known = policy.limits.iter().map(|limit| limit.words.name.clone()).collect();
            return Err(BuildError::one(Mistake::Unknown { name: limit.to_owned(), known }));
        };
        let old = compiled.set_quota(&policy.rules[compiled.rule].name, quota).map_err(BuildError::one)?;
        drop(alone);
        self.inner.emit(&Event::QuotaChanged { limit, old, new: quota });
        Ok(old)
    }

    /// Lets so many requests run at once under a limit on concurrency, from now on, and answers with the former number.
    ///
    /// Lowered, it takes nothing from who runs; raised, it lets in who waits. Whoever was granted a number of its own keeps that.
    ///
    /// # Errors
    ///
    /// If no limit on concurrency has that name, or `max` is 0.
    pub fn set_concurrency(&self, limit: &str, max: u32) -> Result<u32, BuildError> {
        let alone = self.inner.succession.alone();
        let inner = self.now();
        let policy = &inner.policy;
        let Some(number) = policy.concurrency.iter().position(|known| known.name == limit) else {
            let known = policy.concurrency.iter().map(|limit| limit.name.clone()).collect();
            return Err(BuildError::one(Mistake::Unknown { name: limit.to_owned(), known }));
        };
        let compiled = &policy.concurrency[number];
        compiled.check(&policy.rules[compiled.rule].name, max).map_err(BuildError::one)?;
        // One lock for both the number and who waits by it, so that of two changes at once one is in force everywhere.
        let revised = inner.permits.as_ref().and_then(|permits| permits.revise(compiled.slot, max));
        let old = revised.unwrap_or(compiled.max);
        drop(alone);
        self.inner.emit(&Event::ConcurrencyChanged { limit, old, new: max });
        Ok(old)
    }

    /// Whether all limits can be decided now, as far as is known: false while a store is down without which a limit
    /// [refuses](crate::StoreDown::Deny). For load balancers that ask whether requests should come here.
    pub fn is_ready(&self) -> bool {
        let inner = self.now();
        let Engine::Remote(remote) = &inner.engine else { return true };
        let policy = &inner.policy;
        let limits = policy.limits.iter().map(|limit| limit.store_down);
        let concurrency =
            policy.concurrency.iter().filter(|limit| !limit.per_instance).map(|limit| limit.store_down);
        !limits.chain(concurrency).any(|without| without == crate::StoreDown::Deny) || remote.store.is_up()
    }

    /// How many clients and limits on concurrency (each limit of each client is one) have requests running or waiting.
    pub fn in_flight(&self) -> usize {
        self.now().permits.as_ref().map_or(0, permit::Permits::keys)
    }

    /// How many requests wait for a permit.
    pub fn waiting(&self) -> usize {
        self.now().permits.as_ref().map_or(0, permit::Permits::waiting)
    }

    /// Gives back what a decision charged, once, and as far as it is still owed: what has drained since is not given back.
    /// A decision that refused charged nothing.
    ///
    /// The decision must come from this limiter; another one's is left alone.
    pub fn refund(&self, decision: &Decision) {
        if self.inner.is_of_one_limiter(&decision.inner) {
            decision.refund();
        }
    }

    /// The memory that counting takes, in bytes, all of it taken at the start; nothing where a store of your own counts.
    pub fn memory_bytes(&self) -> usize {
        self.inner.engine.memory().map_or(0, Memory::bytes)
    }

    /// The memory that permits take, in bytes, all of it taken at the start; nothing where no limit is on concurrency.
    pub fn permit_bytes(&self) -> usize {
        self.now().permits.as_ref().map_or(0, permit::Permits::bytes)
    }

    /// How many clients and limits (each limit of each client is one) are counted at the same time before newcomers
    /// may push out others that still owe; nothing where a store of your own counts.
    pub fn capacity(&self) -> usize {
        self.inner.engine.memory().map_or(0, Memory::capacity)
    }

    /// How many clients and limits (each limit of each client is one) owe anything now: about, where memory is larger than
    /// 8 MiB, because a part of it tells. Limits that all share are not among them. Nothing where a store of your own counts.
    ///
    /// It looks at up to 65,536 places, in about a millisecond: for a gauge, not for each request.
    pub fn tracked(&self) -> usize {
        self.inner.engine.memory().map_or(0, Memory::owing)
    }

    /// Sets the gauges of this limiter, under a name that tells it from others. Call it every few seconds, or before each
    /// scrape.
    #[cfg(feature = "metrics")]
    #[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
    pub fn set_gauges(&self, name: &str) {
        let (tracked, evicted) = (self.tracked(), self.evicted());
        let gauges = LimiterGauges { tracked, evicted, in_flight: self.in_flight(), waiting: self.waiting() };
        gauges.set(name);
    }

    /// How many entries that still owed had to make room for newcomers since the start. If it grows, the memory is too
    /// small for the number of clients.
    pub fn evicted(&self) -> u64 {
        self.inner.engine.memory().map_or(0, Memory::evicted)
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("rules", &self.now().policy.rules).finish_non_exhaustive()
    }
}

impl Inner {
    fn route_key(&self, route: Option<&str>) -> Key {
        match route {
            Some(route) => self.keys.key(Material::Route, &[route.as_bytes()]),
            None => self.keys.key(Material::Route, &[]),
        }
    }
}
