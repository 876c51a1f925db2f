//! The embedded registry.

use super::{
    BeforeAfter, Changed, ClientChange, ClientPage, ClientRecord, KeyHash, Registry, RegistryAnswer,
    RegistryError, TierChange, Tiers, Watcher,
};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

/// A registry in the memory of this process. Clones share everything.
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
}

#[derive(Default)]
pub(super) struct State {
    pub(super) records: BTreeMap<Arc<str>, Arc<ClientRecord>>,
    pub(super) owners: HashMap<KeyHash, Arc<str>>,
    pub(super) tiers: Arc<Tiers>,
}

impl State {
    /// Puts a record in place of another, or removes it.
    pub(super) fn put(&mut self, id: &str, record: Option<Arc<ClientRecord>>) -> Option<Arc<ClientRecord>> {
        let id: Arc<str> = id.into();
        match record {
            Some(record) => {
                let old = self.records.insert(id.clone(), record.clone());
                self.disown(old.as_deref());
                self.owners.extend(record.key_hashes().map(|hash| (hash, id.clone())));
                old
            }
            None => {
                let old = self.records.remove(&id);
                self.disown(old.as_deref());
                old
            }
        }
    }

    fn disown(&mut self, old: Option<&ClientRecord>) {
        for hash in old.into_iter().flat_map(ClientRecord::key_hashes) {
            self.owners.remove(&hash);
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

    fn with(state: State) -> Self {
        let shared =
            Shared { state: RwLock::new(state), writer: Mutex::new(()), watchers: RwLock::new(Vec::new()) };
        Self { shared: Arc::new(shared) }
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

    fn make(
        &self,
        id: &str,
        change: ClientChange,
    ) -> Result<BeforeAfter<Option<Arc<ClientRecord>>>, RegistryError> {
        let _alone = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (old, tiers) = self.read(|state| (state.records.get(id).cloned(), state.tiers.clone()));
        let new = change(old.as_deref(), &tiers)?.map(Arc::new);
        if new == old {
            return Ok((old, new));
        }
        self.write(|state| state.put(id, new.clone()));
        self.tell(&Changed::Client(id));
        Ok((old, new))
    }

    fn make_tiers(&self, change: TierChange) -> Result<BeforeAfter<Arc<Tiers>>, RegistryError> {
        let _alone = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.read(|state| state.tiers.clone());
        let new = Arc::new(change(&old)?);
        if new == old {
            return Ok((old, new));
        }
        self.write(|state| state.tiers = new.clone());
        self.tell(&Changed::Tiers);
        Ok((old, new))
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
        RegistryAnswer::now(self.make(id, change))
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

    fn tiers(&self) -> RegistryAnswer<Arc<Tiers>> {
        RegistryAnswer::now(Ok(self.read(|state| state.tiers.clone())))
    }

    fn change_tiers(&self, change: TierChange) -> RegistryAnswer<BeforeAfter<Arc<Tiers>>> {
        RegistryAnswer::now(self.make_tiers(change))
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
