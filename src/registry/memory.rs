//! The embedded registry.

#[cfg(feature = "journal")]
use super::journal::{Entry, Journal};

use super::{
    BeforeAfter, Changed, ClientChange, ClientPage, ClientRecord, KeyHash, Registry, RegistryAnswer,
    RegistryError, TierChange, Tiers, Watcher,
};
#[cfg(feature = "journal")]
use std::borrow::Cow;
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

/// A registry in the memory of this process, and with feature `journal` in a file too. Clones share
/// everything.
///
/// A client takes about 500 bytes.
#[derive(Clone)]
pub struct MemoryRegistry {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    state: RwLock<State>,
    /// Changes are made one after the other; whoever changes holds this.
    writer: Mutex<()>,
    watchers: RwLock<Vec<Watcher>>,
    #[cfg(feature = "journal")]
    pub(super) journal: Option<Journal>,
}

#[derive(Default)]
#[cfg_attr(feature = "journal", derive(Clone))]
pub(super) struct State {
    pub(super) records: BTreeMap<Arc<str>, Arc<ClientRecord>>,
    pub(super) owners: HashMap<KeyHash, Arc<str>>,
    /// How many records are of clients that came uninvited.
    pub(super) uninvited: usize,
    pub(super) tiers: Arc<Tiers>,
    /// Whether they were set, and not only begun with.
    #[cfg(feature = "journal")]
    pub(super) tiers_set: bool,
}

impl State {
    /// Puts a record in place of another, or removes it.
    pub(super) fn put(&mut self, id: &str, record: Option<Arc<ClientRecord>>) -> Option<Arc<ClientRecord>> {
        let id: Arc<str> = id.into();
        let old = match &record {
            Some(record) => self.records.insert(id.clone(), record.clone()),
            None => self.records.remove(&id),
        };
        if let Some(old) = &old {
            self.uninvited -= usize::from(old.uninvited);
            for hash in old.key_hashes() {
                self.owners.remove(&hash);
            }
        }
        if let Some(record) = &record {
            self.uninvited += usize::from(record.uninvited);
            self.owners.extend(record.key_hashes().map(|hash| (hash, id.clone())));
        }
        old
    }

    fn set_tiers(&mut self, tiers: Arc<Tiers>) {
        self.tiers = tiers;
        #[cfg(feature = "journal")]
        {
            self.tiers_set = true;
        }
    }
}

impl MemoryRegistry {
    /// An empty registry with the built-in tiers.
    pub fn new() -> Self {
        Self::with_tiers(Tiers::new())
    }

    /// An empty registry with these tiers.
    pub fn with_tiers(tiers: Tiers) -> Self {
        Self::with(State { tiers: Arc::new(tiers), ..State::default() })
    }

    #[cfg(not(feature = "journal"))]
    fn with(state: State) -> Self {
        let (writer, watchers) = (Mutex::new(()), RwLock::new(Vec::new()));
        Self { shared: Arc::new(Shared { state: RwLock::new(state), writer, watchers }) }
    }

    #[cfg(feature = "journal")]
    fn with(state: State) -> Self {
        Self::kept_in(None, state)
    }

    #[cfg(feature = "journal")]
    pub(super) fn kept_in(journal: Option<Journal>, state: State) -> Self {
        let (writer, watchers) = (Mutex::new(()), RwLock::new(Vec::new()));
        Self { shared: Arc::new(Shared { state: RwLock::new(state), writer, watchers, journal }) }
    }

    #[cfg(feature = "journal")]
    pub(super) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.shared.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, write: impl FnOnce(&mut State) -> T) -> T {
        write(&mut self.shared.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// After a change and never before, so that whoever looks again finds what is new.
    fn tell(&self, changed: &Changed<'_>) {
        for watcher in self.shared.watchers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            watcher(changed);
        }
    }

    fn make(&self, id: &str, change: ClientChange) -> Result<Made<Option<Arc<ClientRecord>>>, RegistryError> {
        let _alone = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (old, tiers) = self.read(|state| (state.records.get(id).cloned(), state.tiers.clone()));
        let new = change(old.as_deref(), &tiers)?.map(Arc::new);
        if new == old {
            return Ok(Made { found: (old, new), kept: self.shared.keep_nothing()? });
        }
        let kept = self.shared.keep_client(id, new.as_deref())?;
        self.write(|state| state.put(id, new.clone()));
        self.tell(&Changed::Client(id));
        Ok(Made { found: (old, new), kept })
    }

    fn make_tiers(&self, change: TierChange) -> Result<Made<Arc<Tiers>>, RegistryError> {
        let _alone = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.read(|state| state.tiers.clone());
        let new = Arc::new(change(&old)?);
        if new == old {
            return Ok(Made { found: (old, new), kept: self.shared.keep_nothing()? });
        }
        let kept = self.shared.keep_tiers(&new)?;
        self.write(|state| state.set_tiers(new.clone()));
        self.tell(&Changed::Tiers);
        Ok(Made { found: (old, new), kept })
    }
}

