//! The embedded registry.

#[cfg(feature = "journal")]
use super::journal::{self, Entry, Journal, JournalError};

use super::{
    BeforeAfter, Changed, ClientChange, ClientPage, ClientRecord, KeyHash, Registry, RegistryAnswer,
    RegistryError, TierChange, Tiers, Watcher, state::State,
};
#[cfg(feature = "journal")]
use std::{borrow::Cow, path::Path};
use std::{
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

struct Shared {
    state: RwLock<State>,
    /// Changes are made one after the other; whoever changes holds this.
    writer: Mutex<()>,
    watchers: RwLock<Vec<Watcher>>,
    #[cfg(feature = "journal")]
    journal: Option<Journal>,
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
    fn kept_in(journal: Option<Journal>, state: State) -> Self {
        let (writer, watchers) = (Mutex::new(()), RwLock::new(Vec::new()));
        Self { shared: Arc::new(Shared { state: RwLock::new(state), writer, watchers, journal }) }
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

#[cfg(feature = "journal")]
impl MemoryRegistry {
    /// The registry in a file, which is created if there is none, with a file `<path>.lock` beside it: only one process
    /// may have it open, and only once.
    ///
    /// What was answered before a crash is there. What was not may be there as well, or be missing.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or written, is open elsewhere, is something else or is damaged; the error then says what
    /// is intact, and nothing was changed.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, JournalError> {
        Self::open_with_tiers(path, Tiers::new())
    }

    /// The same with these tiers, as long as none were set in the file.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with_tiers(path: impl AsRef<Path>, tiers: Tiers) -> Result<Self, JournalError> {
        let start = State { tiers: Arc::new(tiers), ..State::default() };
        let (journal, opened, state) = journal::open(path.as_ref(), start)?;
        let registry = Self::kept_in(Some(journal), state);
        if let Some(journal) = &registry.shared.journal {
            let shared = Arc::downgrade(&registry.shared);
            journal.start(opened, move |also| shared.upgrade().map(|shared| shared.snapshot(also)))?;
        }
        Ok(registry)
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
    fn snapshot(&self, also: &mut dyn FnMut()) -> State {
        let _alone = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        also();
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
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
