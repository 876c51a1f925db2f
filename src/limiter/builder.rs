use super::{
    Engine, Grants, Inner, Limiter, Remote, Succession,
    room::{DEFAULT_CLIENTS, memory, missing_registry, missing_timer, permits},
    timer::{Sleep, Timer},
};
use crate::{
    BuildError, Clients, Event, Joining, ManualClock, Mistake, Observe, Op, Place, Policy, StoreDown,
    ban::Bans,
    clock::Timeline,
    key::Keys,
    observe::{Meters, tell},
    policy::{Compiled, CompiledLimit},
    registry::Office,
    store::{Memory, Store},
};
#[cfg(feature = "redis")]
use crate::{
    key::{Key, Material},
    store::Former,
};
use sha2::{Digest as _, Sha256};
use std::{fmt, sync::Arc, time::Duration};

/// The memory that counting takes unless set: 4 MiB, for 130,000 clients with one limit each.
const DEFAULT_BYTES: usize = 4 << 20;

/// So many clients and limits on concurrency in use at once, unless set: about 0.8 MB.
const DEFAULT_HOLDERS: usize = 16_384;
/// So many requests that wait, unless set: about 0.2 MB.
const DEFAULT_WAITERS: usize = 1_024;

/// Settings of a limiter before it is built.
#[must_use]
pub struct LimiterBuilder {
    policy: Policy,
    bytes: usize,
    clock: Option<ManualClock>,
    store: Option<Arc<dyn Store>>,
    secret: Option<[u8; 16]>,
    #[cfg(feature = "redis")]
    former: Option<[u8; 16]>,
    observers: Vec<Arc<dyn Observe>>,
    plain_addresses: bool,
    timer: Option<Timer>,
    holders: usize,
    waiters: usize,
    clients: Option<Clients>,
}

impl LimiterBuilder {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            bytes: DEFAULT_BYTES,
            clock: None,
            store: None,
            secret: None,
            #[cfg(feature = "redis")]
            former: None,
            observers: Vec::new(),
            plain_addresses: false,
            timer: None,
            holders: DEFAULT_HOLDERS,
            waiters: DEFAULT_WAITERS,
            clients: None,
        }
    }

    /// How many bytes counting may take; 4 MiB unless set. They are taken at the start, and never more.
    ///
    /// A client takes 32 bytes for each of its limits. When all is taken, the newcomer gets the place of whoever owes
    /// least of those who could make room, and [`Limiter::evicted`] counts it.
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Counts by a clock that only moves when it is told to. With a store of your own, which has its own clock, it only
    /// tells how old decisions are that are given back.
    pub fn clock(mut self, clock: ManualClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Counts in a store of your own instead of in memory.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// The secret of the keyed hash that clients become; random unless set, which is right for counting in memory.
    ///
    /// Limiters that share a store need one and the same.
    pub fn secret(mut self, secret: [u8; 16]) -> Self {
        self.secret = Some(secret);
        self
    }

    /// The secret before this one, while instances that share a store change from one to the other: all is counted by both.
    ///
    /// First all instances are started with both, one after the other; then, when what was owed meanwhile has drained, with the new
    /// one alone. Who comes too early with that is kept out and told how long it takes.
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub fn former_secret(mut self, secret: [u8; 16]) -> Self {
        self.former = Some(secret);
        self
    }

    /// Looks the clients of [registered](crate::Source::registered) sources up in a registry.
    ///
    /// A table for what most requests need of them is taken at the start: 16 bytes for each client and limit that there is
    /// memory for, rounded up to a power of two, 8 MiB at most; 2 MiB unless set.
    pub fn clients(mut self, clients: Clients) -> Self {
        self.clients = Some(clients);
        self
    }

    /// Tells `observer` what happens, beside the `tracing` events that are always there.
    pub fn observe(mut self, observer: impl Observe) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Writes client addresses into logs and events as they are, instead of fingerprints. Secrets are never written.
    pub fn plain_addresses(mut self) -> Self {
        self.plain_addresses = true;
        self
    }

    /// What wakes requests that have [waited](crate::Concurrency::wait) long enough: a function that makes a future which is
    /// ready after a time, such as `tokio::time::sleep`.
    pub fn timer<F>(mut self, timer: impl Fn(Duration) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.timer = Some(Arc::new(move |time| -> Sleep { Box::pin(timer(time)) }));
        self
    }

    /// How many clients and limits on concurrency (each limit of each client is one) may have requests running or
    /// waiting at the same time; 16,384 unless set. A request that is one too many gets a 503.
    ///
    /// Where a policy has limits on concurrency, the memory for them is taken at the start, and never more:
    /// about 50 bytes for each.
    pub fn max_in_flight(mut self, holders: usize) -> Self {
        self.holders = holders;
        self
    }

    /// How many requests may wait for permits at the same time, of all clients; 1,024 unless set. A request that is one
    /// too many gets a 503, and so does one of a client of which more wait for the same than there is room left. Each takes
    /// about 90 bytes, and 70 more for each limit on concurrency in the policy.
    pub fn max_waiting(mut self, requests: usize) -> Self {
        self.waiters = requests;
        self
    }

    /// Checks everything and takes the memory.
    ///
    /// # Errors
    ///
    /// If the policy or a setting has a mistake; the error names all of them.
    pub fn build(self) -> Result<Limiter, BuildError> {
        let secret = self.secret.map_or_else(random, Ok).map_err(BuildError::one)?;
        let keys = Keys::new(secret);
        let mut mistakes = Vec::new();
        #[cfg(feature = "redis")]
        if self.former.is_some() && (self.secret.is_none() || self.former == self.secret) {
            let reason =
                "there is no other secret to change to; set the new one with `.secret(..)`".to_owned();
            mistakes.push(Mistake::Setting { setting: "former_secret", reason });
        }
        #[cfg(feature = "redis")]
        let keys = keys.with_former(self.former.map(Keys::new));
        let policy = Compiled::new(&self.policy, None, &keys, self.store.is_none(), &mut mistakes);
        let permits = permits(&policy, None, self.timer.is_some(), (self.holders, self.waiters));
        mistakes.extend(missing_timer(&policy, self.timer.is_some()));
        let office = self.clients.map(|clients| {
            let clients = self.clock.iter().fold(clients, |clients, clock| clients.clock(clock.clone()));
            Office::new(clients, &mut mistakes)
        });
        mistakes.extend(missing_registry(&policy, office.is_some()));
        let timeline = || self.clock.clone().map_or_else(Timeline::system, Timeline::manual);
        let engine = match self.store {
            Some(store) => remote(store, timeline, self.bytes, &policy).map(Engine::Remote),
            None => memory(self.bytes, timeline(), &policy).map(Engine::Memory),
        };
        let (engine, permits) = match (engine, permits) {
            (Ok(engine), Ok(permits)) if mistakes.is_empty() => (engine, permits),
            (engine, permits) => {
                mistakes.extend(engine.err().into_iter().chain(permits.err()));
                return Err(BuildError::new(mistakes));
            }
        };
        let observers: Arc<[Arc<dyn Observe>]> = self.observers.into();
        if let Engine::Remote(remote) = &engine {
            let observers = observers.clone();
            let fingerprint = self.secret.map(fingerprint);
            let settled = policy.limits.iter().filter(|limit| limit.settle.is_some());
            let settled = settled.map(|limit| limit.id).collect();
            let leased = policy.limits.iter().filter_map(|limit| Some((limit.id, limit.leased?))).collect();
            let joining = Joining::new(fingerprint, settled, leased, move |change| {
                tell(&observers, &Event::Store(change), None)
            });
            let joining = joining.window(longest_window(&policy));
            #[cfg(feature = "redis")]
            let joining = joining.with_former(self.former.map(|secret| former(secret, &policy)));
            remote.store.join(joining).map_err(BuildError::one)?;
        }
        let bans = policy.ban.map(|(terms, clients)| Bans::new(terms, clients));
        let clients = engine.memory().map_or(DEFAULT_CLIENTS, Memory::capacity);
        let grants = office.map(|office| Grants::new(Arc::new(office), keys.clone(), &policy, clients));
        let meters = Meters::new(policy.rules.iter().map(|rule| rule.name.as_str()));
        let inner = Inner {
            policy,
            keys,
            engine,
            permits,
            bans,
            room: (self.holders, self.waiters),
            timer: self.timer,
            grants,
            observers,
            meters,
            plain_addresses: self.plain_addresses,
            warned_anonymous: false.into(),
            warned_proxy: false.into(),
            succession: Succession::default(),
        };
        Ok(Limiter { inner: Arc::new(inner) })
    }
}

