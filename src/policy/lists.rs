//! Whom no rule applies to, and whom nothing is answered.

use crate::{
    Identity, Key, Mistake,
    identity::{ClientLabel, Networks, parse_network},
    key::Keys,
};
use arc_swap::{ArcSwap, Guard};
use ipnet::IpNet;
use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// Entries of the allow list and of the block list. Those of a policy can be changed while requests come:
/// [`Limiter::add_to_lists`](crate::Limiter::add_to_lists).
///
/// ```
/// use tidegate::{Identity, Lists};
///
/// let lists = Lists::new().allow_networks(["10.0.0.0/8"]).block(Identity::name("ann"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Lists {
    allowed: Listed,
    blocked: Listed,
}

/// Networks and identities of one list.
#[derive(Debug, Clone, Default)]
struct Listed {
    networks: Vec<String>,
    identities: Vec<Identity<'static>>,
}

impl Lists {
    /// Nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Client addresses that no rule applies to, such as `192.0.2.7` or `10.0.0.0/8`.
    #[must_use]
    pub fn allow_networks(mut self, networks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.allowed.networks.extend(networks.into_iter().map(Into::into));
        self
    }

    /// A client that no rule applies to; see [`Policy::allow`](crate::Policy::allow).
    #[must_use]
    pub fn allow(mut self, identity: Identity<'static>) -> Self {
        self.allowed.identities.push(identity);
        self
    }

    /// Client addresses that are refused with 403. Whoever is on both lists is refused.
    #[must_use]
    pub fn block_networks(mut self, networks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.blocked.networks.extend(networks.into_iter().map(Into::into));
        self
    }

    /// A client that is refused with 403 on every route; see [`Policy::block`](crate::Policy::block).
    #[must_use]
    pub fn block(mut self, identity: Identity<'static>) -> Self {
        self.blocked.identities.push(identity);
        self
    }
}

/// The two lists at one time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Both {
    pub(crate) allowed: List,
    pub(crate) blocked: List,
}

/// One list: what was put on it, and how it is searched.
#[derive(Debug, Clone, Default)]
pub(crate) struct List {
    pub(crate) nets: BTreeSet<IpNet>,
    pub(crate) identities: HashMap<Key, Entry>,
    /// The addresses of both.
    networks: Networks,
    /// Whether clients are on it by name, as which those of a registry have to be found out.
    has_names: bool,
}

/// An identity on a list; its value is not kept, unless it is a name.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) label: ClientLabel,
    pub(crate) name: Option<Box<str>>,
}

/// More entries of a list would be slow to change.
const MOST_ENTRIES: usize = 100_000;

