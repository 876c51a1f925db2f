//! No two processes write one journal.

use super::JournalError;
use fs4::{FileExt, TryLockError};
use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

/// Keeps others out until it is dropped, or the process ends however it may.
///
/// It is on a file beside the journal, because the journal itself is replaced when it is written anew. That file stays: by
/// removing it, one process could remove the one that another has just locked.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    pub(super) fn take(journal: &Path) -> Result<Self, JournalError> {
        let path = beside(journal, ".lock");
        let io = |source| JournalError::Io { path: path.clone(), source };
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(io)?;
        // In newer Rust a file has a method of this name itself.
        match FileExt::try_lock(&file) {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(JournalError::InUse { path: journal.to_owned() }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }
}

/// Closing the file is not enough: a process that is being started has it open too for a moment.
impl Drop for Lock {
    fn drop(&mut self) {
        let _ = FileExt::unlock(&self.file);
    }
}

/// The one name that a journal has, whatever links lead to it: otherwise each had a lock of its own.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, JournalError> {
    let io = |source| JournalError::Io { path: path.to_owned(), source };
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        resolved => return resolved.map_err(io),
    }
    let Some(name) = path.file_name() else {
        return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "it does not name a file")));
    };
    fs::canonicalize(directory(path)).map(|directory| directory.join(name)).map_err(io)
}

/// The directory that a file is in.
pub(super) fn directory(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The file that has the journal's name and something more.
pub(super) fn beside(journal: &Path, more: &str) -> PathBuf {
    let mut name = journal.file_name().unwrap_or_default().to_owned();
    name.push(more);
    journal.with_file_name(name)
}
