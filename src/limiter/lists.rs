//! Lists that change while requests come.

use super::{Inner, Limiter};
use crate::{
    BuildError, Key, Lists, Mistake,
    event::Event,
    identity::ClientLabel,
    policy::{Both, List},
};
use ipnet::IpNet;
use std::{convert::Infallible, fmt};

/// An entry of the allow list or of the block list: a network or somebody's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEntry {
    is_block: bool,
    what: What,
    plain_addresses: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Network(IpNet),
    Identity { key: Key, label: ClientLabel, name: Option<Box<str>> },
}

impl ListEntry {
    /// Whether it is of the block list, or else of the allow list.
    pub const fn is_block(&self) -> bool {
        self.is_block
    }

    /// The network, such as `10.0.0.0/8`; nothing for an identity.
    pub fn network(&self) -> Option<String> {
        match &self.what {
            What::Network(network) => Some(network.to_string()),
            What::Identity { .. } => None,
        }
    }

    /// The identity's key, to [take](Limiter::remove_listed) it off the lists; nothing for a network.
    pub const fn key(&self) -> Option<Key> {
        match self.what {
            What::Identity { key, .. } => Some(key),
            What::Network(_) => None,
        }
    }

    /// The name or registered client's id; nothing for networks and other identities.
    pub fn name(&self) -> Option<&str> {
        match &self.what {
            What::Identity { name, .. } => name.as_deref(),
            What::Network(_) => None,
        }
    }
}

/// The network, or the client as logs may name it.
impl fmt::Display for ListEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Network(network) => network.fmt(f),
            What::Identity { label, .. } => label.display(self.plain_addresses).fmt(f),
        }
    }
}

impl Limiter {
    /// What is on the lists: first the allow list, networks before identities.
    pub fn lists(&self) -> Vec<ListEntry> {
        let lists = self.inner.policy.lists.load();
        self.both(&lists)
    }

    /// Entries as they would be on the lists.
    #[cfg(feature = "admin")]
    pub(crate) fn named(&self, entries: &Lists) -> Result<Vec<ListEntry>, BuildError> {
        let keys = &self.inner.keys;
        let lists = checked(|mistakes| Both::default().with(entries, keys, mistakes))?;
        Ok(self.both(&lists))
    }

    /// Whether an entry is on its list.
    #[cfg(feature = "admin")]
    pub(crate) fn is_listed(&self, entry: &ListEntry) -> bool {
        let lists = self.inner.policy.lists.load();
        let list = if entry.is_block { &lists.blocked } else { &lists.allowed };
        match &entry.what {
            What::Network(network) => list.nets.contains(network),
            What::Identity { key, .. } => list.contains(*key),
        }
    }

    fn both(&self, lists: &Both) -> Vec<ListEntry> {
        let mut all = self.entries(&lists.allowed, false);
        all.extend(self.entries(&lists.blocked, true));
        all
    }

    fn entries(&self, list: &List, is_block: bool) -> Vec<ListEntry> {
        let entry = |what| ListEntry { is_block, what, plain_addresses: self.inner.plain_addresses };
        let nets = list.nets.iter().copied().map(What::Network);
        let mut identities: Vec<_> = list.identities.iter().collect();
        identities.sort_by_key(|(key, _)| key.to_bytes());
        let identities = identities.into_iter().map(|(key, listed)| What::Identity {
            key: *key,
            label: listed.label,
            name: listed.name.clone(),
        });
        nets.chain(identities).map(entry).collect()
    }

    /// Puts entries on the lists, beside those that are there, from the next request on. What holds of those in a policy
    /// holds of them.
    ///
    /// # Errors
    ///
    /// If a network cannot be parsed, or a list would have more than 100,000 entries; the error names all mistakes, and
    /// nothing is changed then.
    pub fn add_to_lists(&self, entries: &Lists) -> Result<(), BuildError> {
        let keys = &self.inner.keys;
        self.change_lists(|lists| checked(|mistakes| lists.with(entries, keys, mistakes))).map(drop)
    }

    /// Takes entries off the lists, from the next request on, and answers how many were there. A network is taken off as it
    /// was put on: of a wider one nothing is cut out.
    ///
    /// # Errors
    ///
    /// If a network cannot be parsed; the error names all mistakes, and nothing is changed then.
    pub fn remove_from_lists(&self, entries: &Lists) -> Result<usize, BuildError> {
        let keys = &self.inner.keys;
        self.change_lists(|lists| checked(|mistakes| lists.without(entries, keys, mistakes)))
    }

    /// Takes the identity of one of the [entries](Self::lists) off the block list, or else off the allow list, and answers
    /// whether it was there.
    pub fn remove_listed(&self, key: Key, is_block: bool) -> bool {
        let removed: Result<_, Infallible> = self.change_lists(|lists| {
            let mut lists = lists.clone();
            let list = if is_block { &mut lists.blocked } else { &mut lists.allowed };
            list.identities.remove(&key);
            list.arrange();
            Ok(lists)
        });
        removed.is_ok_and(|removed| removed > 0)
    }

    fn change_lists<E>(&self, change: impl FnOnce(&Both) -> Result<Both, E>) -> Result<usize, E> {
        self.inner.change_lists(change)
    }
}

impl Inner {
    /// Puts on the lists what this policy has and the former one had not, and the other way round.
    pub(super) fn hand_on_lists(&self, former: &Self) {
        let (old, new) = (&former.policy.listed, &self.policy.listed);
        let _: Result<_, Infallible> = self.change_lists(|lists| Ok(lists.handed_on(old, new)));
    }

    /// Makes a change, tells of it, and answers how many entries are gone.
    fn change_lists<E>(&self, change: impl FnOnce(&Both) -> Result<Both, E>) -> Result<usize, E> {
        let (old, new) = self.policy.lists.change(change)?;
        let mut gone = 0;
        for (list, old, new) in
            [("allow list", &old.allowed, &new.allowed), ("block list", &old.blocked, &new.blocked)]
        {
            let (old, new) = (old.len(), new.len());
            gone += old.saturating_sub(new);
            if old != new {
                self.emit(&Event::ListChanged { list, old, new });
            }
        }
        Ok(gone)
    }
}

fn checked(change: impl FnOnce(&mut Vec<Mistake>) -> Both) -> Result<Both, BuildError> {
    let mut mistakes = Vec::new();
    let both = change(&mut mistakes);
    if mistakes.is_empty() { Ok(both) } else { Err(BuildError::new(mistakes)) }
}
