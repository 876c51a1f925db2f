//! Who waits by what clients were granted.

use crate::Key;
use smallvec::SmallVec;
use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    task::Waker,
};

/// Who is to be woken by changes to which clients.
#[derive(Default)]
pub(crate) struct Readers {
    all: Mutex<(u64, HashMap<u64, Reader>)>,
}

pub(super) struct Reader {
    pub(super) clients: SmallVec<[Key; 1]>,
    pub(super) waker: Waker,
}

impl Readers {
    /// Wakes those that wait by what a client was granted, or all.
    pub(super) fn wake(&self, client: Option<Key>) {
        // Woken once the lock is free: what a waker does is not ours.
        let concerns = |reader: &&Reader| client.is_none_or(|client| reader.clients.contains(&client));
        let wakers: Vec<_> = self.locked(|(_, readers)| {
            readers.values().filter(concerns).map(|reader| reader.waker.clone()).collect()
        });
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn locked<T>(&self, act: impl FnOnce(&mut (u64, HashMap<u64, Reader>)) -> T) -> T {
        act(&mut self.all.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").finish_non_exhaustive()
    }
}