impl fmt::Debug for LimiterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimiterBuilder")
            .field("policy", &self.policy)
            .field("bytes", &self.bytes)
            .field("clock", &self.clock)
            .field("plain_addresses", &self.plain_addresses)
            .finish_non_exhaustive()
    }
}

/// A store elsewhere, with memory for the limits that are counted here while it is down.
fn remote(
    store: Arc<dyn Store>,
    timeline: impl Fn() -> Timeline,
    bytes: usize,
    policy: &Compiled,
) -> Result<Remote, Mistake> {
    let has_local = policy.limits.iter().any(|limit| limit.store_down == StoreDown::Local);
    let local = has_local.then(|| memory(bytes, timeline(), policy)).transpose()?;
    Ok(Remote { store, timeline: Arc::new(timeline()), local, bytes })
}

/// The longest time that anything is owed.
fn longest_window(policy: &Compiled) -> Duration {
    let window = |limit: &CompiledLimit| {
        let rate = limit.quota.rate();
        limit.charge(rate, Place::Shared(0), Op::Clear, false).most_ns()
    };
    Duration::from_nanos(policy.limits.iter().map(window).max().unwrap_or(0))
}

/// What limits are called by a former secret.
#[cfg(feature = "redis")]
fn former(secret: [u8; 16], policy: &Compiled) -> Former {
    let keys = Keys::new(secret);
    let rates = policy.limits.iter().map(|limit| {
        let name = limit.words.name.as_bytes();
        (limit.id, keys.key(Material::Limit, &[name]).lo)
    });
    let permits = policy.concurrency.iter().map(|limit| {
        let name = limit.name.as_bytes();
        (limit.place(Key::default()).1, keys.key(Material::Permit, &[name]).hi)
    });
    Former { fingerprint: fingerprint(secret), limits: rates.chain(permits).collect() }
}

/// By what a secret can be told from others, and not be found out.
fn fingerprint(secret: [u8; 16]) -> String {
    let digest = Sha256::new().chain_update(b"tidegate secret ").chain_update(secret).finalize();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn random() -> Result<[u8; 16], Mistake> {
    let mut secret = [0; 16];
    match getrandom::fill(&mut secret) {
        Ok(()) => Ok(secret),
        Err(error) => Err(Mistake::Setting {
            setting: "secret",
            reason: format!("the system gave no random bytes ({error}); set one"),
        }),
    }
}
