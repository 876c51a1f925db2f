//! What a client's connection is doing, for whoever watches its time.

use crate::settings::ServerTimeouts;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

/// How long a closing connection is read from, so that the client sees our last bytes before a reset.
const LINGER: Duration = Duration::from_secs(2);

/// How long a connection that nobody uses stays open when the server stops: a request may be on its way.
pub(crate) const LAST_CALL: Duration = Duration::from_millis(500);

/// Marks of a connection's time. Requests move them, and one timer looks at them: no timer is set or taken back for a
/// request.
#[derive(Debug)]
pub(crate) struct Pulse {
    began: Instant,
    /// HTTP/2: what is read need not be a request's head.
    is_http2: AtomicBool,
    in_flight: AtomicU32,
    idle: Mark,
    head: Mark,
    blocked: Mark,
    closing: Mark,
}

/// When something began, in microseconds since the connection did; 0 while it does not last.
#[derive(Debug, Default)]
struct Mark(AtomicU64);

impl Mark {
    fn set(&self, at: Duration) {
        self.0.store(u64::try_from(at.as_micros()).unwrap_or(u64::MAX).max(1), Relaxed);
    }

    fn clear(&self) {
        self.0.store(0, Relaxed);
    }

    fn get(&self) -> Option<Duration> {
        match self.0.load(Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }
}

/// What is to be done with a connection at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing before this.
    At(Instant),
    /// Nobody uses it: say so and close it.
    Close,
    /// Its client is too slow: drop it.
    Drop,
}

impl Pulse {
    /// A connection that was just accepted.
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            is_http2: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
            idle: Mark::default(),
            head: Mark::default(),
            blocked: Mark::default(),
            closing: Mark::default(),
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// From here on the client speaks HTTP/2.
    pub(crate) fn goes_on_in_http2(&self) {
        self.is_http2.store(true, Relaxed);
        self.head.clear();
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.is_http2.load(Relaxed)
    }

    /// Bytes have come: the head of a request, where none is running.
    pub(crate) fn read(&self) {
        if self.in_flight.load(Relaxed) == 0 && self.head.get().is_none() && !self.is_http2() {
            self.head.set(self.now());
        }
    }

    /// The client takes no more bytes for now, or does again.
    pub(crate) fn blocked(&self, blocked: bool) {
        match (blocked, self.blocked.get()) {
            (true, None) => self.blocked.set(self.now()),
            (false, Some(_)) => self.blocked.clear(),
            _ => {}
        }
    }

    /// All is written, and the client shall close.
    pub(crate) fn lingers(&self) {
        if self.closing.get().is_none() {
            self.closing.set(self.now());
        }
    }

    pub(crate) fn is_lingering(&self) -> bool {
        self.closing.get().is_some()
    }

    /// A request runs until what is returned is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.head.clear();
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(self.clone())
    }

    /// What to do now. `stopping` says since when the server has been stopping, if it is.
    pub(crate) fn due(&self, timeouts: &ServerTimeouts, stopping: Option<Instant>) -> Due {
        let now = self.now();
        let at = |begun: Duration, span: Duration, then| {
            let due = begun + span;
            // Whatever begins from now on is not due before the shortest of all.
            if due <= now { then } else { Due::At(self.began + due.min(now + shortest(timeouts))) }
        };
        if let Some(blocked) = self.blocked.get() {
            return at(blocked, timeouts.write.get(), Due::Drop);
        }
        if self.in_flight.load(Relaxed) > 0 {
            return Due::At(self.began + now + shortest(timeouts));
        }
        if let Some(closing) = self.closing.get() {
            return at(closing, LINGER, Due::Drop);
        }
        if let Some(head) = self.head.get() {
            return at(head, timeouts.head.get(), Due::Drop);
        }
        let stopping = stopping.map(|stopping| stopping.saturating_duration_since(self.began));
        match (stopping, self.idle.get()) {
            (Some(stopping), idle) => at(idle.unwrap_or_default().max(stopping), LAST_CALL, Due::Close),
            (None, Some(idle)) => at(idle, timeouts.idle.get(), Due::Close),
            (None, None) if self.is_http2() => at(Duration::ZERO, timeouts.idle.get(), Due::Close),
            // Whoever connects has something to ask.
            (None, None) => at(Duration::ZERO, timeouts.head.get(), Due::Close),
        }
    }

    /// When to look for the first time.
    pub(crate) fn first_look(&self, timeouts: &ServerTimeouts) -> Instant {
        self.began + shortest(timeouts)
    }
}

fn shortest(timeouts: &ServerTimeouts) -> Duration {
    timeouts.write.min(timeouts.idle).min(timeouts.head).get()
}

/// A request that runs on a connection.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Pulse>);

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Relaxed) == 1 {
            self.0.idle.set(self.0.now());
        }
    }
}
