//! All that an embedded registry knows.

use super::{ClientRecord, KeyHash, Tiers};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Clients, whose keys are whose, and tiers.
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

    pub(super) fn set_tiers(&mut self, tiers: Arc<Tiers>) {
        self.tiers = tiers;
        #[cfg(feature = "journal")]
        {
            self.tiers_set = true;
        }
    }
}
