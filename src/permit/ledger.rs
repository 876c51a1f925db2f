//! Who holds and who waits: the books behind the lock.

use super::demand::{Demand, Usage, Usages};
use crate::{
    Key,
    arena::{Hook, List, Listed, Slab, Table},
};
use smallvec::SmallVec;
use std::task::Waker;

/// The numbers of the counts that a permit is taken from, in the order of the demands.
pub(super) type Counts = SmallVec<[u32; 4]>;

/// Whom to wake once the lock is free: what a waker does, and what is dropped with it, is not ours.
pub(super) type Wakers = SmallVec<[Waker; 4]>;

#[derive(Debug)]
pub(super) enum Answer {
    Granted(Counts),
    /// The number of the waiter.
    Waits(u32),
    Refused,
    /// No room to count it in.
    Full,
}

/// One key in use. It is forgotten as soon as nobody holds or waits.
#[derive(Debug, Default)]
struct Count {
    key: Key,
    limit: u32,
    used: u32,
    max: u32,
    /// Whether the maximum is not the limit's own.
    is_own: bool,
    /// Clients who wait, the one that was served last at the end.
    lanes: List,
}

impl Count {
    const fn is_idle(&self) -> bool {
        self.used == 0 && self.lanes.is_empty()
    }
}

/// What one client waits for at one key, first come first served.
#[derive(Debug, Default)]
struct Lane {
    client: Key,
    count: u32,
    links: List,
    length: u32,
    hook: Hook,
}

/// A waiter's place in a lane.
#[derive(Debug, Default)]
struct Link {
    lane: u32,
    waiter: u32,
    hook: Hook,
}

#[derive(Debug, Default)]
struct Waiter {
    counts: Counts,
    /// Empty once it is granted.
    links: SmallVec<[u32; 4]>,
    waker: Option<Waker>,
}

#[derive(Debug)]
pub(super) struct Ledger {
    /// Of each limit, for whoever has none of its own. They are here, so that nobody takes a permit by one that was read before
    /// it was changed.
    maxima: Vec<u32>,
    counts: Table<Count>,
    lanes: Table<Lane>,
    links: Slab<Link>,
    waiters: Slab<Waiter>,
}

impl Ledger {
    pub(super) fn new(maxima: Vec<u32>, keys: usize, waiters: usize, links: usize) -> Self {
        Self {
            maxima,
            counts: Table::new(keys),
            lanes: Table::new(links),
            links: Slab::new(links),
            waiters: Slab::new(waiters),
        }
    }

    const fn bytes(keys: usize, waiters: usize, links: usize) -> usize {
        Table::<Count>::bytes(keys)
            + Table::<Lane>::bytes(links)
            + Slab::<Link>::bytes(links)
            + Slab::<Waiter>::bytes(waiters)
    }

    /// The bytes that this one takes.
    pub(super) fn size(&self) -> usize {
        Self::bytes(self.counts.capacity(), self.waiters.capacity(), self.links.capacity())
    }

    pub(super) const fn keys(&self) -> usize {
        self.counts.len()
    }

    pub(super) const fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Takes all permits or none, or gets in line for them.
    pub(super) fn acquire(
        &mut self,
        client: Key,
        demands: &[Demand],
        woken: &mut Wakers,
    ) -> (Answer, Usages) {
        let Some(counts) = self.open(demands, woken) else { return (Answer::Full, Usages::new()) };
        let answer = if self.fits(&counts) {
            self.take(&counts);
            Answer::Granted(counts.clone())
        } else if self.may_wait(client, demands, &counts) {
            self.enqueue(client, &counts).map_or(Answer::Full, Answer::Waits)
        } else {
            Answer::Refused
        };
        let usages = self.usages(&counts);
        self.close(&counts);
        (answer, usages)
    }

    /// The counts of all keys, with the maxima that are in force from now on; nothing where there is no room for them.
    fn open(&mut self, demands: &[Demand], woken: &mut Wakers) -> Option<Counts> {
        let mut counts = Counts::new();
        for demand in demands {
            let &Demand { key, limit, .. } = demand;
            let max = self.max(demand);
            let number = self
                .number(key)
                .or_else(|| self.counts.insert(key.lo, Count { key, limit, max, ..Count::default() }));
            let Some(number) = number else {
                self.close(&counts);
                return None;
            };
            debug_assert!(!counts.contains(&number), "a key stands twice");
            counts.push(number);
        }
        for (&number, demand) in counts.iter().zip(demands) {
            self.counts[number].is_own = demand.own.is_some();
            self.set_max(number, self.max(demand), woken);
        }
        Some(counts)
    }

