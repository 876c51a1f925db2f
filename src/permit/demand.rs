//! What is asked for, and how much of it is in use.

use crate::Key;
use smallvec::SmallVec;

/// One limit's part in what is asked for. No key stands twice in what is asked for together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand {
    /// Whose permit: a client's under one limit, or everybody's.
    pub(crate) key: Key,
    /// The limit, by whose number its maximum can be changed for all keys.
    pub(crate) limit: u32,
    /// The limit's number in whoever asks.
    pub(crate) number: usize,
    /// How many may be held at once, from now on and for whoever waits, where that is not the limit's own number.
    pub(crate) own: Option<u32>,
    /// How many requests of one client may wait for it.
    pub(crate) queue: u32,
}

/// How much of a limit is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) used: u32,
    pub(crate) max: u32,
}

/// In the order of the demands.
pub(crate) type Usages = SmallVec<[Usage; 2]>;
