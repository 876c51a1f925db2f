//! The thread that writes, and those who wait for it.

use super::{
    super::{RegistryAnswer, RegistryError, state::State},
    JournalError,
    entry::{self, Entry},
    file::{self, Opened},
    lock::Lock,
};
use std::{
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    thread::{self, JoinHandle},
};

/// A file is written anew when it is this many bytes, and twice as many as when that was last done.
const COMPACT_FROM: u64 = 4 << 20;

/// Takes changes and tells when they are kept.
#[derive(Debug)]
pub(in super::super) struct Journal {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The thread has it too, because it may be the last to write.
    lock: Arc<Lock>,
}

#[derive(Debug)]
struct Queue {
    state: Mutex<Waiting>,
    /// There is something to do for the thread.
    work: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Changes that are to be written.
    bytes: Vec<u8>,
    /// The number of the next change in the file.
    next: u64,
    /// How many changes were taken, and how many of them are kept, since the journal was opened.
    taken: u64,
    kept: u64,
    wakers: Vec<Waker>,
    /// Why nothing can be kept any more.
    failed: Option<String>,
    closed: bool,
}

impl Journal {
    pub(super) fn new(opened: &Opened, lock: Lock) -> Self {
        let state = Mutex::new(Waiting { next: opened.next, ..Waiting::default() });
        let queue = Arc::new(Queue { state, work: Condvar::new() });
        Self { queue, thread: Mutex::default(), lock: Arc::new(lock) }
    }

    /// Starts to write. `snapshot` is all that there is, unless nobody needs it any more; while it is taken, no change is made
    /// and it does what it is given.
    pub(in super::super) fn start(
        &self,
        opened: Opened,
        snapshot: impl Fn(&mut dyn FnMut()) -> Option<State> + Send + 'static,
    ) -> Result<(), JournalError> {
        let path = opened.path.clone();
        let (queue, lock) = (self.queue.clone(), self.lock.clone());
        let last = opened.bytes;
        let thread = thread::Builder::new()
            .name("tidegate-journal".to_owned())
            .spawn(move || Writer { queue, opened, snapshot, last, _lock: lock }.run())
            .map_err(|source| JournalError::Io { path, source })?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// Takes a change, in the order in which changes are made. It is kept once the answer is there.
    pub(in super::super) fn write(&self, entry: &Entry<'_>) -> Result<RegistryAnswer<()>, RegistryError> {
        let mut state = self.queue.lock();
        if let Some(error) = &state.failed {
            return Err(RegistryError::unavailable(error.clone()));
        }
        let number = state.next;
        entry::push(&mut state.bytes, number, entry).map_err(RegistryError::unavailable)?;
        state.next += 1;
        state.taken += 1;
        let ticket = state.taken;
        drop(state);
        self.queue.work.notify_one();
        Ok(self.kept(ticket))
    }

    /// Answers once all changes that were taken until now are kept.
    pub(in super::super) fn settle(&self) -> Result<RegistryAnswer<()>, RegistryError> {
        let state = self.queue.lock();
        match &state.failed {
            Some(error) => Err(RegistryError::unavailable(error.clone())),
            None if state.kept == state.taken => Ok(RegistryAnswer::now(Ok(()))),
            None => Ok(self.kept(state.taken)),
        }
    }

    fn kept(&self, ticket: u64) -> RegistryAnswer<()> {
        let queue = self.queue.clone();
        RegistryAnswer::later(std::future::poll_fn(move |cx| {
            let mut state = queue.lock();
            if state.kept >= ticket {
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = &state.failed {
                return Poll::Ready(Err(RegistryError::unavailable(error.clone())));
            }
            if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.wakers.push(cx.waker().clone());
            }
            Poll::Pending
        }))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.work.notify_one();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // The writer itself may be the last one to let go of the registry.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer<S> {
    queue: Arc<Queue>,
    opened: Opened,
    snapshot: S,
    /// The bytes of the file when it was last written anew.
    last: u64,
    _lock: Arc<Lock>,
}

impl<S: Fn(&mut dyn FnMut()) -> Option<State>> Writer<S> {
    fn run(mut self) {
        loop {
            let mut state = self.queue.lock();
            while state.bytes.is_empty() && !state.closed {
                state = self.queue.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.bytes.is_empty() || state.failed.is_some() {
                return;
            }
            let (bytes, taken) = (mem::take(&mut state.bytes), state.taken);
            drop(state);
            if let Err(error) = self.append(&bytes) {
                return self.finish(taken, Some(format!("{:?}: {error}", self.opened.path)));
            }
            self.finish(taken, None);
            if self.opened.bytes >= COMPACT_FROM.max(2 * self.last) {
                if let Err(error) = self.compact() {
                    tracing::warn!(target: crate::observe::TARGET, %error, "a journal could not be written anew");
                    // Not with every change from now on.
                    self.last = self.opened.bytes;
                }
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.opened.file.write_all(bytes)?;
        self.opened.file.sync_data()?;
        self.opened.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Tells those who wait. After an error nothing is written any more: what is in the file is not known then.
    fn finish(&self, kept: u64, failed: Option<String>) {
        let mut state = self.queue.lock();
        match failed {
            None => state.kept = kept,
            Some(_) => state.failed = failed,
        }
        let wakers = mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Writes the file anew. While it does, changes are taken and wait.
    fn compact(&mut self) -> io::Result<()> {
        // No change is made meanwhile, so that the snapshot has all that were taken, and no other.
        let (mut bytes, mut next, mut taken) = Default::default();
        let snapshot = (self.snapshot)(&mut || {
            let mut state = self.queue.lock();
            (bytes, next, taken) = (mem::take(&mut state.bytes), state.next, state.taken);
        });
        let Some(snapshot) = snapshot else { return Ok(()) };
        let result = file::rewrite(&self.opened.path, &snapshot, next);
        match result {
            Ok((opened, placed)) => {
                (self.last, self.opened) = (opened.bytes, opened);
                self.finish(taken, placed.err().map(|error| format!("{:?}: {error}", self.opened.path)));
                Ok(())
            }
            Err(error) => {
                let failed =
                    self.append(&bytes).err().map(|error| format!("{:?}: {error}", self.opened.path));
                self.finish(taken, failed);
                Err(error)
            }
        }
    }
}
