//! How many connections an upstream has, over all workers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The places for an upstream's connections.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Somebody waits: connections that nobody uses are worth more closed.
    wanted: Notify,
    /// As many as each worker may keep while another waits.
    share: usize,
}

impl Gate {
    pub(crate) fn new(places: usize, workers: usize) -> Self {
        let places = places.min(Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(places)),
            waiting: AtomicUsize::new(0),
            wanted: Notify::new(),
            share: places / workers.max(1),
        }
    }

    pub(crate) fn share(&self) -> usize {
        self.share
    }

    pub(crate) fn is_full(&self) -> bool {
        self.places.available_permits() == 0
    }

    /// How many wait for a place.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Until somebody waits for a place.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    pub(crate) fn try_enter(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Waits for a place, in line with all workers.
    pub(crate) async fn enter(&self) -> OwnedSemaphorePermit {
        let _waiting = Waiting::new(&self.waiting);
        self.wanted.notify_waiters();
        match self.places.clone().acquire_owned().await {
            Ok(permit) => permit,
            // It is never closed.
            Err(_) => std::future::pending().await,
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
