//! A place in a queue, as its holder sees it.

use super::{
    Baton, Full, Handing, Queue, Queues, State, Sums, Turn,
    lane::{add_sums, sum},
    wake,
};
use crate::Key;
use std::{
    sync::Arc,
    task::{Context, Poll},
};

/// A place in a queue, which is left when this is dropped.
#[derive(Debug)]
pub(in super::super) struct Ticket {
    pub(super) queues: Arc<Queues>,
    pub(super) key: Key,
    pub(super) lane: usize,
    pub(super) served: bool,
    pub(super) id: u64,
}

/// What has become of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Place {
    /// It is the head of the queue.
    Head,
    /// Its time is over.
    Expired,
}

impl Ticket {
    /// Ready at the head of the key's queue, with what was left to it, and when the time is over.
    pub(in super::super) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<(Place, Option<Box<Baton>>)> {
        let mut state = self.queues.lock();
        let Some(queue) = state.queues.get_mut(&self.key) else {
            return Poll::Ready((Place::Expired, None));
        };
        if self.leads(queue) {
            let baton = queue.head().and_then(|head| head.baton.take());
            return Poll::Ready((Place::Head, baton));
        }
        match queue.lanes[self.lane].get_mut(self.id) {
            Some(waiter) if !waiter.expired => {
                waiter.wake_by(cx);
                Poll::Pending
            }
            _ => Poll::Ready((Place::Expired, None)),
        }
    }

    /// Ready when the head's turn at the shared limits has come.
    pub(in super::super) fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.queues.lock();
        let turn = self.turn(&mut state);
        if turn.is_some_and(|turn| state.next_turn().is_none_or(|(next, _)| next == turn)) {
            return Poll::Ready(());
        }
        let queue = state.queues.get_mut(&self.key);
        if let Some(waiter) = queue.and_then(|queue| queue.lanes[self.lane].get_mut(self.id)) {
            waiter.wake_by(cx);
        }
        Poll::Pending
    }

    /// The head's turn. Who was overtaken has none: whoever is the head takes it.
    fn turn(&self, state: &mut State) -> Option<Turn> {
        state.queues.get(&self.key).filter(|queue| self.leads(queue))?;
        state.take_turn(self.key)
    }

    /// Lets the others go first, as long as the key's own limits make it wait.
    pub(in super::super) fn pass_turn(&self) {
        let mut state = self.queues.lock();
        let queue = state.queues.get_mut(&self.key).filter(|queue| self.leads(queue));
        let next = queue.and_then(|queue| queue.turn.take()).and_then(|turn| state.end_turn(turn));
        drop(state);
        wake(next.into_iter().collect());
    }

    /// Counts the head among those that wait.
    pub(in super::super) fn stay(&self) -> Result<(), Full> {
        let mut state = self.queues.lock();
        let State { queues, waiting, .. } = &mut *state;
        let Some(queue) = queues.get_mut(&self.key).filter(|queue| self.leads(queue)) else { return Ok(()) };
        if queue.head().is_none_or(|head| head.waits) {
            return Ok(());
        }
        self.queues.bounds.allow(queue.waiting, *waiting)?;
        *waiting += 1;
        queue.waiting += 1;
        if let Some(head) = queue.head() {
            head.waits = true;
        }
        Ok(())
    }

    /// Keeps the head from being overtaken while it is charged; answers whether it is the head.
    pub(in super::super) fn begin(&self) -> bool {
        let mut state = self.queues.lock();
        let queue = state.queues.get_mut(&self.key).filter(|queue| self.leads(queue));
        queue.map(|queue| queue.busy = true).is_some()
    }

    /// The head was not charged, and may be overtaken.
    pub(in super::super) fn end(&self) {
        let mut state = self.queues.lock();
        if let Some(queue) = state.queues.get_mut(&self.key).filter(|queue| self.leads(queue)) {
            queue.busy = false;
        }
        let wakers = state.elect(self.key);
        drop(state);
        wake(wakers);
    }

    /// What those who are ahead in the queue cost.
    pub(in super::super) fn ahead(&self) -> Sums {
        let state = self.queues.lock();
        let Some(queue) = state.queues.get(&self.key) else { return Sums::new() };
        let mut sums = sum(queue.lanes[..self.lane].iter());
        add_sums(&mut sums, &queue.lanes[self.lane].before(self.id));
        sums
    }

    /// Leaves as one that was served.
    pub(in super::super) fn serve(mut self, handing: &Handing<'_>) {
        self.served = true;
        let mut state = self.queues.lock();
        let wakers = state.leave(&self, Some(handing));
        drop(state);
        wake(wakers);
    }

    fn leads(&self, queue: &Queue) -> bool {
        queue.head == Some(self.lane) && queue.lanes[self.lane].is_first(self.id)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.served {
            return; // it has left
        }
        let mut state = self.queues.lock();
        let wakers = state.leave(self, None);
        drop(state);
        wake(wakers);
    }
}
