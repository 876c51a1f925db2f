//! Counting in Redis or Valkey, so that one policy holds across many machines.

mod access;
mod advance;
mod call;
mod dial;
mod ear;
mod failure;
mod holdings;
mod keeper;
mod leases;
mod line;
mod link;
mod names;
mod numbers;
mod pause;
mod refusals;
mod registry;
mod resets;
mod rotation;
mod script;
mod servers;
mod settings;
mod shards;
mod split;
mod tenant;
mod timing;
mod wires;

pub use numbers::RedisStatus;
pub use registry::RedisRegistry;
pub use settings::RedisBuilder;

use crate::{
    Charge, Joining, Lease, Mistake, Occupied, OccupiedFuture, Reading, Slot, Store, StoreError, StoreFuture,
};
use call::{Answer, Stay};
use failure::Failure;
use keeper::Member;
use link::{Link, State};
use rotation::Rotation;
use servers::Servers;
use settings::Address;
use std::{
    fmt,
    future::ready,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tenant::Tenant;
use tokio::{runtime::Handle, task::AbortHandle};

/// Counts in Redis (6 or newer) or Valkey (7 or newer), together with all other instances that count there.
///
/// All limits of a request are decided in one round trip, by the server's clock. Instances need one and the same
/// [secret](crate::LimiterBuilder::secret); one with another secret is kept out. What becomes of requests while Redis
/// cannot be asked is up to each limit: see [`StoreDown`](crate::StoreDown).
///
/// ```no_run
/// use tidegate::{Limiter, Policy, Quota, RedisStore};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let secret = [0; 16];
/// let store = RedisStore::builder("redis://127.0.0.1:6379").build()?;
/// let policy = Policy::per_client(Quota::per_minute(100));
/// let limiter = Limiter::builder(policy).secret(secret).store(store.clone()).build()?;
/// // Optional: requests may come before Redis is there.
/// store.ready().await?;
/// # Ok(())
/// # }
/// ```
///
/// The limiter must be built within a tokio runtime. Clones share everything.
#[derive(Clone)]
pub struct RedisStore {
    shared: Arc<Shared>,
}

struct Shared {
    link: Arc<Link>,
    herald: Servers,
    /// What keeps the connections, and what hears of others.
    tasks: OnceLock<[AbortHandle; 2]>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.link.give_units(self.link.leases.close());
        self.tasks.get().into_iter().flatten().for_each(AbortHandle::abort);
    }
}

impl RedisStore {
    /// A store at a URL: `redis://host:6379/0`, `redis://user:password@host`, `rediss://host` (TLS, with feature `redis-tls`),
    /// or `redis+unix:///path/to/socket`.
    pub fn builder(url: impl Into<String>) -> RedisBuilder {
        RedisBuilder::new(Address::Url(url.into()))
    }

    /// A store at the primary of a name, which sentinels know: `redis://host:26379` each. When another server takes over, it is
    /// found again; what clients spent in the moments that were not replicated is forgotten.
    pub fn sentinels(
        name: impl Into<String>,
        urls: impl IntoIterator<Item = impl Into<String>>,
    ) -> RedisBuilder {
        let urls = urls.into_iter().map(Into::into).collect();
        RedisBuilder::new(Address::Sentinels { name: name.into(), urls })
    }

    /// A store in a cluster, some of whose nodes are named: `redis://host:6379` each. The others, and who has which keys, are
    /// found out from them, and again when that changes. All nodes are entered by the login and TLS of the first one.
    ///
    /// All limits of a client lie with one node, and those that clients share each with one. A request with several is
    /// decided by one after the other, within one deadline: what is shared is reserved first, and given back where a later
    /// one refuses.
    pub fn cluster(urls: impl IntoIterator<Item = impl Into<String>>) -> RedisBuilder {
        RedisBuilder::new(Address::Cluster { urls: urls.into_iter().map(Into::into).collect() })
    }

    /// `herald` is the same server, or the same servers, entered to be told what others do.
    fn of(link: Link, herald: Servers) -> Self {
        Self { shared: Arc::new(Shared { link: Arc::new(link), herald, tasks: OnceLock::new() }) }
    }

    /// Waits until Redis was joined. Requests need not: until then they are what their limits say for a store that is down.
    ///
    /// # Errors
    ///
    /// If instances with another secret count under this prefix, or no limiter counts in the store yet.
    pub async fn ready(&self) -> Result<(), StoreError> {
        if self.shared.tasks.get().is_none() {
            let why = "no limiter counts in it yet; build one on it first";
            return Err(Failure::NotSent(why.into()).into());
        }
        let mut state = self.shared.link.state();
        let decided = |state: &State| matches!(state, State::Up(_) | State::Barred(_));
        match state.wait_for(decided).await.as_deref() {
            Ok(State::Barred(failure)) => Err(failure.clone().into()),
            _ => Ok(()),
        }
    }

