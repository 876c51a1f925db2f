//! Lines on their way to a file.

use super::LogTarget;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

/// So many bytes may wait to be written.
const ROOM: usize = 4 << 20;

/// So much of that is kept while little is written.
const KEPT: usize = 64 << 10;

/// A line waits so long for others, because a write of many costs as much as a write of one.
const GATHER: Duration = Duration::from_millis(50);

/// How often it is looked whether a file is still where it was.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is told that lines are lost.
const COMPLAIN: Duration = Duration::from_secs(60);

/// How long the last lines may take.
const LAST: Duration = Duration::from_secs(2);

/// Takes lines, which a thread of its own writes. Nobody waits for it: lines for which there is no room are counted.
#[derive(Debug)]
pub(super) struct Sink {
    shared: Arc<Shared>,
    ended: Mutex<Option<Receiver<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    count: u64,
    dropped: u64,
    is_closed: bool,
}

impl Sink {
    /// Begins to write.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened, or no thread can be made.
    pub(super) fn open(target: &LogTarget) -> io::Result<Self> {
        let mut output = Output::open(target)?;
        let shared = Arc::new(Shared::default());
        let (tell, ended) = mpsc::channel();
        let writing = shared.clone();
        thread::Builder::new().name("access-log".into()).spawn(move || {
            let _tell = tell;
            writing.run(&mut output);
        })?;
        Ok(Self { shared, ended: Mutex::new(Some(ended)) })
    }

    /// Adds a line, if there is room.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.shared.state();
        if state.lines.len() + line.len() > ROOM {
            state.dropped += 1;
            return;
        }
        state.lines.extend_from_slice(line);
        state.count += 1;
        let is_first = state.count == 1;
        drop(state);
        if is_first {
            self.shared.changed.notify_one();
        }
    }

    /// Waits until all is written, though not for long.
    pub(super) fn close(&self) {
        self.shared.state().is_closed = true;
        self.shared.changed.notify_one();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            let _ = ended.recv_timeout(LAST);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until it is closed and nothing is left.
    fn run(&self, output: &mut Output) {
        let mut lines = Vec::new();
        let mut complained: Option<Instant> = None;
        let mut lost = 0;
        loop {
            let Some((count, dropped)) = self.next(&mut lines) else { return };
            let failed = output.write(&lines).err();
            lines.clear();
            lines.shrink_to(KEPT);
            let lost_now = dropped + if failed.is_some() { count } else { 0 };
            ::metrics::counter!(super::LINES_LOST).increment(lost_now);
            lost += lost_now;
            if lost > 0 && complained.is_none_or(|last| last.elapsed() >= COMPLAIN) {
                complained = Some(Instant::now());
                let why = failed.map_or_else(
                    || "they come faster than they are written".into(),
                    |error| error.to_string(),
                );
                tracing::warn!(lines = lost, why, "lines of the access log are lost");
                lost = 0;
            }
        }
    }

    /// Takes what waits, once that is something: how many lines it is, and how many there was no room for.
    fn next(&self, lines: &mut Vec<u8>) -> Option<(u64, u64)> {
        let mut state = self.state();
        while state.lines.is_empty() && !state.is_closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.lines.is_empty() {
            return None;
        }
        if !state.is_closed {
            drop(state);
            thread::sleep(GATHER);
            state = self.state();
        }
        std::mem::swap(&mut state.lines, lines);
        Some((std::mem::take(&mut state.count), std::mem::take(&mut state.dropped)))
    }
}

/// Where lines go.
enum Output {
    Stdout,
    File { path: PathBuf, file: File, looked: Instant },
}

impl Output {
    fn open(target: &LogTarget) -> io::Result<Self> {
        Ok(match target {
            LogTarget::Stdout => Self::Stdout,
            LogTarget::File(path) => {
                Self::File { path: path.clone(), file: append(path)?, looked: Instant::now() }
            }
        })
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines)?;
                stdout.flush()
            }
            Self::File { path, file, looked } => {
                if looked.elapsed() >= LOOK {
                    *looked = Instant::now();
                    if !is_at(file, path) {
                        *file = append(path)?;
                    }
                }
                file.write_all(lines)
            }
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    // Who asked for what is nobody else's business.
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// Whether a file was neither moved nor removed.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    let there = path.metadata().map(place).ok();
    there.is_some() && there == file.metadata().map(place).ok()
}
