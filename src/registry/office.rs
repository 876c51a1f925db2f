//! How the clients of requests are found while requests come in.

use super::{
    Changed, ClientRecord, Clients, Grant, KeyHash, RegistryError,
    bounds::{Bounds, Coming},
    overrides::{self, Refused},
    time::WallClock,
    unknown::Fate,
};
use crate::{Key, Mistake, clock::Timeline};
use http::{HeaderMap, HeaderName};
use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

/// Whom a request says it is from.
#[derive(Debug, Clone)]
pub(crate) enum Who {
    Id(String),
    Secret(KeyHash),
    Nobody,
}

/// A client that may send requests, or one that may not, and what it was granted.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) record: Arc<ClientRecord>,
    /// Complete: nothing that the tier `default` says is left open.
    pub(crate) grant: Grant,
    /// Until when this holds, unless it is changed before.
    pub(crate) until: Option<SystemTime>,
    pub(crate) how: How,
}

/// How a client was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Known,
    Created,
    /// The one client that all unknown ones share.
    Shared,
    /// It is not there, and was only asked after.
    Absent,
}

/// Why no client was found.
#[derive(Debug)]
pub(crate) enum Missing {
    /// No id, and nobody to stand in.
    Nobody,
    MalformedId,
    Unknown,
    Registry(RegistryError),
}

impl From<RegistryError> for Missing {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

/// The office while requests come in.
pub(crate) struct Office {
    pub(crate) clients: Clients,
    bounds: Option<Bounds>,
    override_header: Option<HeaderName>,
    fallback: Uses,
    /// Who is told of changes; it comes and goes, while a registry is watched but once.
    followers: Arc<Followers>,
}

type Followers = RwLock<Vec<Weak<dyn Follower>>>;

/// Is told of changes to clients and tiers.
pub(crate) trait Follower: Send + Sync + 'static {
    fn changed(&self, changed: &Changed<'_>);
}

/// How often the fallback client was used, and how often that is told.
#[derive(Debug, Default)]
struct Uses {
    count: AtomicU64,
    /// In nanoseconds of the limiter's time.
    next_warning: AtomicU64,
}

const WARN_EVERY: Duration = Duration::from_secs(60);

impl Office {
    pub(crate) fn new(clients: Clients, mistakes: &mut Vec<Mistake>) -> Self {
        let mut mistake = |setting, reason| mistakes.push(Mistake::Setting { setting, reason });
        if !clients.ids.is_possible() {
            mistake(
                "Clients::ids",
                format!("no text can be an id of {}; turn the numbers round", clients.ids),
            );
        }
        if let Some(id) = clients.fallback.as_deref().filter(|id| !clients.ids.accepts(id)) {
            mistake("Clients::fallback", format!("{id:?} is no id; {} are accepted", clients.ids));
        }
        let bounds = match clients.unknown.fate {
            Fate::Create { each_address, total } => Bounds::new(each_address, total)
                .map_err(|error| mistake("UnknownClients::each_address", error.to_string()))
                .ok(),
            Fate::Refuse | Fate::Share => None,
        };
        let override_header = clients.overrides.as_ref().and_then(|overrides| overrides.compile(mistakes));
        let followers = Arc::<Followers>::default();
        // Weak, because registries outlive limiters.
        let watching = Arc::downgrade(&followers);
        clients.watch(Box::new(move |changed| {
            let Some(followers) = watching.upgrade() else { return };
            let followers = followers.read().unwrap_or_else(PoisonError::into_inner);
            followers.iter().filter_map(Weak::upgrade).for_each(|follower| follower.changed(changed));
        }));
        Self { clients, bounds, override_header, fallback: Uses::default(), followers }
    }

    /// Tells somebody of changes, for as long as it is there.
    pub(crate) fn tell_of_changes<F: Follower>(&self, follower: &Arc<F>) {
        let mut followers = self.followers.write().unwrap_or_else(PoisonError::into_inner);
        followers.retain(|follower| follower.strong_count() > 0);
        let follower: Weak<F> = Arc::downgrade(follower);
        followers.push(follower);
    }

    pub(crate) const fn has_fallback(&self) -> bool {
        self.clients.fallback.is_some()
    }

    /// The id of the client that stands in for those who do not say who they are.
    pub(crate) fn fallback(&self) -> Option<&str> {
        self.clients.fallback.as_deref()
    }

    pub(crate) fn is_fallback(&self, id: &str) -> bool {
        self.clients.fallback.as_deref() == Some(id)
    }

    /// The override that a request brings along, if it does and that can be.
    pub(crate) fn override_of(&self, headers: &HeaderMap) -> Option<Result<Grant, Refused>> {
        overrides::read(headers, self.override_header.as_ref()?)
    }

    /// Whether a client may override its limits with these.
    pub(crate) fn admit_override(
        &self,
        record: &ClientRecord,
        wanted: Result<Grant, Refused>,
    ) -> Result<Grant, Refused> {
        let Some(overrides) = &self.clients.overrides else { return Err(Refused::Client) };
        overrides.admit(record, wanted)
    }

