//! Clients in a file: each change is appended, and answered once it is on the disk.
//!
//! Changes that come while others are being written are written together, so that many a second can be answered though
//! the disk takes milliseconds for each write. When the file has grown to a multiple of what it has to say, it is
//! written anew beside the old one and put in its place.

mod entry;
mod error;
mod file;
mod lock;
mod writer;

use super::{
    MemoryRegistry, Tiers,
    memory::{Shared, State},
};
pub(super) use entry::Entry;
pub use error::JournalError;
use lock::Lock;
use std::{path::Path, sync::Arc};
pub(super) use writer::Journal;

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
        let path = lock::resolve(path.as_ref())?;
        let lock = Lock::take(&path)?;
        let start = State { tiers: Arc::new(tiers), ..State::default() };
        let (state, opened) = file::open(&path, start)?;
        let registry = Self::kept_in(Some(Journal::new(&opened, lock)), state);
        let shared: &Arc<Shared> = registry.shared();
        if let Some(journal) = &shared.journal {
            journal
                .start(opened, Arc::downgrade(shared))
                .map_err(|source| JournalError::Io { path, source })?;
        }
        Ok(registry)
    }
}
