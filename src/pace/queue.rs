//! Who waits, and whose turn it is. It knows nothing of limits; of time only what whoever was served leaves to the next.
//!
//! Each key has a queue with a lane for each priority, first come first served in each lane. One waiter at a time is the
//! head of the queue. Where limits are shared by all keys, the heads of the queues take turns: next is whose key would have
//! had the least, in units, when it is served (self-clocked fair queueing, Golestani 1994), again for each priority. A head
//! whose own limits make it wait takes no turn.

mod baton;
mod lane;
mod ticket;

use super::priority::{Credits, Priority, Shares};
use crate::Key;
pub(super) use baton::{Baton, Handing};
use lane::{Lane, Waiter};
use smallvec::SmallVec;
use std::{
    array,
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Waker,
};
pub(super) use ticket::{Place, Ticket};

/// Units of each limit.
pub(super) type Units = SmallVec<[u32; 4]>;
/// Sums of units of each limit.
pub(super) type Sums = SmallVec<[u64; 4]>;
/// When a head is served: what the key that is served by then has had, and who came first.
type Turn = (u64, u64);
/// Whom to wake, outside of the lock.
type Wakers = SmallVec<[Waker; 4]>;

/// So many may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) each: usize,
    pub(super) all: usize,
}

#[derive(Debug)]
pub(super) struct Queues {
    bounds: Bounds,
    shares: Shares,
    /// Whether heads take their turns as soon as they lead, because no limits of their own can hold them back.
    lines_up: bool,
    state: Mutex<State>,
    /// How many are in all queues, to be read without the lock. It is written under it.
    present: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    queues: HashMap<Key, Queue>,
    /// For each priority.
    turns: [Turns; Priority::COUNT],
    credits: Credits,
    waiting: usize,
    next_id: u64,
}

/// The turns of heads of one priority.
#[derive(Debug, Default)]
struct Turns {
    heads: BTreeMap<Turn, Key>,
    /// What the key that was served last had had by then.
    served: u64,
}

#[derive(Debug, Default)]
struct Queue {
    lanes: [Lane; Priority::COUNT],
    credits: Credits,
    /// The lane whose first one is the head.
    head: Option<usize>,
    /// Whether the head is being charged, so that nobody may overtake it.
    busy: bool,
    turn: Option<(usize, Turn)>,
    /// How many count against the bounds.
    waiting: usize,
}

/// When a head is due.
#[derive(Debug, Clone, Copy)]
enum Due {
    Now,
    /// By its own limits; then it takes a turn, if there are turns.
    Own,
    /// By the shared limits, because its turn has come.
    Shared,
    /// When its turn comes.
    InTurn,
}

/// There are as many waiting as may.
#[derive(Debug)]
pub(super) struct Full;

/// Whoever wants to be let through.
#[derive(Debug)]
pub(super) struct Entrant<'a> {
    pub(super) key: Key,
    pub(super) priority: Priority,
    pub(super) units: &'a Units,
    /// Until when it waits, in nanoseconds.
    pub(super) deadline: u64,
}

impl Queues {
    pub(super) fn new(bounds: Bounds, shares: Shares, lines_up: bool) -> Self {
        Self { bounds, shares, lines_up, state: Mutex::default(), present: AtomicUsize::new(0) }
    }

    /// Empty ones with other settings.
    pub(super) fn remade(&self, bounds: Bounds, shares: Shares) -> Self {
        Self::new(bounds, shares, self.lines_up)
    }

    /// Takes a place in a key's queue. At its head nobody waits yet.
    pub(super) fn enter(self: &Arc<Self>, entrant: &Entrant<'_>) -> Result<Ticket, Full> {
        let Entrant { key, priority, units, deadline } = *entrant;
        let (lane, weight) = (priority.number(), weight(units));
        let mut lock = self.lock();
        let state = &mut *lock;
        let queue = state.queues.entry(key).or_default();
        let leads = queue.would_lead(lane, weight);
        if !leads {
            // A queue that is there holds somebody, so it need not be removed again.
            self.bounds.allow(queue.waiting, state.waiting)?;
            queue.waiting += 1;
            state.waiting += 1;
        }
        let id = state.next_id;
        state.next_id += 1;
        let (units, waits) = (units.clone(), !leads);
        let waiter = Waiter {
            id,
            units,
            weight,
            deadline,
            waits,
            expired: false,
            waker: None,
            home: None,
            baton: None,
        };
        queue.lanes[lane].push(waiter);
        self.present.fetch_add(1, Relaxed);
        let wakers = if leads { state.elect(key) } else { state.lend(key, lane) };
        drop(lock);
        wake(wakers);
        Ok(Ticket { queues: self.clone(), key, lane, id, served: false })
    }