/// What becomes of a list.
type Change<'c> = &'c mut dyn FnMut(&mut List, &Listed, &'static str, &mut Vec<Mistake>);

impl Both {
    /// The same with these entries too.
    pub(crate) fn with(&self, lists: &Lists, keys: &Keys, mistakes: &mut Vec<Mistake>) -> Self {
        self.changed(lists, mistakes, &mut |list, listed, place, mistakes| {
            list.nets.extend(nets(listed, place, mistakes));
            for identity in &listed.identities {
                let key = identity.key(keys);
                let entry = Entry { label: identity.label(key), name: identity.as_name().map(Into::into) };
                list.identities.insert(key, entry);
            }
            if list.len() > MOST_ENTRIES {
                let reason = format!("{} entries are too many; {MOST_ENTRIES} are accepted", list.len());
                mistakes.push(Mistake::Setting { setting: place, reason });
            }
        })
    }

    /// The same without these entries.
    pub(crate) fn without(&self, lists: &Lists, keys: &Keys, mistakes: &mut Vec<Mistake>) -> Self {
        self.changed(lists, mistakes, &mut |list, listed, place, mistakes| {
            for net in nets(listed, place, mistakes) {
                list.nets.remove(&net);
            }
            for identity in &listed.identities {
                list.identities.remove(&identity.key(keys));
            }
        })
    }

    fn changed(&self, lists: &Lists, mistakes: &mut Vec<Mistake>, change: Change<'_>) -> Self {
        let mut new = self.clone();
        for (list, listed, place) in [
            (&mut new.allowed, &lists.allowed, "allow list"),
            (&mut new.blocked, &lists.blocked, "block list"),
        ] {
            change(list, listed, place, mistakes);
            list.arrange();
        }
        new
    }

    /// The same as they are once a policy that put `old` on them is followed by one that puts `new` there: what was put on
    /// or taken off since stays so, unless the two policies differ in it.
    pub(crate) fn handed_on(&self, old: &Self, new: &Self) -> Self {
        let mut lists = self.clone();
        for (list, old, new) in [
            (&mut lists.allowed, &old.allowed, &new.allowed),
            (&mut lists.blocked, &old.blocked, &new.blocked),
        ] {
            list.nets.retain(|net| new.nets.contains(net) || !old.nets.contains(net));
            list.nets.extend(new.nets.difference(&old.nets).copied());
            list.identities
                .retain(|key, _| new.identities.contains_key(key) || !old.identities.contains_key(key));
            let added = new.identities.iter().filter(|(key, _)| !old.identities.contains_key(key));
            list.identities.extend(added.map(|(key, entry)| (*key, entry.clone())));
            list.arrange();
        }
        lists
    }

    fn is_empty(&self) -> bool {
        self.allowed.len() + self.blocked.len() == 0
    }

    /// Whether clients are on a list by name.
    pub(crate) const fn has_names(&self) -> bool {
        self.allowed.has_names || self.blocked.has_names
    }
}

fn nets(listed: &Listed, place: &'static str, mistakes: &mut Vec<Mistake>) -> Vec<IpNet> {
    listed.networks.iter().filter_map(|text| parse_network(text, place, mistakes)).collect()
}

impl List {
    /// Makes ready to be searched what is on it.
    pub(crate) fn arrange(&mut self) {
        // An address counts however a source would have known its client.
        let addresses = self.identities.values().filter_map(|entry| entry.label.address?.net());
        self.networks = self.nets.iter().copied().chain(addresses).collect();
        self.has_names = self.identities.values().any(|entry| entry.name.is_some());
    }

    /// How many entries it has.
    pub(crate) fn len(&self) -> usize {
        self.nets.len() + self.identities.len()
    }

    pub(crate) fn has_networks(&self) -> bool {
        !self.networks.is_empty()
    }

    pub(crate) fn has_identities(&self) -> bool {
        !self.identities.is_empty()
    }

    pub(crate) fn contains_address(&self, address: IpAddr) -> bool {
        self.networks.contains(address)
    }

    pub(crate) fn contains(&self, key: Key) -> bool {
        self.identities.contains_key(&key)
    }

    /// Whether somebody is on it by its key or its address.
    pub(crate) fn has(&self, key: Key, address: Option<IpAddr>) -> bool {
        self.contains(key) || address.is_some_and(|address| self.contains_address(address))
    }
}

/// The lists in force. Requests read them without a lock or a count that they share being written.
#[derive(Debug)]
pub(crate) struct LiveLists {
    current: ArcSwap<Both>,
    /// Whether there is anything else that exempts.
    others: AtomicBool,
    exempts: AtomicBool,
    writer: Mutex<()>,
}

impl LiveLists {
    pub(super) fn new(both: Both, others: bool) -> Self {
        let exempts = AtomicBool::new(others || !both.is_empty());
        Self { current: ArcSwap::from_pointee(both), others: others.into(), exempts, writer: Mutex::new(()) }
    }

    /// Says whether there is anything else that exempts.
    pub(crate) fn set_others(&self, others: bool) {
        let _alone = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.others.store(others, Relaxed);
        self.exempts.store(others || !self.load().is_empty(), Relaxed);
    }

    /// Whether it is worth asking whether somebody is exempt.
    #[inline(always)]
    pub(crate) fn exempts(&self) -> bool {
        self.exempts.load(Relaxed)
    }

    /// The lists as of now.
    pub(crate) fn load(&self) -> Guard<Arc<Both>> {
        self.current.load()
    }

    /// Puts others in force, unless the change fails, and answers with those before and after.
    pub(crate) fn change<E>(
        &self,
        change: impl FnOnce(&Both) -> Result<Both, E>,
    ) -> Result<(Arc<Both>, Arc<Both>), E> {
        let _alone = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.current.load_full();
        let new = Arc::new(change(&old)?);
        self.current.store(new.clone());
        self.exempts.store(self.others.load(Relaxed) || !new.is_empty(), Relaxed);
        Ok((old, new))
    }
}
