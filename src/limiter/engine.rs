//! The store that a limiter counts in: ours without any detour, or another one behind a trait.

use crate::{
    decision::Charged,
    store::{Charge, Memory, Store, StoreError, StoreFuture},
};
use smallvec::SmallVec;
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

pub(crate) enum Engine {
    Memory(Memory),
    Remote(Arc<dyn Store>),
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(memory) => memory.fmt(f),
            Self::Remote(_) => f.write_str("Remote(..)"),
        }
    }
}

impl Engine {
    pub(crate) fn ask(&self, mut charged: Charged) -> Answer {
        match self {
            Self::Memory(memory) => {
                charged.readings = memory.charge(&charged.charges);
                Answer::Ready(charged)
            }
            Self::Remote(store) => Answer::Pending(Pending {
                future: store.charge(charged.charges.to_vec()),
                charged: Some(charged),
            }),
        }
    }

    /// Gives back or adds, and answers with the readings where that takes no waiting.
    pub(crate) fn settle(&self, charges: SmallVec<[Charge; 4]>) -> Option<crate::store::Readings> {
        match self {
            _ if charges.is_empty() => None,
            Self::Memory(memory) => Some(memory.charge(&charges)),
            Self::Remote(store) => {
                store.settle(charges.into_vec());
                None
            }
        }
    }
}

/// Readings, now or later.
pub(crate) enum Answer {
    Ready(Charged),
    Pending(Pending),
}

/// A remote store's answer on its way.
pub(crate) struct Pending {
    future: StoreFuture,
    charged: Option<Charged>,
}

impl Future for Pending {
    type Output = Result<Charged, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let readings = ready!(self.future.as_mut().poll(cx))?;
        Poll::Ready(match self.charged.take() {
            Some(mut charged) if charged.charges.len() == readings.len() => {
                charged.readings = readings.into();
                Ok(charged)
            }
            Some(charged) => Err(StoreError::new(format!(
                "it answered {} charges with {} readings",
                charged.charges.len(),
                readings.len()
            ))),
            None => Err(StoreError::new("it was asked again after it had answered")),
        })
    }
}
