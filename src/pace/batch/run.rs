//! Batches on their way: a task for each key that has something to send.

use super::{Batch, BatchPlan, PushError};
use crate::{
    Decision, Event, Identity, PaceError, PaceFuture, Pacer,
    pace::{
        Costs,
        timer::{Instant, first, go_on, now, wait},
    },
};
use std::{
    collections::{HashMap, VecDeque},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    thread,
    time::Duration,
};
use tokio::sync::{Notify, watch};

pub(super) type Sending = Pin<Box<dyn Future<Output = ()> + Send>>;
type SendBy<T> = dyn Fn(Batch<T>) -> Sending + Send + Sync;
type DivertBy<T> = dyn Fn(Batch<T>, PaceError) -> Sending + Send + Sync;

pub(super) struct Shared<T> {
    pacer: Pacer,
    pub(super) plan: BatchPlan,
    send: Box<SendBy<T>>,
    divert: Box<DivertBy<T>>,
    lanes: Mutex<HashMap<String, Lane<T>>>,
    phase: watch::Sender<Phase>,
    /// Tells when something was sent.
    sent: Notify,
    rejected: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    Closing,
    /// The deadline is over.
    Over,
}

/// What a key has to send.
struct Lane<T> {
    items: VecDeque<(T, u32, Instant)>,
    bytes: u64,
    /// How many are being sent.
    sending: usize,
    /// Tells when a batch is full.
    full: Arc<Notify>,
}

impl<T> Lane<T> {
    fn pending(&self) -> usize {
        self.items.len() + self.sending
    }

    fn is_full(&self, plan: &BatchPlan) -> bool {
        self.items.len() >= plan.items || self.bytes >= plan.bytes
    }

    /// As many of the first items as fit.
    fn take(&mut self, plan: &BatchPlan, key: &str) -> Batch<T> {
        let mut batch = Batch { key: key.to_owned(), items: Vec::new(), bytes: 0 };
        while batch.items.len() < plan.items {
            let Some((_, bytes, _)) = self.items.front() else { break };
            let sum = batch.bytes.saturating_add(u64::from(*bytes));
            if sum > plan.bytes && !batch.items.is_empty() {
                break;
            }
            batch.bytes = sum;
            batch.items.extend(self.items.pop_front().map(|(item, ..)| item));
        }
        self.bytes -= batch.bytes;
        self.sending = batch.items.len();
        batch
    }
}

impl<T: Send + 'static> Shared<T> {
    pub(super) fn new(pacer: Pacer, plan: BatchPlan, send: Box<SendBy<T>>, divert: Box<DivertBy<T>>) -> Self {
        let (phase, _) = watch::channel(Phase::Open);
        let (lanes, sent, rejected) = (Mutex::default(), Notify::new(), AtomicU64::new(0));
        Self { pacer, plan, send, divert, lanes, phase, sent, rejected }
    }

    pub(super) async fn push(self: &Arc<Self>, key: &str, item: T, bytes: u32) -> Result<(), PushError> {
        let mut item = Some(item);
        loop {
            let mut sent = pin!(self.sent.notified());
            // Before the look, or what is sent in between would not be heard of.
            sent.as_mut().enable();
            if *self.phase.borrow() != Phase::Open {
                return Err(PushError::Closed);
            }
            if self.try_push(key, &mut item, bytes) {
                return Ok(());
            }
            let mut phase = self.phase.subscribe();
            first(sent, phase.wait_for(|phase| *phase != Phase::Open)).await;
        }
    }

    /// Takes the item if there is room.
    fn try_push(self: &Arc<Self>, key: &str, item: &mut Option<T>, bytes: u32) -> bool {
        let mut lanes = self.lanes();
        if lanes.get(key).is_some_and(|lane| lane.pending() >= self.plan.pending) {
            return false;
        }
        let Some(item) = item.take() else { return true };
        let is_new = !lanes.contains_key(key);
        let lane = lanes.entry(key.to_owned()).or_insert_with(|| Lane {
            items: VecDeque::new(),
            bytes: 0,
            sending: 0,
            full: Arc::default(),
        });
        lane.items.push_back((item, bytes, now()));
        lane.bytes = lane.bytes.saturating_add(bytes.into());
        if lane.is_full(&self.plan) {
            lane.full.notify_one();
        }
        drop(lanes);
        if is_new {
            go_on(Running::new(self.clone(), key.to_owned()).run());
        }
        true
    }

    pub(super) async fn close(&self, deadline: Duration) -> usize {
        self.advance(Phase::Closing);
        let mut done = Box::pin(async {
            loop {
                let mut sent = pin!(self.sent.notified());
                sent.as_mut().enable();
                if self.pending() == 0 {
                    return;
                }
                sent.await;
            }
        });
        wait(deadline, |cx| done.as_mut().poll(cx)).await;
        drop(done);
        let unsent = self.pending();
        self.advance(Phase::Over);
        unsent
    }

    fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
    }

    pub(super) fn pending(&self) -> usize {
        self.lanes().values().map(Lane::pending).sum()
    }

    pub(super) fn rejected(&self) -> u64 {
        self.rejected.load(Relaxed)
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<String, Lane<T>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of a key. If the closure panics, what else the key has goes on in another one.
struct Running<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    key: String,
    /// Whether it has come to its end, rather than being dropped on the way.
    ended: bool,
    /// Whether a closure runs, which may panic.
    calls: bool,
}

