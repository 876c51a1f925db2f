//! What counts the bytes of a request's and its response's body.

use crate::{
    Decision,
    limiter::Reservation,
    policy::{Direction, Metering, Settlement},
};
use smallvec::SmallVec;
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// Counts the bytes of both bodies as they are sent.
pub(super) struct Meter {
    decision: Arc<Decision>,
    limits: Mutex<SmallVec<[Metered; 1]>>,
    /// Without a response nothing is given back that was taken on the way in.
    is_answered: AtomicBool,
}

struct Metered {
    /// The charge's number.
    number: usize,
    metering: Metering,
    /// Whether bodies wait for it.
    is_paced: bool,
    bytes: u64,
    /// The units charged so far, those on the way in included.
    charged: u64,
}

impl Metered {
    /// What the bytes so far and these come to, if the last grain that is begun counts.
    fn wanted(&self, bytes: u64) -> u64 {
        self.bytes.saturating_add(bytes).div_ceil(self.metering.grain.get().into())
    }
}

/// Bytes that wait for their turn, and what was charged for them.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) bytes: u64,
    pub(super) reservation: Reservation,
    units: SmallVec<[u32; 1]>,
}

impl Meter {
    /// Nothing where the limits of a decision count no bytes.
    pub(super) fn new(decision: &Arc<Decision>) -> Option<Self> {
        let metered = |(number, settlement, taken): (usize, &Settlement, u32)| match settlement {
            Settlement::Bytes(metering) => Some(Metered {
                number,
                metering: *metering,
                is_paced: metering.pace.is_some() && decision.paces(number),
                bytes: 0,
                charged: taken.into(),
            }),
            _ => None,
        };
        let limits: SmallVec<[Metered; 1]> = decision.settlements().filter_map(metered).collect();
        (!limits.is_empty()).then(|| Self {
            decision: decision.clone(),
            limits: Mutex::new(limits),
            is_answered: AtomicBool::new(false),
        })
    }

    fn limits(&self) -> MutexGuard<'_, SmallVec<[Metered; 1]>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) const fn decision(&self) -> &Arc<Decision> {
        &self.decision
    }

    /// Whether any limit counts what goes this way.
    pub(super) fn counts(&self, direction: Direction) -> bool {
        self.limits().iter().any(|limit| limit.metering.counts(direction))
    }

    /// There is a response.
    pub(super) fn answered(&self) {
        self.is_answered.store(true, Relaxed);
    }

    /// How many of these bytes wait together.
    pub(super) fn piece(&self, direction: Direction, bytes: u64) -> u64 {
        let limits = self.limits();
        let paced = limits.iter().filter(|limit| limit.is_paced && limit.metering.counts(direction));
        paced
            .map(|limit| limit.metering.piece(self.decision.rate_of(limit.number)))
            .min()
            .map_or(bytes, |piece| piece.min(bytes))
    }

    /// Takes what these bytes cost of limits that make bodies wait; nothing where that is nothing.
    pub(super) fn reserve(&self, direction: Direction, bytes: u64) -> Option<Piece> {
        let mut limits = self.limits();
        let mut units: SmallVec<[u32; 1]> = SmallVec::new();
        let mut asked: SmallVec<[(usize, u32); 1]> = SmallVec::new();
        for limit in limits.iter_mut() {
            let mut more = 0;
            if limit.is_paced && limit.metering.counts(direction) {
                // A piece is no more than the burst, which has 32 bits.
                more = u32::try_from(limit.wanted(bytes).saturating_sub(limit.charged)).unwrap_or(u32::MAX);
                limit.bytes = limit.bytes.saturating_add(bytes);
                limit.charged = limit.charged.saturating_add(more.into());
            }
            units.push(more);
            asked.extend((more > 0).then_some((limit.number, more)));
        }
        drop(limits);
        let reservation = (!asked.is_empty()).then(|| self.decision.reserve(asked.into_iter()))?;
        Some(Piece { bytes, reservation, units })
    }

    /// These bytes are sent: what other limits charge for them, as grains are filled.
    pub(super) fn count(&self, direction: Direction, bytes: u64) {
        for limit in
            self.limits().iter_mut().filter(|limit| !limit.is_paced && limit.metering.counts(direction))
        {
            limit.bytes = limit.bytes.saturating_add(bytes);
            let grains = limit.bytes / u64::from(limit.metering.grain.get());
            if grains > limit.charged {
                self.decision.correct(limit.number, limit.charged, grains);
                limit.charged = grains;
            }
        }
    }

    /// These bytes were not sent: nobody wants them any more, or there was no place for them in the queue.
    pub(super) fn take_back(&self, direction: Direction, piece: Piece) {
        let Piece { bytes, reservation, units } = piece;
        for (limit, units) in self.limits().iter_mut().zip(units) {
            if limit.is_paced && limit.metering.counts(direction) {
                limit.bytes = limit.bytes.saturating_sub(bytes);
                limit.charged = limit.charged.saturating_sub(units.into());
            }
        }
        reservation.give_back(&self.decision.inner);
    }
}

/// All is sent, or nobody wants the rest: the last grain is begun, and grains that were not sent are given back.
impl Drop for Meter {
    fn drop(&mut self) {
        let is_answered = self.is_answered.load(Relaxed);
        for limit in self.limits().iter() {
            let grains = limit.wanted(0);
            if is_answered || grains > limit.charged {
                self.decision.correct(limit.number, limit.charged, grains);
            }
        }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").finish_non_exhaustive()
    }
}
