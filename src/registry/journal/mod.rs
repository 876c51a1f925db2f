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

use super::state::State;
pub(super) use entry::Entry;
pub use error::JournalError;
use file::Opened;
use lock::Lock;
use std::path::Path;
pub(super) use writer::Journal;

/// A journal that is yet to be started, and what is in it beside `start`.
pub(super) fn open(path: &Path, start: State) -> Result<(Journal, Opened, State), JournalError> {
    let path = lock::resolve(path)?;
    let lock = Lock::take(&path)?;
    let (state, opened) = file::open(&path, start)?;
    Ok((Journal::new(&opened, lock), opened, state))
}
