//! The store that a limiter counts in: ours without any detour, or another one behind a trait.

use super::Charged;
use crate::clock::Timeline;
use crate::store::{Charge, Memory, Readings, Store, StoreError, StoreFuture};
use smallvec::SmallVec;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

pub(crate) enum Engine {
    Memory(Memory),
    /// Counted elsewhere; the timeline tells how long ago a decision was.
    Remote(Arc<dyn Store>, Timeline),
}

impl Engine {
    /// The table that it counts in, unless that is somebody else's business.
    pub(super) const fn memory(&self) -> Option<&Memory> {
        match self {
            Self::Memory(memory) => Some(memory),
            Self::Remote(..) => None,
        }
    }

    /// Decides, or answers with the decision to wait for.
    pub(crate) fn ask(&self, charged: &mut Charged) -> Option<Pending> {
        match self {
            Self::Memory(memory) => {
                charged.at = memory.charge(&charged.charges, &mut charged.readings);
                charged.conclude();
                None
            }
            Self::Remote(store, timeline) => {
                charged.at = timeline.now();
                let future = store.charge(charged.charges.to_vec());
                Some(Pending { future, charged: Box::new(std::mem::take(charged)) })
            }
        }
    }

    /// The time by which decisions age, in nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        match self {
            Self::Memory(memory) => memory.now(),
            Self::Remote(_, timeline) => timeline.now(),
        }
    }

    /// Gives back or adds, and answers with the readings where that takes no waiting.
    pub(crate) fn settle(&self, charges: SmallVec<[Charge; 4]>) -> Option<Readings> {
        match self {
            _ if charges.is_empty() => None,
            Self::Memory(memory) => {
                let mut readings = Readings::new();
                memory.charge(&charges, &mut readings);
                Some(readings)
            }
            Self::Remote(store, _) => {
                store.settle(charges.into_vec());
                None
            }
        }
    }
}

/// A remote store's answer on its way.
pub(crate) struct Pending {
    future: StoreFuture,
    charged: Box<Charged>,
}

impl Future for Pending {
    type Output = Result<Charged, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let readings = ready!(self.future.as_mut().poll(cx))?;
        let (asked, answered) = (self.charged.charges.len(), readings.len());
        if asked != answered {
            let error = format!("it answered {asked} charges with {answered} readings");
            return Poll::Ready(Err(StoreError::new(error)));
        }
        self.charged.readings = readings.into();
        self.charged.conclude();
        Poll::Ready(Ok(std::mem::take(&mut *self.charged)))
    }
}
