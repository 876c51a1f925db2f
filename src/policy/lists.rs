//! Whom no rule applies to, and whom nothing is answered.

use super::Listed;
use crate::{Identity, Key, Mistake, identity::Networks, key::Keys};
use std::{collections::HashSet, net::IpAddr};

/// A list of clients, by address and by identity.
#[derive(Debug)]
pub(crate) struct List {
    networks: Networks,
    keys: HashSet<Key>,
}

impl List {
    pub(super) fn compile(
        listed: &Listed,
        place: &'static str,
        keys: &Keys,
        mistakes: &mut Vec<Mistake>,
    ) -> Self {
        // An address counts however a source would have known its client.
        let addresses =
            listed.identities.iter().filter_map(Identity::as_network).map(|network| network.to_string());
        let networks: Vec<_> = listed.networks.iter().cloned().chain(addresses).collect();
        Self {
            networks: Networks::compile(&networks, place, mistakes),
            keys: listed.identities.iter().map(|identity| identity.key(keys)).collect(),
        }
    }

    pub(crate) fn has_networks(&self) -> bool {
        !self.networks.is_empty()
    }

    pub(crate) fn has_identities(&self) -> bool {
        !self.keys.is_empty()
    }

    pub(crate) fn contains_address(&self, address: IpAddr) -> bool {
        self.networks.contains(address)
    }

    pub(crate) fn contains(&self, key: Key) -> bool {
        self.keys.contains(&key)
    }
}
