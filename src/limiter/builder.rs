use super::{Engine, Grants, Inner, Limiter};
use crate::{
    BuildError, Clients, ManualClock, Mistake, Observe, Policy,
    clock::Timeline,
    key::Keys,
    policy::Compiled,
    registry::Office,
    store::{Memory, Store},
};
use std::{fmt, sync::Arc};

/// The memory that counting takes unless set: 4 MiB, for 130,000 clients with one limit each.
const DEFAULT_BYTES: usize = 4 << 20;

/// Settings of a limiter before it is built.
#[must_use]
pub struct LimiterBuilder {
    policy: Policy,
    bytes: usize,
    clock: Option<ManualClock>,
    store: Option<Arc<dyn Store>>,
    secret: Option<[u8; 16]>,
    observers: Vec<Arc<dyn Observe>>,
    plain_addresses: bool,
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
            observers: Vec::new(),
            plain_addresses: false,
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

    /// Looks the clients of [registered](crate::Source::registered) sources up in a registry.
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

    /// Checks everything and takes the memory.
    ///
    /// # Errors
    ///
    /// If the policy or a setting has a mistake; the error names all of them.
    pub fn build(self) -> Result<Limiter, BuildError> {
        let secret = self.secret.map_or_else(random, Ok).map_err(BuildError::one)?;
        let keys = Keys::new(secret);
        let mut mistakes = Vec::new();
        let policy = Compiled::new(&self.policy, &keys, &mut mistakes);
        let office = self.clients.map(|clients| {
            let clients = self.clock.iter().fold(clients, |clients, clock| clients.clock(clock.clone()));
            Office::new(clients, &mut mistakes)
        });
        if office.is_none() && policy.has_registered {
            let reason =
                "a source is registered, and there is no registry; set one with `.clients(..)`".to_owned();
            mistakes.push(Mistake::Setting { setting: "Source::registered", reason });
        }
        let timeline = self.clock.map_or_else(Timeline::system, Timeline::manual);
        let engine = match self.store {
            Some(store) => Ok(Engine::Remote(store, timeline)),
            None => memory(self.bytes, timeline, &policy).map(Engine::Memory),
        };
        let engine = match engine {
            Ok(engine) if mistakes.is_empty() => engine,
            engine => {
                mistakes.extend(engine.err());
                return Err(BuildError::new(mistakes));
            }
        };
        let grants = office.map(|office| Grants::new(office, keys.clone(), &policy));
        let inner = Inner {
            policy,
            keys,
            engine,
            grants,
            observers: self.observers,
            plain_addresses: self.plain_addresses,
            warned_anonymous: false.into(),
            warned_proxy: false.into(),
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

/// Memory for the limits of a policy.
fn memory(bytes: usize, timeline: Timeline, policy: &Compiled) -> Result<Memory, Mistake> {
    let mistake = |reason| Mistake::Setting { setting: "memory_bytes", reason };
    let shared = policy.shared_limits();
    let least = Memory::min_bytes(policy.limits.len(), shared);
    if bytes < least {
        return Err(mistake(format!("{bytes} bytes are too few for this policy; set {least} at least")));
    }
    Memory::new(timeline, bytes, shared)
        .map_err(|error| mistake(format!("{bytes} bytes are not to be had ({error}); set fewer")))
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