    /// Whether a client may override any limit.
    pub(crate) fn may_override(&self, record: &ClientRecord) -> bool {
        self.clients.overrides.as_ref().is_some_and(|overrides| overrides.may(record))
    }

    /// The most units at once that an override of a limit admits.
    pub(crate) fn most_units(&self, limit: &str) -> u32 {
        let most = self.clients.overrides.as_ref().and_then(|overrides| overrides.most(limit));
        most.map_or(0, |rate| rate.burst().get())
    }

    /// How often the fallback client was used.
    pub(crate) fn fallback_uses(&self) -> u64 {
        self.fallback.count.load(Relaxed)
    }

    /// Counts a use of the fallback client, and answers with their number where it is to be told. `now` is in
    /// nanoseconds.
    pub(crate) fn note_fallback(&self, now: u64) -> Option<u64> {
        let uses = self.fallback.count.fetch_add(1, Relaxed) + 1;
        let due = self.fallback.next_warning.load(Relaxed);
        let next = now.saturating_add(WARN_EVERY.as_nanos() as u64);
        let tells =
            now >= due && self.fallback.next_warning.compare_exchange(due, next, Relaxed, Relaxed).is_ok();
        tells.then_some(uses)
    }

    /// The client of a request. `address` is the key of where it comes from; without it, a client that is not there is
    /// only asked after, and neither created nor refused.
    pub(crate) async fn find(&self, who: Who, address: Option<Key>) -> Result<Found, Missing> {
        let registry = &*self.clients.registry;
        match who {
            Who::Secret(hash) => {
                let now = self.clients.now();
                let owner = registry.owner(hash).await?;
                let key =
                    |record: &ClientRecord| record.api_keys.iter().find(|key| key.hash == hash).cloned();
                let owner = owner.and_then(|record| key(&record).map(|key| (record, key)));
                let Some((record, key)) = owner.filter(|(_, key)| key.is_live(now)) else {
                    return Err(Missing::Unknown);
                };
                let mut found = self.found(record, How::Known).await?;
                found.until = [found.until, key.expires_at].into_iter().flatten().min();
                Ok(found)
            }
            Who::Id(id) if !self.clients.ids.accepts(&id) => Err(Missing::MalformedId),
            Who::Id(id) => match registry.record(&id).await? {
                Some(record) => self.found(record, How::Known).await,
                None => self.unknown(id, address).await,
            },
            Who::Nobody => match &self.clients.fallback {
                None => Err(Missing::Nobody),
                Some(id) => match registry.record(id).await? {
                    Some(record) => self.found(record, How::Known).await,
                    None if address.is_none() => self.absent(id).await,
                    None => self.create(id.clone(), false).await,
                },
            },
        }
    }

    async fn absent(&self, id: &str) -> Result<Found, Missing> {
        let record = ClientRecord::new(id, self.clients.now());
        self.found(Arc::new(record), How::Absent).await
    }

    async fn unknown(&self, id: String, address: Option<Key>) -> Result<Found, Missing> {
        let Some(address) = address else { return self.absent(&id).await };
        if self.clients.unknown.fate == Fate::Refuse {
            return Err(Missing::Unknown);
        }
        if let Some(coming) = self.admit(address).await? {
            let found = self.create(id, true).await;
            drop(coming);
            return found;
        }
        // No client has this id, so that none can be mistaken for it.
        let record = ClientRecord::new("", self.clients.now());
        self.found(Arc::new(record), How::Shared).await
    }

    /// Room for a client more, if any is to be created.
    async fn admit(&self, address: Key) -> Result<Option<Coming<'_>>, Missing> {
        let Some(bounds) = &self.bounds else { return Ok(None) };
        let coming = bounds.announce();
        let there = self.clients.registry.uninvited().await?;
        let admitted = coming.is_admitted(there, address, || self.clients.clock.timeline());
        Ok(admitted.then_some(coming))
    }

    async fn create(&self, id: String, uninvited: bool) -> Result<Found, Missing> {
        let now = self.clients.now();
        let new = ClientRecord { uninvited, ..ClientRecord::new(id.clone(), now) };
        let change =
            move |old: Option<&ClientRecord>, _: &_| Ok(Some(old.cloned().unwrap_or_else(|| new.clone())));
        let (old, record) = self.clients.registry.change(&id, Box::new(change)).await?;
        let how = if old.is_none() { How::Created } else { How::Known };
        self.found(record.ok_or(Missing::Unknown)?, how).await
    }

    async fn found(&self, record: Arc<ClientRecord>, how: How) -> Result<Found, Missing> {
        let (tiers, now) = (self.clients.registry.tiers().await?, self.clients.now());
        let until = record.temporary(now).map(|temporary| temporary.expires_at);
        Ok(Found { grant: record.in_force(&tiers, now), record, until, how })
    }
}

impl WallClock {
    /// The time by which new clients are counted.
    fn timeline(&self) -> Timeline {
        match self {
            Self::System => Timeline::system(),
            Self::Manual(clock) => Timeline::manual(clock.clone()),
        }
    }
}

impl fmt::Debug for Office {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Office").field("clients", &self.clients).finish_non_exhaustive()
    }
}
