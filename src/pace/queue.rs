//! Who waits, and whose turn it is. It knows nothing of time, limits or any runtime.
//!
//! Each key has a queue, first come first served. Where limits are shared by all keys, the heads of the queues take
//! turns: next is whose key would have had the least, in units, when it is served (self-clocked fair queueing, Golestani
//! 1994). A head whose own limits make it wait takes no turn.

use crate::Key;
use smallvec::SmallVec;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// Units of each limit.
pub(super) type Units = SmallVec<[u32; 4]>;
/// Sums of units of each limit.
pub(super) type Sums = SmallVec<[u64; 4]>;
/// When a head is served: what its key has had by then, and who came first.
type Turn = (u64, u64);

/// So many may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) each: usize,
    pub(super) all: usize,
}

#[derive(Debug)]
pub(super) struct Queues {
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queues: HashMap<Key, Queue>,
    turns: BTreeMap<Turn, Key>,
    /// What the key that was served last had had by then.
    served: u64,
    waiting: usize,
    next_id: u64,
}

#[derive(Debug, Default)]
struct Queue {
    waiters: VecDeque<Waiter>,
    turn: Option<Turn>,
    /// What the key has had since its queue was last empty.
    had: u64,
    /// The sums of what the waiters cost.
    sums: Sums,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    units: Units,
    /// Whether it counts against the bounds; whoever only looks does not.
    waits: bool,
    waker: Option<Waker>,
}

/// There are as many waiting as may.
#[derive(Debug)]
pub(super) struct Full;

impl Queues {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, state: Mutex::default() }
    }

    /// Takes a place at the end of a key's queue. At its head nobody waits yet.
    pub(super) fn enter(self: &Arc<Self>, key: Key, units: &Units) -> Result<Ticket, Full> {
        let mut state = self.lock();
        let state = &mut *state;
        let queue = state.queues.entry(key).or_default();
        let waits = !queue.waiters.is_empty();
        if waits {
            // A queue that is there holds somebody, so it need not be removed again.
            let head = usize::from(queue.waiters.front().is_some_and(|head| head.waits));
            self.bounds.allow(queue.waiters.len() - 1 + head, state.waiting)?;
            state.waiting += 1;
        }
        let id = state.next_id;
        state.next_id += 1;
        queue.sums.resize(units.len().max(queue.sums.len()), 0);
        for (sum, units) in queue.sums.iter_mut().zip(units) {
            *sum += u64::from(*units);
        }
        queue.waiters.push_back(Waiter { id, units: units.clone(), waits, waker: None });
        Ok(Ticket { queues: self.clone(), key, id, served: false })
    }

    /// What all that wait for a key cost together.
    pub(super) fn sums(&self, key: Key) -> Sums {
        self.lock().queues.get(&key).map(|queue| queue.sums.clone()).unwrap_or_default()
    }

    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bounds {
    /// Whether one more may wait, beside so many of its key and of all keys.
    const fn allow(self, each: usize, all: usize) -> Result<(), Full> {
        if each < self.each && all < self.all { Ok(()) } else { Err(Full) }
    }
}

/// A place in a queue, which is left when this is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    queues: Arc<Queues>,
    key: Key,
    id: u64,
    served: bool,
}

