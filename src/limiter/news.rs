//! What clients were granted, for requests that wait by it.
//!
//! Registries tell that something has changed, and not what: whoever waits is woken, and looks again.

use super::{
    Inner,
    demands::Stake,
    grants::{Granted, Grants, Looked, Lookup},
    readers::Reader,
    timer::Sleep,
};
use crate::registry::Who;
use smallvec::SmallVec;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::SystemTime,
};

/// What one request that waits knows of what its clients were granted.
#[derive(Default)]
pub(super) struct News {
    /// As whom it is woken.
    reader: Option<(Arc<Grants>, u64)>,
    /// The last change that it has seen.
    seen: Option<u64>,
    /// Clients that are being looked up elsewhere, by the places of their stakes.
    lookups: Vec<(usize, Lookup)>,
    /// When the first of the grants that it waits by ends, and what is ready then.
    until: Option<SystemTime>,
    end: Option<Sleep>,
}

impl News {
    /// Puts in force for the permits that are waited for what their clients are granted now.
    pub(super) fn follow(&mut self, inner: &Inner, stakes: &[Stake], cx: &mut Context<'_>) {
        let Some(grants) = inner.grants.as_ref().filter(|_| !stakes.is_empty()) else { return };
        // First of all, so that no change is missed between the look and the wait.
        self.subscribe(grants, stakes, cx.waker());
        if self.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            self.seen = None;
        }
        let epoch = grants.epoch();
        if self.seen.replace(epoch) != Some(epoch) {
            self.lookups.clear();
            (self.until, self.end) = (None, None);
            for (number, stake) in stakes.iter().enumerate() {
                let known = grants.with(stake.client, |granted| inner.set_own(stake, granted));
                if let Some(end) = known {
                    self.ends(end);
                    continue;
                }
                // By its id: what it has waited for is the client's, whatever has become of the key that it came by.
                let who = Who::Id(stake.record.client_id().to_owned());
                match grants.look_up(stake.client, who, None) {
                    Ok(looked) => self.ends(inner.learn(stake, &looked)),
                    Err(lookup) => self.lookups.push((number, lookup)),
                }
            }
        }
        let mut ends: SmallVec<[_; 1]> = SmallVec::new();
        self.lookups.retain_mut(|(number, lookup)| match Pin::new(lookup).poll(cx) {
            Poll::Ready((_, looked)) => {
                ends.push(inner.learn(&stakes[*number], &looked));
                false
            }
            Poll::Pending => true,
        });
        ends.into_iter().for_each(|end| self.ends(end));
        self.mind_end(inner, grants, cx);
    }

    /// Takes note that a grant ends.
    fn ends(&mut self, end: Option<SystemTime>) {
        if end.is_some_and(|end| self.until.is_none_or(|until| end < until)) {
            (self.until, self.end) = (end, None);
        }
    }

    /// Sees to being woken when a grant ends. Clocks may differ: who is woken too early finds the grant still there, and
    /// waits for what is left of it.
    fn mind_end(&mut self, inner: &Inner, grants: &Grants, cx: &mut Context<'_>) {
        if let (None, Some(until), Some(timer)) = (&self.end, self.until, &inner.timer) {
            let left = until.duration_since(grants.office.clients.now()).unwrap_or_default();
            let mut end = timer(left);
            if end.as_mut().poll(cx).is_pending() {
                self.end = Some(end);
            } else {
                self.seen = None;
                cx.waker().wake_by_ref();
            }
        }
    }

    fn subscribe(&mut self, grants: &Arc<Grants>, stakes: &[Stake], waker: &Waker) {
        let waker = waker.clone();
        let former = grants.readers.locked(|(next, readers)| match &self.reader {
            Some((_, number)) => {
                readers.get_mut(number).map(|reader| std::mem::replace(&mut reader.waker, waker))
            }
            None => {
                *next += 1;
                let clients = stakes.iter().map(|stake| stake.client).collect();
                readers.insert(*next, Reader { clients, waker });
                self.reader = Some((grants.clone(), *next));
                None
            }
        });
        drop(former);
    }
}

impl Drop for News {
    fn drop(&mut self) {
        if let Some((grants, number)) = &self.reader {
            drop(grants.readers.locked(|(_, readers)| readers.remove(number)));
        }
    }
}

impl Inner {
    /// Puts in force what was found, and answers with when that ends.
    fn learn(&self, stake: &Stake, looked: &Looked) -> Option<SystemTime> {
        self.note_looked(looked);
        // Where the registry cannot be asked, what was known holds on.
        looked.outcome.as_ref().ok().and_then(|granted| self.set_own(stake, granted))
    }

    fn set_own(&self, stake: &Stake, granted: &Granted) -> Option<SystemTime> {
        if let Some(permits) = &self.permits {
            stake.keys.iter().for_each(|key| permits.set_own(*key, granted.max_concurrent));
        }
        granted.until
    }
}