    /// Whether a newcomer overtakes nobody by going past the queue of its key. With `turns` anybody else may be waiting for
    /// what it would take.
    pub(super) fn is_free(&self, key: Key, turns: bool) -> bool {
        self.present.load(Relaxed) == 0 || !turns && !self.lock().queues.contains_key(&key)
    }

    /// What all that would go before a newcomer cost together.
    pub(super) fn sums(&self, key: Key, priority: Priority) -> Sums {
        let state = self.lock();
        let lanes = state.queues.get(&key).map(|queue| &queue.lanes[..=priority.number()]);
        lane::sum(lanes.into_iter().flatten())
    }

    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// Tells those of a key whose time is over, and answers with when the next one's will be.
    pub(super) fn expire(&self, key: Key, now: u64) -> u64 {
        let mut state = self.lock();
        let Some(queue) = state.queues.get_mut(&key) else { return u64::MAX };
        let (mut wakers, mut next) = (Wakers::new(), u64::MAX);
        for (number, lane) in queue.lanes.iter_mut().enumerate() {
            // The head minds its own time.
            let behind = usize::from(queue.head == Some(number));
            next = next.min(lane.expire(behind, now, &mut wakers));
        }
        drop(state);
        wake(wakers);
        next
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

impl Queue {
    /// The lane whose first one should be the head.
    fn first(&self) -> Option<usize> {
        self.credits.next(self.lanes.each_ref().map(Lane::weight))
    }

    /// Whether a newcomer would be the head.
    fn would_lead(&self, lane: usize, weight: u32) -> bool {
        let mut firsts = self.lanes.each_ref().map(Lane::weight);
        let is_first = firsts[lane].is_none();
        firsts[lane].get_or_insert(weight);
        is_first && !self.busy && self.credits.next(firsts) == Some(lane)
    }

    fn head(&mut self) -> Option<&mut Waiter> {
        self.lanes.get_mut(self.head?)?.first_mut()
    }

    /// The most urgent priority of those that wait.
    fn class(&self) -> Option<usize> {
        self.lanes.iter().position(|lane| !lane.is_empty())
    }

    fn is_empty(&self) -> bool {
        self.class().is_none()
    }
}

impl State {
    /// Finds out who is the head of a queue, and answers with whom to wake for it.
    fn elect(&mut self, key: Key) -> Wakers {
        let Some(next) = self.change_head(key) else { return Wakers::new() };
        let head = self.rouse(key, None, Due::Now);
        head.into_iter().chain(next).collect()
    }

    /// Finds out who is the head of a queue. Nothing where that has not changed; or else whose turn it is now, to be woken.
    fn change_head(&mut self, key: Key) -> Option<Option<Waker>> {
        let queue = self.queues.get_mut(&key).filter(|queue| !queue.busy)?;
        let first = queue.first();
        if queue.head == first {
            return None;
        }
        let turn = queue.turn.take();
        // Who is overtaken waits from now on, if it did not before.
        if let Some(overtaken) = queue.head().filter(|head| !head.waits) {
            overtaken.waits = true;
            queue.waiting += 1;
            self.waiting += 1;
        }
        queue.head = first;
        Some(turn.and_then(|turn| self.end_turn(turn)))
    }

    /// Answers with the head of a queue, to be woken, unless it was left a baton.
    fn rouse(&mut self, key: Key, handing: Option<&Handing<'_>>, due: Due) -> Option<Waker> {
        let queue = self.queues.get_mut(&key)?;
        let until = queue.lanes.iter().map(Lane::deadline).min().unwrap_or(u64::MAX);
        let head = queue.head()?;
        let Some(handing) = handing else { return head.waker.take() };
        let due = match due {
            Due::Now => Some(0),
            Due::Own => Some((handing.own)(&head.units)),
            Due::Shared => Some((handing.shared)(&head.units)),
            Due::InTurn => None,
        };
        head.rouse(handing, due, until)
    }

    /// Whoever is held up by a less urgent head lends it its priority, or it would wait for others' less urgent ones. The
    /// head takes another turn then.
    fn lend(&mut self, key: Key, lane: usize) -> Wakers {
        let queue = self.queues.get_mut(&key);
        let Some(queue) = queue.filter(|queue| queue.turn.is_some_and(|(class, _)| class > lane)) else {
            return Wakers::new();
        };
        let (turn, head) = (queue.turn.take(), queue.head().and_then(|head| head.waker.take()));
        let next = turn.and_then(|turn| self.end_turn(turn));
        head.into_iter().chain(next).collect()
    }

    /// Ends a turn, and answers with whom to wake.
    fn end_turn(&mut self, (class, turn): (usize, Turn)) -> Option<Waker> {
        self.turns[class].heads.remove(&turn);
        let (_, key) = self.next_turn()?;
        self.rouse(key, None, Due::Now)
    }

    /// The turn of a queue's head, which it takes unless it has one.
    fn take_turn(&mut self, key: Key) -> Option<Turn> {
        let queue = self.queues.get_mut(&key)?;
        let (class, lane) = (queue.class()?, queue.head?);
        let (weight, id) = queue.lanes[lane].first_mut().map(|head| (head.weight, head.id))?;
        let (_, turn) = *queue.turn.get_or_insert_with(|| {
            let turns = &mut self.turns[class];
            let had = turns.served.saturating_add(weight.into());
            turns.heads.insert((had, id), key);
            (class, (had, id))
        });
        Some(turn)
    }

    /// Whose turn is next.
    fn next_turn(&self) -> Option<(Turn, Key)> {
        let first = self.turns.each_ref().map(|turns| turns.heads.first_key_value());
        let weights = first.map(|first| {
            let (_, key) = first?;
            let queue = self.queues.get(key)?;
            queue.lanes[queue.head?].weight()
        });
        first[self.credits.next(weights)?].map(|(turn, key)| (*turn, *key))
    }

    /// Takes a ticket's place away, and answers with whom to wake. With `handing`, those who go next are left batons.
    fn leave(&mut self, ticket: &Ticket, handing: Option<&Handing<'_>>) -> Wakers {
        let Queues { shares, lines_up, .. } = *ticket.queues;
        let mut wakers = Wakers::new();
        let Some(queue) = self.queues.get_mut(&ticket.key) else { return wakers };
        let waited: [bool; Priority::COUNT] = array::from_fn(|lane| !queue.lanes[lane].is_empty());
        let leads = queue.head == Some(ticket.lane) && queue.lanes[ticket.lane].is_first(ticket.id);
        let Some(gone) = queue.lanes[ticket.lane].remove(ticket.id) else { return wakers };
        ticket.queues.present.fetch_sub(1, Relaxed);
        queue.waiting -= usize::from(gone.waits);
        self.waiting -= usize::from(gone.waits);
        if ticket.served {
            queue.credits.went(shares, ticket.lane, gone.weight, waited);
        }
        if queue.lanes[ticket.lane].is_empty() {
            queue.credits.forget(ticket.lane);
        }
        let turn = if leads { queue.turn.take() } else { None };
        if leads {
            (queue.head, queue.busy) = (None, false);
        }
        if let Some((class, (had, id))) = turn {
            if ticket.served {
                self.turn_went(class, had, gone.weight, shares);
            }
            self.turns[class].heads.remove(&(had, id));
        }
        // Where another one is the first of its lane now, that may be due.
        if let Some(next) = self.change_head(ticket.key) {
            wakers.extend(next);
            let takes_turn = handing.is_some() && lines_up && self.take_turn(ticket.key).is_some();
            let due = if takes_turn { Due::InTurn } else { Due::Own };
            wakers.extend(self.rouse(ticket.key, handing, due));
        }
        if let Some((_, key)) = turn.and_then(|_| self.next_turn()) {
            wakers.extend(self.rouse(key, handing, Due::Shared));
        }
        if self.queues.get(&ticket.key).is_some_and(Queue::is_empty) {
            self.queues.remove(&ticket.key);
        }
        wakers
    }

    /// Takes note of units that went in a turn.
    fn turn_went(&mut self, class: usize, had: u64, units: u32, shares: Shares) {
        let waited = self.turns.each_ref().map(|turns| !turns.heads.is_empty());
        self.turns[class].served = had;
        self.credits.went(shares, class, units, waited);
    }
}

/// What a send counts among others: the units of the limit that it costs most of.
fn weight(units: &Units) -> u32 {
    units.iter().copied().max().unwrap_or(0)
}

/// Outside of the lock, because a waker may poll at once.
fn wake(wakers: Wakers) {
    wakers.into_iter().for_each(Waker::wake);
}