impl Ticket {
    /// Ready at the head of the key's queue.
    pub(super) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.queues.lock();
        let Some(queue) = state.queues.get_mut(&self.key) else { return Poll::Ready(()) };
        if queue.waiters.front().is_none_or(|waiter| waiter.id == self.id) {
            return Poll::Ready(());
        }
        if let Ok(place) = queue.waiters.binary_search_by_key(&self.id, |waiter| waiter.id) {
            queue.waiters[place].wake_by(cx);
        }
        Poll::Pending
    }

    /// Ready when the head's turn at the shared limits has come.
    pub(super) fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.queues.lock();
        let State { queues, turns, served, .. } = &mut *state;
        let Some(queue) = queues.get_mut(&self.key) else { return Poll::Ready(()) };
        let Some(head) = queue.waiters.front_mut() else { return Poll::Ready(()) };
        let turn = *queue.turn.get_or_insert_with(|| {
            let most = head.units.iter().copied().max().unwrap_or(0);
            let turn = (queue.had.max(*served).saturating_add(most.into()), self.id);
            turns.insert(turn, self.key);
            turn
        });
        if turns.first_key_value().is_none_or(|(first, _)| *first == turn) {
            return Poll::Ready(());
        }
        head.wake_by(cx);
        Poll::Pending
    }

    /// Lets the others go first, as long as the key's own limits make it wait.
    pub(super) fn pass_turn(&self) {
        let mut state = self.queues.lock();
        let turn = state.queues.get_mut(&self.key).and_then(|queue| queue.turn.take());
        let next = turn.and_then(|turn| state.end_turn(turn));
        drop(state);
        wake([next, None]);
    }

    /// Counts the head among those that wait.
    pub(super) fn stay(&self) -> Result<(), Full> {
        let mut state = self.queues.lock();
        let State { queues, waiting, .. } = &mut *state;
        let Some(queue) = queues.get_mut(&self.key) else { return Ok(()) };
        if queue.waiters.front().is_none_or(|head| head.waits) {
            return Ok(());
        }
        // All that came after it wait.
        self.queues.bounds.allow(queue.waiters.len() - 1, *waiting)?;
        *waiting += 1;
        if let Some(head) = queue.waiters.front_mut() {
            head.waits = true;
        }
        Ok(())
    }

    /// What those who are ahead in the queue cost.
    pub(super) fn ahead(&self) -> Sums {
        let state = self.queues.lock();
        let mut sums = Sums::new();
        let Some(queue) = state.queues.get(&self.key) else { return sums };
        sums.clone_from(&queue.sums);
        for waiter in queue.waiters.iter().rev().take_while(|waiter| waiter.id >= self.id) {
            for (sum, units) in sums.iter_mut().zip(&waiter.units) {
                *sum -= u64::from(*units);
            }
        }
        sums
    }

    /// Leaves as one that was served.
    pub(super) fn serve(mut self) {
        self.served = true;
    }
}

impl State {
    /// Takes a ticket's place away, and answers with whom to wake.
    fn leave(&mut self, ticket: &Ticket) -> [Option<Waker>; 2] {
        let Some(queue) = self.queues.get_mut(&ticket.key) else { return [None, None] };
        let place = queue.waiters.binary_search_by_key(&ticket.id, |waiter| waiter.id);
        let Some((place, gone)) = place.ok().and_then(|place| Some((place, queue.waiters.remove(place)?)))
        else {
            return [None, None];
        };
        self.waiting -= usize::from(gone.waits);
        for (sum, units) in queue.sums.iter_mut().zip(&gone.units) {
            *sum -= u64::from(*units);
        }
        let turn = if place == 0 { queue.turn.take() } else { None };
        if let Some((had, _)) = turn.filter(|_| ticket.served) {
            queue.had = had;
            self.served = had;
        }
        let next = queue.waiters.front_mut().filter(|_| place == 0).and_then(|head| head.waker.take());
        if queue.waiters.is_empty() {
            self.queues.remove(&ticket.key);
        }
        [next, turn.and_then(|turn| self.end_turn(turn))]
    }

    /// Ends a turn, and answers with whom to wake.
    fn end_turn(&mut self, turn: Turn) -> Option<Waker> {
        let was_first = self.turns.first_key_value().is_some_and(|(first, _)| *first == turn);
        self.turns.remove(&turn);
        let (_, key) = self.turns.first_key_value().filter(|_| was_first)?;
        self.queues.get_mut(key)?.waiters.front_mut()?.waker.take()
    }
}

impl Waiter {
    fn wake_by(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            waker => *waker = Some(cx.waker().clone()),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let wakers = self.queues.lock().leave(self);
        wake(wakers);
    }
}

/// Outside of the lock, because a waker may poll at once.
fn wake(wakers: [Option<Waker>; 2]) {
    for waker in wakers.into_iter().flatten() {
        waker.wake();
    }
}
