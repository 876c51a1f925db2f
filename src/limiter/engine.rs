//! The store that a limiter counts in: ours without any detour, or another one behind a trait.

use super::{
    Charged, Inner,
    elsewhere::Elsewhere,
    grants::{Known, Looked, Lookup},
    line::Line,
    room::{enough, memory},
};
use crate::store::{Asked, Fit, Memory, Reading, Store, StoreError, StoreFuture};
use crate::{Mistake, StoreDown, clock::Timeline, policy::Compiled};
use smallvec::SmallVec;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

pub(crate) enum Engine {
    Memory(Memory),
    /// Counted elsewhere.
    Remote(Remote),
}

pub(crate) struct Remote {
    pub(super) store: Arc<dyn Store>,
    /// It tells how long ago a decision was.
    pub(super) timeline: Arc<Timeline>,
    /// What counts while the store cannot, for limits that are to be counted then.
    pub(super) local: Option<Memory>,
    /// How many bytes that may take.
    pub(super) bytes: usize,
}

impl Engine {
    /// The table that it counts in, unless that is somebody else's business.
    pub(super) const fn memory(&self) -> Option<&Memory> {
        match self {
            Self::Memory(memory) => Some(memory),
            Self::Remote(_) => None,
        }
    }

    /// The same for a policy that follows: what was counted goes on.
    pub(super) fn handed_on(&self, policy: &Compiled) -> Result<Self, Mistake> {
        let hand_on = |memory: &Memory| {
            enough(memory.bytes(), policy)?;
            Ok(memory.handed_on(policy.shared_limits()))
        };
        Ok(match self {
            Self::Memory(memory) => Self::Memory(hand_on(memory)?),
            Self::Remote(Remote { store, timeline, local, bytes }) => {
                let has_local = policy.limits.iter().any(|limit| limit.store_down == StoreDown::Local);
                let local = match local {
                    Some(local) => Some(hand_on(local)?),
                    // It counts by the system's clock; whoever moves a store's clock by hand builds a limiter anew.
                    None if has_local => Some(memory(*bytes, Timeline::system(), policy)?),
                    None => None,
                };
                Self::Remote(Remote {
                    store: store.clone(),
                    timeline: timeline.clone(),
                    local,
                    bytes: *bytes,
                })
            }
        })
    }

    /// Decides, or answers with the decision to wait for.
    #[inline(always)]
    pub(crate) fn ask(&self, charged: &mut Charged) -> Option<Pending> {
        match self {
            Self::Memory(memory) => {
                (charged.at, charged.fit) = memory.charge(&mut charged.asked);
                None
            }
            Self::Remote(remote) => {
                charged.at = remote.timeline.now();
                let charges: Vec<_> = charged.asked.iter().map(|asked| asked.charge).collect();
                let known = remote.store.spend(&charges).or_else(|| remote.store.known(&charges));
                if known.is_some_and(|readings| charged.note(&readings).is_ok()) {
                    return None;
                }
                let future = remote.store.charge(charges);
                Some(Pending(Wait::Store(Box::new((future, std::mem::take(charged))))))
            }
        }
    }

    /// Whether the store would refuse for sure, whatever else is to be asked.
    pub(super) fn is_known(&self, charged: &Charged) -> bool {
        let Self::Remote(remote) = self else { return false };
        let charges: SmallVec<[_; 4]> = charged.asked.iter().map(|asked| asked.charge).collect();
        !charges.is_empty() && remote.store.known(&charges).is_some()
    }

    /// The time by which decisions age, in nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        match self {
            Self::Memory(memory) => memory.now(),
            Self::Remote(remote) => remote.timeline.now(),
        }
    }

    /// Decides a list of charges and writes down when, or answers with what is to be waited for.
    pub(super) fn begin(&self, asked: &mut [Asked], at: &mut u64) -> Option<StoreFuture> {
        match self {
            Self::Memory(memory) => {
                *at = memory.charge(asked).0;
                None
            }
            Self::Remote(remote) => {
                Some(remote.store.charge(asked.iter().map(|asked| asked.charge).collect()))
            }
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
            Self::Remote(remote) => {
                remote.store.settle(asked.iter().map(|asked| asked.charge).collect());
                None
            }
        }
    }
}

/// An answer on its way.
pub(crate) struct Pending(Wait);

enum Wait {
    /// From a registry elsewhere; with it, what registries have answered before.
    Registry(Box<(Lookup, Vec<Known>)>),
    /// For permits.
    Line(Box<Line>),
    /// From a store elsewhere.
    Store(Box<(StoreFuture, Charged)>),
    /// From a store that counts permits too.
    Elsewhere(Box<Elsewhere>),
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
        Self(Wait::Registry(Box::new((lookup, known.to_vec()))))
    }

    pub(super) fn line(line: Box<Line>) -> Self {
        Self(Wait::Line(line))
    }

    pub(super) fn elsewhere(elsewhere: Elsewhere) -> Self {
        Self(Wait::Elsewhere(Box::new(elsewhere)))
    }

    pub(crate) fn poll(&mut self, inner: &Inner, cx: &mut Context<'_>) -> Poll<Result<Verdict, StoreError>> {
        if let Wait::Line(line) = &mut self.0 {
            let mut charged = ready!(line.poll(inner, cx));
            match inner.ask_held(&mut charged, line.deadline.take()) {
                Some(pending) => *self = pending,
                None => return Poll::Ready(Ok(Verdict::Charged(charged))),
            }
        }
        match &mut self.0 {
            Wait::Store(asked) => poll_store(asked, inner, cx).map_ok(Verdict::Charged),
            Wait::Elsewhere(elsewhere) => elsewhere.poll(inner, cx).map_ok(Verdict::Charged),
            Wait::Registry(asked) => {
                let (lookup, known) = &mut **asked;
                let (key, looked) = ready!(Pin::new(lookup).poll(cx));
                let mut known = std::mem::take(known);
                known.push((key, looked.outcome.clone()));
                Poll::Ready(Ok(Verdict::Known(known, looked)))
            }
            Wait::Line(_) => Poll::Pending, // it was answered above
        }
    }
}

fn poll_store(
    (future, charged): &mut (StoreFuture, Charged),
    inner: &Inner,
    cx: &mut Context<'_>,
) -> Poll<Result<Charged, StoreError>> {
    let answer = ready!(future.as_mut().poll(cx)).and_then(|readings| charged.note(&readings));
    if let Err(error) = answer {
        inner.decide_without_store(charged, error)?;
    }
    charged.hold_on();
    Poll::Ready(Ok(std::mem::take(charged)))
}

impl Charged {
    /// Writes down what a store has answered.
    pub(super) fn note(&mut self, readings: &[Reading]) -> Result<(), StoreError> {
        if self.asked.len() != readings.len() {
            let error = format!("it answered {} charges with {} readings", self.asked.len(), readings.len());
            return Err(StoreError::new(error));
        }
        for (asked, reading) in self.asked.iter_mut().zip(readings) {
            asked.reading = *reading;
        }
        let fits = |asked: &Asked| (asked.charge.shadow, asked.reading.is_allowed());
        self.fit = Fit::of(self.asked.iter().map(fits));
        Ok(())
    }
}
