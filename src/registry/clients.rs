use super::{IdRule, Overrides, Registry, UnknownClients, Watcher, time::WallClock};
use crate::ManualClock;
use std::{fmt, sync::Arc, time::SystemTime};

/// The clients of a registry: who may be one, what becomes of those that are not there, and changes to those that are.
///
/// A limiter counts by it after [`LimiterBuilder::clients`](crate::LimiterBuilder::clients). Clones are for the same
/// registry.
///
/// ```
/// use tidegate::{ClientPatch, Clients, MemoryRegistry};
///
/// # async fn example() -> Result<(), tidegate::RegistryError> {
/// let clients = Clients::new(MemoryRegistry::new());
/// let record = clients.set("service-a", ClientPatch::new().tier("premium")).await?;
/// assert_eq!(record.tier(), "premium");
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Clone)]
pub struct Clients {
    pub(crate) registry: Arc<dyn Registry>,
    pub(super) ids: IdRule,
    pub(super) clock: WallClock,
    pub(super) unknown: UnknownClients,
    pub(super) fallback: Option<String>,
    pub(super) overrides: Option<Overrides>,
}

impl Clients {
    /// The clients of a registry. Unknown ones are [created](UnknownClients::create), unless set.
    pub fn new(registry: impl Registry) -> Self {
        Self {
            registry: Arc::new(registry),
            ids: IdRule::default(),
            clock: WallClock::System,
            unknown: UnknownClients::create(),
            fallback: None,
            overrides: None,
        }
    }

    /// Which texts may be ids.
    #[must_use]
    pub fn ids(mut self, ids: IdRule) -> Self {
        self.ids = ids;
        self
    }

    /// What becomes of requests with an id that is not in the registry.
    #[must_use]
    pub fn unknown(mut self, unknown: UnknownClients) -> Self {
        self.unknown = unknown;
        self
    }

    /// The client whom requests without an id are counted for, such as `legacy-default`, until all senders have one. It
    /// is created, in the tier `default`, unless it is there.
    ///
    /// Its uses are counted, and at most once a minute a warning tells how many there were. Without a fallback such
    /// requests are counted for [`Identity::anonymous`](crate::Identity::anonymous), or refused, as the source says.
    #[must_use]
    pub fn fallback(mut self, id: impl Into<String>) -> Self {
        self.fallback = Some(id.into());
        self
    }

    /// Lets some clients bring other limits along with a request.
    #[must_use]
    pub fn overrides(mut self, overrides: Overrides) -> Self {
        self.overrides = Some(overrides);
        self
    }

    /// Dates records by a clock that only moves when it is told to, beginning at 2026-01-01. A limiter that was built with
    /// such a clock takes its own.
    #[must_use]
    pub fn clock(mut self, clock: ManualClock) -> Self {
        self.clock = WallClock::Manual(clock);
        self
    }

    /// Calls `watcher` after each change.
    pub(crate) fn watch(&self, watcher: Watcher) {
        self.registry.watch(watcher);
    }

    /// The time of day, as records are dated.
    pub fn now(&self) -> SystemTime {
        self.clock.now()
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients")
            .field("ids", &self.ids)
            .field("unknown", &self.unknown)
            .field("fallback", &self.fallback)
            .finish_non_exhaustive()
    }
}
