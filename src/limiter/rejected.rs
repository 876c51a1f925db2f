//! Requests that a rule rejects: it charges nothing itself, and the limits of the other rules are charged all the same.
//!
//! Else who guesses keys would pay nothing, and no limit by address would slow it down.

use super::{
    Admission, Charged, Inner,
    asking::{Asking, Stop},
};
use crate::{Op, policy::CompiledRule, response::Reason};

impl Charged {
    /// Whether a rule rejects the request, though the limits of the others admit it.
    #[inline(always)]
    pub(super) const fn is_rejected(&self) -> bool {
        // Most requests need no more than the first look.
        matches!(&self.held, Some(held) if held.rejection.is_some() && self.fit.enforced)
    }

    /// Takes note that a rule rejects the request. The first reason stands.
    pub(super) fn reject(&mut self, reason: Reason) {
        self.held.get_or_insert_default().rejection.get_or_insert(reason);
    }

    /// Why a rule rejects the request, though the limits of the others admit it.
    #[inline(always)]
    pub(crate) fn take_rejection(&mut self) -> Option<Reason> {
        if self.is_rejected() { self.give_up() } else { None }
    }

    #[cold]
    #[inline(never)]
    fn give_up(&mut self) -> Option<Reason> {
        self.held.take()?.rejection
    }
}

impl Asking<'_> {
    /// What a rule has stopped; nothing where the rules behind it are to be asked too.
    #[cold]
    pub(super) fn stopped(&self, rule: &CompiledRule, stop: Stop, charged: &mut Charged) -> Result<(), Stop> {
        match stop {
            Stop::Refused(reason) if rule.shadow => self.inner.report_would_reject(&reason, *self.head),
            // A registry that is down is not the client's doing, and costs it nothing.
            Stop::Refused(reason @ Reason::StoreDown { .. }) if !charged.is_rejected() => {
                return Err(Stop::Refused(reason));
            }
            Stop::Refused(reason) => charged.reject(reason),
            Stop::Unasked if charged.is_rejected() => {}
            Stop::Unasked | Stop::Unknown(_) => return Err(stop),
        }
        Ok(())
    }
}

impl Inner {
    /// Charges what the other rules' limits take of a request that is rejected. It needs no permits, because it will not run.
    #[cold]
    pub(super) fn admit_rejected(&self, charged: &mut Charged) -> Admission {
        if charged.asked.is_empty() {
            return Admission::Decided;
        }
        self.engine.ask(charged).map_or(Admission::Decided, Admission::Waiting)
    }

    /// Whether the limits of the rules so far refuse a request already, by what was counted before. Then that is their
    /// answer, and nobody has to be looked up for it. A store elsewhere is not asked, because that is no faster than a
    /// registry.
    #[cold]
    pub(super) fn is_refused_already(&self, charged: &mut Charged) -> bool {
        let Some(memory) = self.engine.memory().filter(|_| !charged.asked.is_empty()) else { return false };
        let mut asked = charged.asked.clone();
        for asked in &mut asked {
            if let Op::Take(units) = asked.charge.op {
                asked.charge.op = Op::Peek(units);
            }
        }
        let (at, fit) = memory.charge(&mut asked);
        if !fit.enforced {
            (charged.asked, charged.at, charged.fit) = (asked, at, fit);
        }
        !fit.enforced
    }
}
