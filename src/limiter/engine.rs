//! The store that a limiter counts in: ours without any detour, or another one behind a trait.

use super::{
    Charged,
    grants::{Known, Looked, Lookup},
};
use crate::clock::Timeline;
use crate::store::{Asked, Fit, Memory, Store, StoreError, StoreFuture};
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
    #[inline(always)]
    pub(crate) fn ask(&self, charged: &mut Charged) -> Option<Pending> {
        match self {
            Self::Memory(memory) => {
                (charged.at, charged.fit) = memory.charge(&mut charged.asked);
                None
            }
            Self::Remote(store, timeline) => {
                charged.at = timeline.now();
                let future = store.charge(charged.asked.iter().map(|asked| asked.charge).collect());
                Some(Pending::Store(Box::new((future, std::mem::take(charged)))))
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

    /// Gives back or adds, and answers with what the limits say then where that takes no waiting.
    pub(crate) fn settle(&self, mut asked: SmallVec<[Asked; 4]>) -> Option<SmallVec<[Asked; 4]>> {
        match self {
            _ if asked.is_empty() => None,
            Self::Memory(memory) => {
                memory.charge(&mut asked);
                Some(asked)
            }
            Self::Remote(store, _) => {
                store.settle(asked.iter().map(|asked| asked.charge).collect());
                None
            }
        }
    }
}

/// An answer on its way.
pub(crate) enum Pending {
    /// From a store elsewhere.
    Store(Box<(StoreFuture, Charged)>),
    /// From a registry elsewhere; with it, what registries have answered before.
    Registry(Box<(Lookup, Vec<Known>)>),
}

/// What there was to wait for.
#[allow(clippy::large_enum_variant, reason = "it is taken apart where it arrives")]
pub(crate) enum Verdict {
    /// The limits have answered.
    Charged(Charged),
    /// Clients are known that were not, so that the limits can be asked.
    Known(Vec<Known>, Looked),
}

impl Pending {
    pub(super) fn registry(lookup: Lookup, known: &[Known]) -> Self {
        Self::Registry(Box::new((lookup, known.to_vec())))
    }
}

impl Future for Pending {
    type Output = Result<Verdict, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (future, charged) = match &mut *self {
            Self::Store(asked) => &mut **asked,
            Self::Registry(asked) => {
                let (key, looked) = ready!(Pin::new(&mut asked.0).poll(cx));
                let mut known = std::mem::take(&mut asked.1);
                known.push((key, looked.outcome.clone()));
                return Poll::Ready(Ok(Verdict::Known(known, looked)));
            }
        };
        let readings = ready!(future.as_mut().poll(cx))?;
        let asked = &mut charged.asked;
        if asked.len() != readings.len() {
            let error = format!("it answered {} charges with {} readings", asked.len(), readings.len());
            return Poll::Ready(Err(StoreError::new(error)));
        }
        for (asked, reading) in asked.iter_mut().zip(readings) {
            asked.reading = reading;
        }
        charged.fit = Fit::of(asked.iter().map(|asked| (asked.charge.shadow, asked.reading.is_allowed())));
        Poll::Ready(Ok(Verdict::Charged(std::mem::take(charged))))
    }
}
