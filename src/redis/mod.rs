//! Counting in Redis or Valkey, so that one policy holds across many machines.

mod access;
mod call;
mod failure;
mod holdings;
mod keeper;
mod line;
mod link;
mod names;
mod numbers;
mod refusals;
mod script;
mod servers;
mod settings;
mod tenant;
mod timing;

pub use numbers::RedisStatus;
pub use settings::RedisBuilder;

use crate::{
    Charge, Joining, Lease, Mistake, Occupied, OccupiedFuture, Reading, Slot, Store, StoreError, StoreFuture,
};
use call::{Answer, Call, Stay};
use failure::Failure;
use keeper::Member;
use link::{Link, State};
use settings::Address;
use std::{
    fmt,
    future::ready,
    sync::{Arc, OnceLock},
    task::{Context, Waker},
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
    task: OnceLock<Task>,
}

/// The task that keeps the connections, and the runtime that it runs in.
struct Task {
    runtime: Handle,
    keeper: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.keeper.abort();
        }
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

    fn of(link: Link) -> Self {
        Self { shared: Arc::new(Shared { link: Arc::new(link), task: OnceLock::new() }) }
    }

    /// Waits until Redis was joined. Requests need not: until then they are what their limits say for a store that is down.
    ///
    /// # Errors
    ///
    /// If instances with another secret count under this prefix, or no limiter counts in the store yet.
    pub async fn ready(&self) -> Result<(), StoreError> {
        if self.shared.task.get().is_none() {
            let why = "no limiter counts in it yet; build one on it first";
            return Err(StoreError::new(Failure::NotSent(why.into())));
        }
        let mut state = self.shared.link.state();
        let decided = |state: &State| matches!(state, State::Up(_) | State::Barred(_));
        match state.wait_for(decided).await.as_deref() {
            Ok(State::Barred(failure)) => Err(StoreError::new(failure.clone())),
            _ => Ok(()),
        }
    }

    /// How Redis is reached, and how calls went.
    pub fn status(&self) -> RedisStatus {
        let link = &self.shared.link;
        link.numbers.status(link.wires().is_ok(), link.refusals.answered(), link.holdings.numbers())
    }

    /// A call on its way, unless nothing is sent now.
    fn asking(
        &self,
        charges: Vec<Charge>,
    ) -> Result<impl Future<Output = Result<Vec<Reading>, Failure>> + Send + use<>, Failure> {
        let link = self.shared.link.clone();
        let wires = link.wires()?;
        // Whoever waits may do so in another runtime, or in none.
        let _runtime = self.shared.task.get().map(|task| task.runtime.enter());
        let asking = link.ask(wires, Arc::new(Call::charges(charges)));
        Ok(async move { asking.await.map(|answer| answer.readings) })
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
        let runtime = self.shared.task.get().map(|task| task.runtime.clone());
        let runtime = runtime.ok_or_else(|| Failure::NotSent("no limiter counts in it yet".into()))?;
        let name = link.holdings.name();
        let stay = Stay { slots, member: link.holdings.member(name), life: link.holdings.life };
        let call = Arc::new(Call { charges, stay: Some(stay) });
        let asking = {
            let _runtime = runtime.enter();
            link.clone().ask(wires, call.clone())
        };
        Ok(async move {
            let mut tenant = Tenant::asks(link, runtime, name, call.slots());
            let answer = asking.await;
            if !answer.as_ref().is_err_and(Failure::is_unsure) {
                tenant.settles(|number| answer.as_ref().is_ok_and(|answer| answer.takes(&call, number)));
            }
            let Answer { slots, readings } = answer?;
            Ok(Occupied { slots, readings, lease: Some(Lease::new(tenant)) })
        })
    }

    /// Starts what keeps the connections.
    fn start(&self, joining: Joining, runtime: Handle, member: Member) -> Result<(), Mistake> {
        let link = self.shared.link.clone();
        link.refusals.settled(joining.settled_limits());
        if link.host.set(joining).is_err() {
            return Err(wrong("store", "a limiter counts in it already; build a store for each limiter"));
        }
        let keeper = runtime.spawn(keeper::keep(link, member)).abort_handle();
        // Only one limiter comes this far.
        let _ = self.shared.task.set(Task { runtime, keeper });
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
        self.start(joining, runtime, Member { fingerprint, name })
    }

    fn instances(&self) -> u32 {
        self.shared.link.numbers.instances().max(1)
    }

    fn known(&self, charges: &[Charge]) -> Option<Vec<Reading>> {
        self.shared.link.refusals.look(charges)
    }

    fn charge(&self, charges: Vec<Charge>) -> StoreFuture {
        let link = &self.shared.link;
        match self.asking(charges) {
            Ok(asking) => Box::pin(async move { asking.await.map_err(StoreError::new) }),
            Err(failure) => {
                link.numbers.failed(&failure);
                Box::pin(ready(Err(StoreError::new(failure))))
            }
        }
    }

    fn occupy(&self, slots: Vec<Slot>, charges: Vec<Charge>) -> Option<OccupiedFuture> {
        Some(match self.occupying(slots, charges) {
            Ok(occupying) => Box::pin(async move { occupying.await.map_err(StoreError::new) }),
            Err(failure) => {
                self.shared.link.numbers.failed(&failure);
                Box::pin(ready(Err(StoreError::new(failure))))
            }
        })
    }

    /// Sent at once, so that a charge that follows finds it done; nobody waits for the answer.
    fn settle(&self, charges: Vec<Charge>) {
        let link = self.shared.link.clone();
        let (Some(task), Ok(asking)) = (self.shared.task.get(), self.asking(charges)) else {
            return link.numbers.lost();
        };
        if link.numbers.is_crowded() {
            return link.numbers.lost();
        }
        let mut settling = Box::pin(async move {
            if asking.await.is_err() {
                link.numbers.lost();
            }
        });
        if settling.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            task.runtime.spawn(settling);
        }
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