    /// Gives back the units that this instance holds in advance at [leased](crate::Limit::leased) limits, and takes no more; to be
    /// awaited before it ends. Requests may go on, and ask Redis each time.
    ///
    /// Units of an instance that ends without this count as spent, unless the runtime goes on for long enough to send them.
    pub async fn leave(&self) {
        let link = &self.shared.link;
        link.give_units(link.leases.close());
        // Each call ends within its deadline. Requests may go on for ever.
        let start = tokio::time::Instant::now();
        while link.numbers.in_flight() > 0 && start.elapsed() < 2 * link.timing.deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// How Redis is reached, and how calls went.
    pub fn status(&self) -> RedisStatus {
        let link = &self.shared.link;
        let (known, permits) = (link.refusals.answered(), link.holdings.numbers());
        link.numbers.status(link.wires().is_ok(), known, permits, link.leases.numbers())
    }

    /// A call on its way, unless nothing is sent now.
    fn asking(
        &self,
        charges: Vec<Charge>,
    ) -> Result<impl Future<Output = Result<Vec<Reading>, Failure>> + Send + use<>, Failure> {
        let link = &self.shared.link;
        let (mut charges, wires) = (charges, link.wires()?);
        let twins = link.rotation.get().map_or_else(Vec::new, |rotation| rotation.charges(&mut charges));
        let (asking, _) = link.lease(wires, charges, None);
        Ok(async move { asking.await.map(|answer| rotation::readings(answer.readings, &twins)) })
    }

    /// A call for slots too. What it may have taken is given back with what it answers with, or with the call itself where
    /// nobody waits for its end.
    fn occupying(
        &self,
        slots: Vec<Slot>,
        charges: Vec<Charge>,
    ) -> Result<impl Future<Output = Result<Occupied, Failure>> + Send + use<>, Failure> {
        let link = self.shared.link.clone();
        let wires = link.wires()?;
        let name = link.holdings.name();
        let (mut slots, mut charges) = (slots, charges);
        let (twin_slots, twins) = link.rotation.get().map_or_else(Default::default, |rotation| {
            (rotation.slots(&mut slots), rotation.charges(&mut charges))
        });
        let stay = Stay { slots, member: link.holdings.member(name), life: link.holdings.life };
        let (asking, call) = link.lease(wires, charges, Some(stay));
        Ok(async move {
            let mut tenant = Tenant::asks(link, name, call.slots());
            let answer = asking.await;
            if !answer.as_ref().is_err_and(Failure::is_unsure) {
                tenant.settles(|number| answer.as_ref().is_ok_and(|answer| answer.takes(&call, number)));
            }
            let Answer { slots, readings, .. } = answer?;
            let (slots, readings) =
                (rotation::slots(slots, &twin_slots), rotation::readings(readings, &twins));
            Ok(Occupied { slots, readings, lease: Some(Lease::new(tenant)) })
        })
    }

    /// Starts what keeps the connections.
    fn start(&self, joining: Joining, runtime: Handle, member: Member) -> Result<(), Mistake> {
        let link = self.shared.link.clone();
        link.refusals.settled(joining.settled_limits());
        match joining.former() {
            // What is leased by one secret would be spent by the other too.
            Some(former) => drop(link.rotation.set(Rotation::new(former.clone()))),
            None => link.leases.open(joining.leased_limits()),
        }
        if link.host.set(joining).is_err() {
            return Err(wrong("store", "a limiter counts in it already; build a store for each limiter"));
        }
        // Only one limiter comes this far.
        let _ = link.runtime.set(runtime.clone());
        let listener = resets::listen(link.clone(), self.shared.herald.clone());
        let tasks = [runtime.spawn(keeper::keep(link, member)), runtime.spawn(listener)];
        let _ = self.shared.tasks.set(tasks.map(|task| task.abort_handle()));
        Ok(())
    }
}

impl Store for RedisStore {
    fn join(&self, joining: Joining) -> Result<(), Mistake> {
        let Some(fingerprint) = joining.secret_fingerprint().map(str::to_owned) else {
            let reason = "instances that share a store need one and the same; set it with `.secret(..)`, from 16 random bytes";
            return Err(wrong("secret", reason));
        };
        let Ok(runtime) = Handle::try_current() else {
            return Err(wrong("store", "Redis is reached by tokio; build the limiter within its runtime"));
        };
        let name = format!("{:016x}", fastrand::u64(..));
        let former = joining.former().map_or_else(String::new, |former| former.fingerprint.clone());
        let member = Member { fingerprint, former, window: joining.longest_window(), name };
        self.start(joining, runtime, member)
    }

    fn is_up(&self) -> bool {
        self.shared.link.wires().is_ok()
    }

    fn instances(&self) -> u32 {
        self.shared.link.numbers.instances().max(1)
    }

    fn spend(&self, charges: &[Charge]) -> Option<Vec<Reading>> {
        let link = &self.shared.link;
        let (readings, fetches) = link.leases.spend(charges)?;
        fetches.into_iter().for_each(|(charge, more)| link.fetch(charge, more));
        Some(readings)
    }

    fn known(&self, charges: &[Charge]) -> Option<Vec<Reading>> {
        self.shared.link.refusals.look(charges)
    }

    fn charge(&self, charges: Vec<Charge>) -> StoreFuture {
        let link = &self.shared.link;
        match self.asking(charges) {
            Ok(asking) => Box::pin(async move { asking.await.map_err(StoreError::from) }),
            Err(failure) => {
                link.numbers.failed(&failure);
                Box::pin(ready(Err(StoreError::from(failure))))
            }
        }
    }

    fn occupy(&self, slots: Vec<Slot>, charges: Vec<Charge>) -> Option<OccupiedFuture> {
        Some(match self.occupying(slots, charges) {
            Ok(occupying) => Box::pin(async move { occupying.await.map_err(StoreError::from) }),
            Err(failure) => {
                self.shared.link.numbers.failed(&failure);
                Box::pin(ready(Err(StoreError::from(failure))))
            }
        })
    }

    /// Sent at once, so that a charge that follows finds it done; nobody waits for the answer.
    fn settle(&self, charges: Vec<Charge>) {
        let link = self.shared.link.clone();
        let asking = if link.numbers.is_crowded() { None } else { self.asking(charges).ok() };
        let Some(asking) = asking else { return link.numbers.lost() };
        self.shared.link.set_off(async move {
            if asking.await.is_err() {
                link.numbers.lost();
            }
        });
    }
}

fn wrong(setting: &'static str, reason: &str) -> Mistake {
    Mistake::Setting { setting, reason: reason.to_owned() }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("status", &self.status()).finish_non_exhaustive()
    }
}