/// A change that was made, and when it is kept.
struct Made<T> {
    found: BeforeAfter<T>,
    kept: Kept,
}

enum Kept {
    Now,
    #[cfg(feature = "journal")]
    Later(RegistryAnswer<()>),
}

impl<T: Send + 'static> Made<T> {
    fn answer(made: Result<Self, RegistryError>) -> RegistryAnswer<BeforeAfter<T>> {
        match made {
            Err(error) => RegistryAnswer::now(Err(error)),
            Ok(Self { found, kept: Kept::Now }) => RegistryAnswer::now(Ok(found)),
            #[cfg(feature = "journal")]
            Ok(Self { found, kept: Kept::Later(kept) }) => {
                RegistryAnswer::later(async move { kept.await.map(|()| found) })
            }
        }
    }
}

#[cfg(not(feature = "journal"))]
impl Shared {
    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "as with a journal")]
    const fn keep_client(&self, _: &str, _: Option<&ClientRecord>) -> Result<Kept, RegistryError> {
        Ok(Kept::Now)
    }

    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "as with a journal")]
    const fn keep_tiers(&self, _: &Tiers) -> Result<Kept, RegistryError> {
        Ok(Kept::Now)
    }

    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "as with a journal")]
    const fn keep_nothing(&self) -> Result<Kept, RegistryError> {
        Ok(Kept::Now)
    }
}

#[cfg(feature = "journal")]
impl Shared {
    fn keep_client(&self, id: &str, record: Option<&ClientRecord>) -> Result<Kept, RegistryError> {
        self.keep(&record.map_or(Entry::Deleted(id.into()), |record| Entry::Client(Cow::Borrowed(record))))
    }

    fn keep_tiers(&self, tiers: &Tiers) -> Result<Kept, RegistryError> {
        self.keep(&Entry::Tiers(Cow::Borrowed(tiers)))
    }

    /// What is there already may not be kept yet, or never be: then it must not be answered as if it were.
    fn keep_nothing(&self) -> Result<Kept, RegistryError> {
        self.journal.as_ref().map_or(Ok(Kept::Now), |journal| journal.settle().map(Kept::Later))
    }

    fn keep(&self, entry: &Entry<'_>) -> Result<Kept, RegistryError> {
        self.journal.as_ref().map_or(Ok(Kept::Now), |journal| journal.write(entry).map(Kept::Later))
    }

    /// All that there is, and what else is found while no change is made.
    pub(super) fn snapshot<T>(&self, also: impl FnOnce() -> T) -> (State, T) {
        let _alone = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner).clone();
        (state, also())
    }
}

impl Registry for MemoryRegistry {
    fn record(&self, id: &str) -> RegistryAnswer<Option<Arc<ClientRecord>>> {
        RegistryAnswer::now(Ok(self.read(|state| state.records.get(id).cloned())))
    }

    fn owner(&self, hash: KeyHash) -> RegistryAnswer<Option<Arc<ClientRecord>>> {
        RegistryAnswer::now(Ok(self.read(|state| {
            let id = state.owners.get(&hash)?;
            state.records.get(id).cloned()
        })))
    }

    fn change(
        &self,
        id: &str,
        change: ClientChange,
    ) -> RegistryAnswer<BeforeAfter<Option<Arc<ClientRecord>>>> {
        Made::answer(self.make(id, change))
    }

    fn page(&self, after: Option<&str>, most: usize) -> RegistryAnswer<ClientPage> {
        RegistryAnswer::now(Ok(self.read(|state| {
            let start = after.map_or(Bound::Unbounded, Bound::Excluded);
            let clients: Vec<_> = state
                .records
                .range::<str, _>((start, Bound::Unbounded))
                .take(most)
                .map(|(_, r)| r.clone())
                .collect();
            let next = clients.last().filter(|_| clients.len() == most).map(|last| last.client_id.clone());
            let next = next.filter(|last| {
                state
                    .records
                    .range::<str, _>((Bound::Excluded(last.as_str()), Bound::Unbounded))
                    .next()
                    .is_some()
            });
            ClientPage { clients, count: state.records.len(), next }
        })))
    }

    fn uninvited(&self) -> RegistryAnswer<usize> {
        RegistryAnswer::now(Ok(self.read(|state| state.uninvited)))
    }

    fn tiers(&self) -> RegistryAnswer<Arc<Tiers>> {
        RegistryAnswer::now(Ok(self.read(|state| state.tiers.clone())))
    }

    fn change_tiers(&self, change: TierChange) -> RegistryAnswer<BeforeAfter<Arc<Tiers>>> {
        Made::answer(self.make_tiers(change))
    }

    fn watch(&self, watcher: Watcher) {
        self.shared.watchers.write().unwrap_or_else(PoisonError::into_inner).push(watcher);
    }
}

impl Default for MemoryRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = self.read(|state| state.records.len());
        f.debug_struct("MemoryRegistry").field("clients", &clients).finish_non_exhaustive()
    }
}
