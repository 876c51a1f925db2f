//! Connections: to one server, or to all that share the keys of a cluster.

use super::{failure::Failure, shards::Shards};
use crate::Place;
use redis::aio::MultiplexedConnection;
use std::{
    borrow::Cow,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU32,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

pub(super) struct Wires {
    pub(super) nodes: Vec<Arc<Node>>,
    /// Which node has which keys; nothing where one has all.
    pub(super) shards: Option<Shards>,
    /// A node said that keys have moved.
    is_stale: AtomicBool,
}

/// One server: connections to it, and the hash of our script there.
#[derive(Default)]
pub(super) struct Node {
    /// `host:port`, as other nodes call it; nothing where it is the only one.
    pub(super) address: String,
    pub(super) lines: Vec<MultiplexedConnection>,
    pub(super) script: String,
    /// Calls in a row that failed.
    failures: AtomicU32,
    /// Why nothing is sent to it any more, in a cluster.
    shut: OnceLock<Cow<'static, str>>,
}

impl Wires {
    pub(super) const fn new(nodes: Vec<Arc<Node>>, shards: Option<Shards>) -> Self {
        Self { nodes, shards, is_stale: AtomicBool::new(false) }
    }

    /// The node that has a key, if anything is sent to it.
    pub(super) fn node(&self, key: impl FnOnce() -> Vec<u8>) -> Result<&Arc<Node>, Failure> {
        let number = self.shards.as_ref().map_or(Some(0), |shards| shards.node(&key()));
        match number.and_then(|number| self.nodes.get(number)) {
            Some(node) => {
                node.why_shut().map_or(Ok(node), |why| Err(Failure::NotSent(why.to_owned().into())))
            }
            None => Err(Failure::NotSent("no node of the cluster has these keys".into())),
        }
    }

    /// The node of an address, if anything is sent to it.
    pub(super) fn named(&self, address: &str) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.address == address && node.why_shut().is_none())
    }

    /// Whether everything can be sent, and where it belongs.
    pub(super) fn is_whole(&self) -> bool {
        !self.is_stale.load(SeqCst) && self.gap().is_none()
    }

    /// A node that nothing is sent to, and why.
    pub(super) fn gap(&self) -> Option<(&str, &str)> {
        self.nodes.iter().find_map(|node| Some((&*node.address, node.why_shut()?)))
    }

    /// Notes that keys have moved, and answers whether that is news.
    pub(super) fn grow_stale(&self) -> bool {
        !self.is_stale.swap(true, SeqCst)
    }
}

impl Node {
    /// One that cannot be reached.
    pub(super) fn lost(address: String, why: String) -> Self {
        Self { address, shut: OnceLock::from(Cow::from(why)), ..Self::default() }
    }

    /// The same under the address that other nodes call it by.
    pub(super) fn at(self, address: String) -> Self {
        Self { address, ..self }
    }

    /// A client's calls go through one connection, so that they arrive in order.
    pub(super) fn line(&self, place: Option<Place>) -> Option<MultiplexedConnection> {
        let number = match place {
            Some(Place::Client(key)) => key.crowd() as usize % self.lines.len().max(1),
            _ => 0,
        };
        self.lines.get(number).cloned()
    }

    /// Why nothing is sent to it, if nothing is.
    pub(super) fn why_shut(&self) -> Option<&str> {
        self.shut.get().map(|why| &**why)
    }

    /// Sends nothing to it any more, and answers whether that is news.
    pub(super) fn shut(&self, why: Cow<'static, str>) -> bool {
        self.shut.set(why).is_ok()
    }

    /// How many calls in a row have failed, this one among them.
    pub(super) fn failed(&self) -> u32 {
        self.failures.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// A load before the store, so that calls that succeed do not write to a shared line.
    pub(super) fn succeeded(&self) {
        if self.failures.load(Relaxed) > 0 {
            self.failures.store(0, Relaxed);
        }
    }
}
