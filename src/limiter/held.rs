//! The permits of a request, and what the limits on concurrency said.

use super::{Inner, demands::Demands, line::Line};
use crate::{
    Key, PermitStatus,
    permit::{Acquired, Demand, Permit, Usages},
    policy::CompiledConcurrency,
    response::Reason,
};
use smallvec::SmallVec;

/// What limits on concurrency said, and the permits that they gave. Dropped, these are given back.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) permits: Permits,
    pub(super) said: SmallVec<[Said; 2]>,
    /// Why a rule rejects the request, which then needs no permits.
    pub(super) rejection: Option<Reason>,
}

/// One for what is enforced, one for what is only watched.
pub(crate) type Permits = SmallVec<[Permit; 1]>;

/// One limit's word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    pub(super) number: usize,
    pub(super) key: Key,
    pub(super) used: u32,
    pub(super) max: u32,
    pub(super) fits: bool,
    pub(super) shadow: bool,
}

impl Held {
    fn say(&mut self, demands: &[Demand], usages: &Usages, granted: bool, shadow: bool) {
        self.said.extend(demands.iter().zip(usages).map(|(demand, usage)| Said {
            number: demand.number,
            key: demand.key,
            used: usage.used,
            max: usage.max,
            fits: granted || usage.used < usage.max,
            shadow,
        }));
    }

    /// Whether a limit that only watches would have refused.
    pub(super) fn is_shadow_refused(&self) -> bool {
        self.said.iter().any(|said| said.shadow && !said.fits)
    }

    /// The limits that refuse.
    pub(super) fn refusing(&self) -> impl Iterator<Item = usize> {
        self.said.iter().filter(|said| !said.shadow && !said.fits).map(|said| said.number)
    }

    /// Whether a limit refuses.
    pub(super) fn is_refused(&self) -> bool {
        self.refusing().next().is_some()
    }

    /// The rule of the limit that refused first.
    pub(super) fn foremost(&self, inner: &Inner) -> Option<usize> {
        let said = self.said.iter().find(|said| !said.fits)?;
        Some(inner.policy.concurrency[said.number].rule)
    }

    pub(super) fn statuses<'a>(&self, inner: &'a Inner) -> SmallVec<[PermitStatus<'a>; 2]> {
        let status = |&Said { number, used, max, fits, shadow, .. }: &Said| {
            let CompiledConcurrency { name, quoted, rule, .. } = &inner.policy.concurrency[number];
            let rule = &inner.policy.rules[*rule].name;
            PermitStatus { rule, limit: name, quoted, used, max, fits, shadow }
        };
        self.said.iter().map(status).collect()
    }
}

/// What becomes of a request that needs permits.
pub(super) enum Outcome {
    /// It has them, or was refused.
    Answered(Box<Held>),
    Waits(Box<Line>),
}

impl Inner {
    /// How much of what a request would need is in use.
    #[cfg(feature = "admin")]
    pub(super) fn look(&self, demands: &Demands) -> Box<Held> {
        let mut held = Box::<Held>::default();
        for (demands, shadow) in [(&demands.enforced, false), (&demands.watched, true)] {
            let usages = self.permits.as_ref().map(|permits| permits.look(demands)).unwrap_or_default();
            held.say(demands, &usages, false, shadow);
        }
        held
    }

    /// How many may run at once by a limit on concurrency that is not a client's own.
    #[cfg(feature = "admin")]
    pub(crate) fn maximum(&self, number: usize) -> u32 {
        let slot = self.policy.concurrency[number].slot;
        let known = |permits: &crate::permit::Permits| permits.maximum(slot);
        self.permits.as_ref().and_then(known).unwrap_or(self.policy.concurrency[number].max)
    }

    /// Takes the permits that a request needs, refuses it, or puts it in line.
    pub(super) fn hold(&self, demands: Demands) -> Result<Outcome, Reason> {
        let Some(permits) = &self.permits else { return Ok(Outcome::Answered(Box::default())) };
        let (acquired, usages) = permits.acquire(demands.client, &demands.enforced);
        match acquired {
            Acquired::Granted(permit) => Ok(Outcome::Answered(self.granted(&demands, permit, &usages))),
            Acquired::Refused => Ok(Outcome::Answered(Self::refused(&demands, &usages))),
            Acquired::Full => Err(Reason::NoRoom),
            Acquired::Waits(waiting) => {
                let full = demands.enforced.iter().zip(&usages).filter(|(_, usage)| usage.used >= usage.max);
                let limits = full.map(|(demand, _)| &self.policy.concurrency[demand.number]);
                let patience = limits.map(|limit| limit.patience).min().unwrap_or_default();
                Ok(Outcome::Waits(Box::new(Line::new(waiting, patience, demands))))
            }
        }
    }

    /// What is only watched is asked when the request has what it needs, and is never waited for.
    pub(super) fn granted(&self, demands: &Demands, permit: Permit, usages: &Usages) -> Box<Held> {
        let mut held = Box::<Held>::default();
        held.say(&demands.enforced, usages, true, false);
        held.permits.push(permit);
        if let Some(permits) = self.permits.as_ref().filter(|_| !demands.watched.is_empty()) {
            let (acquired, usages) = permits.acquire(demands.client, &demands.watched);
            let granted = matches!(acquired, Acquired::Granted(_));
            held.say(&demands.watched, &usages, granted, true);
            if let Acquired::Granted(permit) = acquired {
                held.permits.push(permit);
            }
        }
        held
    }

    pub(super) fn refused(demands: &Demands, usages: &Usages) -> Box<Held> {
        let mut held = Box::<Held>::default();
        held.say(&demands.enforced, usages, false, false);
        held
    }
}
