use std::{error::Error, fmt, io, path::PathBuf};

/// Why a journal cannot be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum JournalError {
    /// It cannot be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// It is open already, in another process or in this one.
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is some other file.
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It is damaged. Nothing of it was changed.
    Damaged {
        /// The file.
        path: PathBuf,
        /// The bytes from its beginning that are intact.
        intact_bytes: u64,
        /// The bytes that it has.
        bytes: u64,
        /// The changes that are intact.
        changes: u64,
        /// The clients that there were after them.
        clients: usize,
    },
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source } => write!(f, "journal {path:?}: {source}"),
            Self::InUse { path } => write!(
                f,
                "journal {path:?} is open already, in another process or in this one; end that one, or name another file"
            ),
            Self::Foreign { path } => {
                write!(
                    f,
                    "{path:?} is no journal of this version; name another file, or one that does not exist"
                )
            }
            Self::Damaged { path, intact_bytes, bytes, changes, clients } => write!(
                f,
                "journal {path:?} is damaged after byte {intact_bytes} of {bytes}: {changes} changes before that are intact and leave {clients} clients; restore it from a copy, or keep one and cut the file there to go on with these"
            ),
        }
    }
}

impl Error for JournalError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
