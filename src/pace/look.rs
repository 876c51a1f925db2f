//! A look at what holds a send back.

use super::{PaceError, Rejected, feedback::Gate, queue::Sums, shared::Shared, spacing::nanos};
use crate::{Decision, Place, StoreError, limiter::Paced, store::Asked};
use smallvec::SmallVec;
use std::time::Duration;

/// What the limits say, and how long that means to wait, in nanoseconds.
pub(super) struct Look {
    pub(super) decision: Decision,
    gate: Gate,
    /// For each limit; nothing where it never fits.
    pub(super) waits: SmallVec<[Option<u64>; 4]>,
    /// The longest wait of limits that are the key's own, and of those that all share.
    pub(super) own: u64,
    shared: u64,
}

impl Look {
    /// # Errors
    ///
    /// If the store fails, or a limit never admits what it costs.
    pub(super) async fn at(shared: &Shared, paced: &mut Paced, ahead: Sums) -> Result<Self, PaceError> {
        let gate = shared.control.as_ref().map_or(Gate::NONE, |control| {
            let (gate, news) = control.gate(paced.now());
            news.tell(|event| paced.tell(event));
            gate
        });
        paced.slow(gate.slowness);
        let decision = paced.peek().await.map_err(|error| failed(paced, error))?;
        let spacing = shared.settings.spacing;
        let mut look = Self { decision, gate, waits: SmallVec::new(), own: 0, shared: 0 };
        for (number, Asked { charge, reading, .. }) in look.decision.charged.asked.iter().enumerate() {
            let ahead = ahead.get(number).copied().unwrap_or(0);
            let wait = spacing.wait(charge.rate, *reading, ahead, paced.units[number]);
            let longest = match charge.place {
                Place::Client(_) => &mut look.own,
                Place::Shared(_) => &mut look.shared,
            };
            *longest = (*longest).max(wait.unwrap_or(0));
            look.waits.push(wait);
        }
        if look.waits.contains(&None) && !paced.shadow {
            return Err(look.reject(paced, PaceError::TooLarge));
        }
        Ok(look)
    }

    pub(super) fn wait(&self) -> u64 {
        self.own.max(self.shared).max(self.gate.wait)
    }

    /// When each limit will have drained, or has.
    pub(super) fn drained(&self, now: u64) -> SmallVec<[u64; 4]> {
        let asked = self.decision.charged.asked.iter();
        asked.map(|asked| now.saturating_add(nanos(asked.reading))).collect()
    }

    /// Somebody else's turn takes as long as one's own, as far as can be known.
    pub(super) fn mind_turns(&mut self) {
        for (wait, Asked { charge, .. }) in self.waits.iter_mut().zip(&self.decision.charged.asked) {
            if let (Place::Shared(_), Some(wait)) = (charge.place, wait) {
                *wait = (*wait).max(charge.rate.interval_ns());
            }
        }
    }

    pub(super) fn reject(mut self, paced: &Paced, kind: impl Fn(Rejected) -> PaceError) -> PaceError {
        if self.gate.wait > self.own.max(self.shared) {
            let retry_after = Duration::from_nanos(self.gate.wait);
            return match self.gate.open {
                Some(error) => PaceError::Open { error: error.into_owned(), retry_after },
                None => PaceError::Paused { retry_after },
            };
        }
        let waits = &self.waits;
        self.decision.refuse_for(|number, _| waits.get(number).copied().flatten().unwrap_or(0));
        paced.report_refused(&self.decision);
        kind(Rejected::new(self.decision))
    }
}

pub(super) fn failed(paced: &Paced, error: StoreError) -> PaceError {
    paced.report_store(&error);
    PaceError::Store(error)
}
