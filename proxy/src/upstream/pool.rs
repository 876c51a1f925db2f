//! One worker's connections that nobody uses at the moment.

use super::{Gate, Link};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};

/// How often connections are looked at that nobody uses.
const SWEEP: Duration = Duration::from_secs(1);

/// Connections to an upstream for one worker thread, so its lock is never waited for.
#[derive(Debug)]
pub(crate) struct Pool {
    gate: Arc<Gate>,
    keep: Duration,
    held: Arc<AtomicUsize>,
    resting: Mutex<Resting>,
}

#[derive(Debug, Default)]
struct Resting {
    /// The one used last at the end, which is the likeliest to live.
    links: Vec<(Instant, Box<Link>)>,
    /// Requests of this worker that wait for a connection.
    waiting: VecDeque<oneshot::Sender<Box<Link>>>,
}

/// A place for a connection, given back with it.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    held: Arc<AtomicUsize>,
}

/// What a request without a connection gets.
pub(crate) enum Obtained {
    Link(Box<Link>),
    Place(Place),
}

impl Pool {
    pub(crate) fn new(gate: Arc<Gate>, keep: Duration) -> Self {
        Self { gate, keep, held: Arc::default(), resting: Mutex::default() }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.gate.is_full()
    }

    fn resting(&self) -> MutexGuard<'_, Resting> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that is kept and was not closed by the upstream, as far as is known.
    pub(crate) fn take(&self) -> Option<Box<Link>> {
        loop {
            let (since, mut link) = self.resting().links.pop()?;
            if since.elapsed() < self.keep && link.is_usable() {
                return Some(link);
            }
        }
    }

    /// A place for a new connection, or a connection that comes back before there is one.
    pub(crate) async fn obtain(&self) -> Obtained {
        if let Some(permit) = self.gate.try_enter() {
            return Obtained::Place(self.take_place(permit));
        }
        let (give, given) = oneshot::channel();
        self.resting().waiting.push_back(give);
        tokio::select! {
            biased;
            Ok(link) = given => Obtained::Link(link),
            permit = self.gate.enter() => Obtained::Place(self.take_place(permit)),
        }
    }

    /// A place for a new connection.
    pub(crate) async fn place(&self) -> Place {
        let permit = match self.gate.try_enter() {
            Some(permit) => permit,
            None => self.gate.enter().await,
        };
        self.take_place(permit)
    }

    fn take_place(&self, permit: OwnedSemaphorePermit) -> Place {
        self.held.fetch_add(1, Relaxed);
        Place { _permit: permit, held: self.held.clone() }
    }

    /// Keeps a connection for the next request, or gives its place to another worker that waits and has fewer.
    pub(crate) fn put(&self, mut link: Box<Link>) {
        if !link.is_usable() {
            return;
        }
        let mut resting = self.resting();
        if self.gate.waiting() > 0 {
            resting.waiting.retain(|waiting| !waiting.is_closed());
            let others = self.gate.waiting() > resting.waiting.len();
            if others && self.held.load(Relaxed) > self.gate.share() {
                return;
            }
            while let Some(waiting) = resting.waiting.pop_front() {
                match waiting.send(link) {
                    Ok(()) => return,
                    Err(back) => link = back,
                }
            }
        }
        resting.links.push((Instant::now(), link));
    }

    /// Closes what is kept for too long, or was closed by the upstream, or is wanted elsewhere. Runs as long as the worker.
    pub(crate) async fn sweep(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.gate.wanted() => {}
                () = tokio::time::sleep(SWEEP) => {}
            }
            let is_wanted = self.gate.waiting() > 0;
            let links = std::mem::take(&mut self.resting().links);
            let keep = |(since, link): &mut (Instant, Box<Link>)| {
                !is_wanted && since.elapsed() < self.keep && link.is_usable()
            };
            let mut kept: Vec<_> =
                links.into_iter().filter_map(|mut kept| keep(&mut kept).then_some(kept)).collect();
            let mut resting = self.resting();
            kept.append(&mut resting.links);
            resting.links = kept;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Relaxed);
    }
}
