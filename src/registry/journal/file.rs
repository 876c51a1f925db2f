//! The file itself.

#[cfg(test)]
mod tests;

use super::{
    super::state::State,
    JournalError,
    entry::{self, Entry, MAGIC, Read, START},
    lock::{beside, directory},
};
use std::{
    borrow::Cow,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A journal that changes can be appended to.
#[derive(Debug)]
pub(in super::super) struct Opened {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// The number of the next change.
    pub(super) next: u64,
    pub(super) bytes: u64,
}

/// Reads a journal, or begins one.
pub(super) fn open(path: &Path, mut state: State) -> Result<(State, Opened), JournalError> {
    let io = |source| JournalError::Io { path: path.to_owned(), source };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(io(error)),
    };
    // One that was begun and no more is no other file.
    let foreign = || JournalError::Foreign { path: path.to_owned() };
    if bytes.len() < START {
        if !MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]) {
            return Err(foreign());
        }
        let (opened, placed) = rewrite(path, &state, 0).map_err(io)?;
        return placed.map(|()| (state, opened)).map_err(io);
    }
    let start = entry::read_start(&bytes).ok_or_else(foreign)?;
    let (mut end, mut next) = (START, start);
    while let Some(rest) = bytes.get(end..).filter(|rest| !rest.is_empty()) {
        match entry::read(rest, next) {
            Read::Entry { entry, length } => {
                state.replay(entry);
                (end, next) = (end + length, next + 1);
            }
            Read::Torn => {
                tracing::warn!(target: crate::observe::TARGET, bytes = rest.len(), "a change was not written to its end, and nobody was told that it was; it is cut off");
                break;
            }
            Read::Damaged => {
                return Err(JournalError::Damaged {
                    path: path.to_owned(),
                    intact_bytes: end as u64,
                    bytes: bytes.len() as u64,
                    changes: next - start,
                    clients: state.records.len(),
                });
            }
        }
    }
    let file = OpenOptions::new().append(true).open(path).map_err(io)?;
    if end < bytes.len() {
        file.set_len(end as u64).and_then(|()| file.sync_all()).map_err(io)?;
    }
    Ok((state, Opened { file, path: path.to_owned(), next, bytes: end as u64 }))
}

/// Writes all that there is into a new file, and puts it in place of the old one once it is whole.
/// `end` is the number of the next change, so that changes which come meanwhile have their number already.
///
/// Once it is in its place there is no way back to the old one, so that nothing may fail from then on but what is told
/// beside it: whether the place is kept.
pub(super) fn rewrite(path: &Path, state: &State, end: u64) -> io::Result<(Opened, io::Result<()>)> {
    // Each of these was a change once, so that there are no more of them than of changes.
    let entries = state.records.len() + usize::from(state.tiers_set);
    let mut next = end.saturating_sub(entries as u64);
    let mut bytes = entry::start(next);
    let mut push = |entry: &Entry<'_>| {
        entry::push(&mut bytes, next, entry)?;
        next += 1;
        Ok::<_, serde_json::Error>(())
    };
    if state.tiers_set {
        push(&Entry::Tiers(Cow::Borrowed(&state.tiers)))?;
    }
    for record in state.records.values() {
        push(&Entry::Client(Cow::Borrowed(record)))?;
    }
    let new = beside(path, ".new");
    let written = write(&new, path, &bytes).and_then(|file| fs::rename(&new, path).map(|()| file));
    let file = written.inspect_err(|_| {
        // On a full disk it would take the room that the old one needs.
        let _ = fs::remove_file(&new);
    })?;
    // The directory has to know of it too, where directories can be opened.
    let placed = match File::open(directory(path)) {
        Ok(directory) => directory.sync_all(),
        Err(_) => Ok(()),
    };
    // The file is written at its end from here on, because that is where it was left.
    Ok((Opened { file, path: path.to_owned(), next, bytes: bytes.len() as u64 }, placed))
}

/// Writes a file that is to take the place of an old one.
fn write(new: &Path, old: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = File::create(new)?;
    // Whoever may not read the old one may not read this one either.
    match fs::metadata(old) {
        Ok(old) => file.set_permissions(old.permissions())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

impl State {
    fn replay(&mut self, entry: Entry<'_>) {
        match entry {
            Entry::Client(record) => {
                let record = Arc::new(record.into_owned());
                self.put(&record.client_id.clone(), Some(record));
            }
            Entry::Deleted(id) => {
                self.put(&id, None);
            }
            Entry::Tiers(tiers) => {
                self.tiers = Arc::new(tiers.into_owned());
                self.tiers_set = true;
            }
        }
    }
}