impl<T: Send + 'static> Running<T> {
    const fn new(shared: Arc<Shared<T>>, key: String) -> Self {
        Self { shared, key, ended: false, calls: false }
    }

    async fn run(mut self) {
        let mut phase = self.shared.phase.subscribe();
        while let Some((full, due)) = self.next() {
            let now = *phase.borrow();
            if now == Phase::Open && !due.is_zero() {
                let closing = phase.wait_for(|phase| *phase != Phase::Open);
                let (mut full, mut closing) = (pin!(full.notified()), pin!(closing));
                wait(due, |cx| match full.as_mut().poll(cx) {
                    Poll::Pending => closing.as_mut().poll(cx).map(|_| ()),
                    full => full,
                })
                .await;
                continue;
            }
            if now == Phase::Over {
                return;
            }
            let Some(batch) = self.take() else { continue };
            let over = phase.wait_for(|phase| *phase == Phase::Over);
            match first(self.pace(&batch), over).await {
                Some(paced) => {
                    self.calls = true;
                    self.send(batch, paced).await;
                    self.calls = false;
                }
                None => return,
            }
            self.done();
        }
        self.ended = true;
    }

    /// What tells that a batch is full, and when it goes if it does not become so; nothing where the key has nothing.
    fn next(&self) -> Option<(Arc<Notify>, Duration)> {
        let lanes = self.shared.lanes();
        let lane = lanes.get(&self.key)?;
        let (_, _, since) = lane.items.front()?;
        let due = if lane.is_full(&self.shared.plan) { Duration::ZERO } else { self.shared.plan.interval };
        Some((lane.full.clone(), due.saturating_sub(since.elapsed())))
    }

    fn take(&self) -> Option<Batch<T>> {
        let mut lanes = self.shared.lanes();
        lanes.get_mut(&self.key).map(|lane| lane.take(&self.shared.plan, &self.key))
    }

    fn pace(&self, batch: &Batch<T>) -> PaceFuture {
        let plan = &self.shared.plan;
        let costs = plan.costs(batch.items.len(), batch.bytes);
        let key = Identity::name(self.key.as_str());
        self.shared.pacer.until_ready(key, Costs::from(&costs[..])).priority(plan.priority)
    }

    async fn send(&self, batch: Batch<T>, paced: Result<Decision, PaceError>) {
        let Shared { pacer, send, divert, rejected, .. } = &*self.shared;
        let (items, bytes) = (batch.items.len(), batch.bytes);
        match paced {
            Ok(_) => {
                pacer.emit(&Event::Batched { items, bytes });
                send(batch).await;
            }
            Err(error) => {
                rejected.fetch_add(items as u64, Relaxed);
                pacer.emit(&Event::Diverted);
                divert(batch, error).await;
            }
        }
    }

    fn done(&self) {
        if let Some(lane) = self.shared.lanes().get_mut(&self.key) {
            lane.sending = 0;
        }
        self.shared.sent.notify_waiters();
    }
}

impl<T: Send + 'static> Drop for Running<T> {
    fn drop(&mut self) {
        let mut lanes = self.shared.lanes();
        // A runtime that shuts down drops its tasks too, and runs no others.
        let may_go_on = self.ended || self.calls && thread::panicking();
        let goes_on = lanes.get_mut(&self.key).is_some_and(|lane| {
            lane.sending = 0;
            may_go_on && !lane.items.is_empty()
        });
        if !goes_on {
            lanes.remove(&self.key);
        }
        drop(lanes);
        self.shared.sent.notify_waiters();
        if goes_on {
            go_on(Self::new(self.shared.clone(), self.key.clone()).run());
        }
    }
}