    fn max(&self, demand: &Demand) -> u32 {
        demand.own.or_else(|| self.maximum(demand.limit)).unwrap_or(0)
    }

    /// How many may be held under a limit where nobody says otherwise.
    pub(super) fn maximum(&self, limit: u32) -> Option<u32> {
        self.maxima.get(limit as usize).copied()
    }

    pub(super) fn number(&self, key: Key) -> Option<u32> {
        self.counts.find(key.lo, |count| count.key == key)
    }

    /// Forgets what is idle.
    fn close(&mut self, counts: &[u32]) {
        for &number in counts {
            let Count { key, .. } = self.counts[number];
            if self.counts[number].is_idle() {
                self.counts.remove(key.lo, number);
            }
        }
    }

    fn set_max(&mut self, number: u32, max: u32, woken: &mut Wakers) {
        let raised = max > std::mem::replace(&mut self.counts[number].max, max);
        if raised {
            self.serve(number, woken);
        }
    }

    fn fits(&self, counts: &[u32]) -> bool {
        counts.iter().all(|&number| self.counts[number].used < self.counts[number].max)
    }

    fn take(&mut self, counts: &[u32]) {
        for &number in counts {
            self.counts[number].used += 1;
        }
    }

    pub(super) fn usages(&self, counts: &[u32]) -> Usages {
        let usage = |&number: &u32| {
            let Count { used, max, .. } = self.counts[number];
            Usage { used, max }
        };
        counts.iter().map(usage).collect()
    }

    /// Whether all the limits that are full let a client's request wait, and not too many of it wait already.
    fn may_wait(&self, client: Key, demands: &[Demand], counts: &[u32]) -> bool {
        demands
            .iter()
            .zip(counts)
            .all(|(demand, number)| self.fits(&[*number]) || self.length(client, *number) < demand.queue)
    }

    /// How many of a client's requests wait at a key.
    fn length(&self, client: Key, count: u32) -> u32 {
        self.lane(client, count).map_or(0, |lane| self.lanes[lane].length)
    }

    fn lane(&self, client: Key, count: u32) -> Option<u32> {
        self.lanes.find(lane_hash(client, count), |lane| lane.count == count && lane.client == client)
    }

    /// Puts a waiter at the end of its client's lane at each key; nothing where there is no room.
    fn enqueue(&mut self, client: Key, counts: &Counts) -> Option<u32> {
        // There are as many lanes, and no lane without a link. Who waits already leaves as much room to others, or one
        // client could keep all others from waiting.
        let is_greedy = |&count: &u32| self.length(client, count) as usize > self.waiters.room();
        if self.links.room() < counts.len() || counts.iter().any(is_greedy) {
            return None;
        }
        let waiter = self.waiters.insert(Waiter { counts: counts.clone(), ..Waiter::default() })?;
        for &count in counts {
            let lane = self.lane(client, count).or_else(|| self.open_lane(client, count))?;
            let link = self.links.insert(Link { lane, waiter, hook: Hook::default() })?;
            let Lane { links, length, .. } = &mut self.lanes[lane];
            links.push(&mut self.links, link);
            *length += 1;
            self.waiters[waiter].links.push(link);
        }
        Some(waiter)
    }

    fn open_lane(&mut self, client: Key, count: u32) -> Option<u32> {
        let lane = self.lanes.insert(lane_hash(client, count), Lane { client, count, ..Lane::default() })?;
        self.counts[count].lanes.push(&mut self.lanes, lane);
        Some(lane)
    }

    /// Takes a waiter out of its lanes. Where it was served, its client has had its turn everywhere.
    fn unlink(&mut self, waiter: u32, served: bool) {
        for link in std::mem::take(&mut self.waiters[waiter].links) {
            let number = self.links[link].lane;
            let Lane { client, count, links, length, .. } = &mut self.lanes[number];
            let (client, count) = (*client, *count);
            links.remove(&mut self.links, link);
            self.links.remove(link);
            *length -= 1;
            let empty = *length == 0;
            if served || empty {
                self.counts[count].lanes.remove(&mut self.lanes, number);
            }
            if empty {
                self.lanes.remove(lane_hash(client, count), number);
            } else if served {
                self.counts[count].lanes.push(&mut self.lanes, number);
            }
        }
    }

    /// Gives the room at a key to those who wait: clients in turn, each client's requests as they came. Whoever does not
    /// fit, because another of its limits is full, is passed over and keeps its place.
    ///
    /// Room at one key only shrinks by it, so nobody who did not fit before fits afterwards.
    fn serve(&mut self, number: u32, woken: &mut Wakers) {
        while self.fits(&[number]) {
            let Some(waiter) = self.next(number) else { return };
            self.unlink(waiter, true);
            let counts = self.waiters[waiter].counts.clone();
            self.take(&counts);
            woken.extend(self.waiters[waiter].waker.take());
        }
    }

    /// Whose turn it is at a key.
    fn next(&self, number: u32) -> Option<u32> {
        let mut lane = self.counts[number].lanes.first();
        while let Some(current) = lane {
            let mut link = self.lanes[current].links.first();
            while let Some(current) = link {
                let Link { waiter, hook, .. } = self.links[current];
                if self.fits(&self.waiters[waiter].counts) {
                    return Some(waiter);
                }
                link = hook.after();
            }
            lane = self.lanes[current].hook.after();
        }
        None
    }

    /// What a waiter has been granted; otherwise the waker is kept, and the former one is there instead.
    pub(super) fn poll(&mut self, number: u32, waker: &mut Option<Waker>) -> Option<(Counts, Usages)> {
        let waiter = &mut self.waiters[number];
        if !waiter.links.is_empty() {
            std::mem::swap(&mut waiter.waker, waker);
            return None;
        }
        let Waiter { counts, .. } = self.waiters.remove(number);
        let usages = self.usages(&counts);
        Some((counts, usages))
    }

    /// What a waiter has been granted; otherwise it leaves the line. Its waker comes back to be dropped.
    pub(super) fn last_call(
        &mut self,
        number: u32,
        woken: &mut Wakers,
    ) -> (Option<Counts>, Usages, Option<Waker>) {
        let mut waker = None;
        if let Some((counts, usages)) = self.poll(number, &mut waker) {
            return (Some(counts), usages, waker);
        }
        let usages = self.usages(&self.waiters[number].counts);
        self.leave(number, woken);
        (None, usages, waker)
    }

    /// Takes a waiter out of the line; what it has been granted meanwhile is given back. Its waker comes back to be
    /// dropped.
    pub(super) fn leave(&mut self, number: u32, woken: &mut Wakers) -> Option<Waker> {
        let granted = self.waiters[number].links.is_empty();
        self.unlink(number, false);
        let Waiter { counts, waker, .. } = self.waiters.remove(number);
        if granted {
            self.release(&counts, woken);
        } else {
            self.close(&counts);
        }
        waker
    }

    pub(super) fn release(&mut self, counts: &[u32], woken: &mut Wakers) {
        for &number in counts {
            self.counts[number].used -= 1;
        }
        for &number in counts {
            self.serve(number, woken);
        }
        self.close(counts);
    }

    /// Puts a maximum in force for every key of a limit that has none of its own, and answers with the former one.
    pub(super) fn revise(&mut self, limit: u32, max: u32, woken: &mut Wakers) -> Option<u32> {
        let former = std::mem::replace(self.maxima.get_mut(limit as usize)?, max);
        for number in self.counts.numbers() {
            let count = &self.counts[number];
            if count.limit == limit && !count.is_own && !count.is_idle() {
                self.set_max(number, max, woken);
            }
        }
        Some(former)
    }

    /// Makes room for a limit that there was not, and for those before it.
    pub(super) fn declare(&mut self, limit: u32, max: u32) {
        let limits = self.maxima.len().max(limit as usize + 1);
        self.maxima.resize(limits, max);
    }

    /// Puts a maximum of its own in force for a key, if it is in use.
    pub(super) fn set_own(&mut self, key: Key, max: u32, woken: &mut Wakers) {
        if let Some(number) = self.number(key) {
            self.counts[number].is_own = true;
            self.set_max(number, max, woken);
        }
    }

    /// How much of what is asked for is in use, without taking any.
    #[cfg(feature = "admin")]
    pub(super) fn look(&self, demands: &[Demand]) -> Usages {
        let usage = |demand: &Demand| {
            let used = self.number(demand.key).map_or(0, |number| self.counts[number].used);
            Usage { used, max: self.max(demand) }
        };
        demands.iter().map(usage).collect()
    }
}

fn lane_hash(client: Key, count: u32) -> u64 {
    client.lo.rotate_left(32) ^ client.hi ^ u64::from(count)
}

impl Listed for Lane {
    fn hook(&mut self) -> &mut Hook {
        &mut self.hook
    }
}

impl Listed for Link {
    fn hook(&mut self) -> &mut Hook {
        &mut self.hook
    }
}
