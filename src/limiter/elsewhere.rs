//! Permits that a store counts for many instances, together with the charge.

use super::{
    Charged, Inner,
    engine::Engine,
    held::Held,
    timer::{Sleep, Timer},
};
use crate::{
    Occupied, OccupiedFuture, Slot, StoreDown, StoreError,
    permit::{Permit, Usage},
    store::Asked,
};
use std::{
    fmt,
    task::{Context, Poll, ready},
    time::Duration,
};

/// A request that has its permits on this instance and asks for those of all, once or until it has waited long enough.
pub(super) struct Elsewhere {
    charged: Charged,
    step: Step,
    /// When it has waited long enough, if it waits.
    deadline: Option<Sleep>,
}

enum Step {
    Asks(OccupiedFuture),
    Pauses(Sleep),
}

/// The time between looks whether other instances have left room. As many look as may run at once, at most.
const PAUSE: Duration = Duration::from_millis(50);

impl Elsewhere {
    pub(super) fn poll(&mut self, inner: &Inner, cx: &mut Context<'_>) -> Poll<Result<Charged, StoreError>> {
        loop {
            let next = match &mut self.step {
                Step::Asks(future) => {
                    let answer = ready!(future.as_mut().poll(cx));
                    match answer.and_then(|occupied| self.charged.occupied(inner, occupied)) {
                        Ok(true) => break,
                        Ok(false) => self.patience(inner).map(|timer| Step::Pauses(timer(PAUSE))),
                        Err(error) => {
                            inner.hold_without_store(&mut self.charged, error)?;
                            break;
                        }
                    }
                }
                Step::Pauses(pause) => {
                    let is_late = self.deadline.as_mut().is_none_or(|end| end.as_mut().poll(cx).is_ready());
                    if is_late {
                        None
                    } else {
                        ready!(pause.as_mut().poll(cx));
                        self.charged.renew(inner);
                        inner.occupy(&mut self.charged).map(Step::Asks)
                    }
                }
            };
            match next {
                Some(next) => self.step = next,
                None => {
                    self.charged.vacate();
                    break;
                }
            }
        }
        // What permits refuse is told, and not what a rate refuses whose permits were given.
        if !self.charged.is_refused_by_permits() {
            self.charged.hold_on();
        }
        Poll::Ready(Ok(std::mem::take(&mut self.charged)))
    }

    /// What to wait by, if all limits that refuse let it wait. It waits from now on, unless it did before.
    fn patience<'a>(&mut self, inner: &'a Inner) -> Option<&'a Timer> {
        let timer = inner.timer.as_ref()?;
        let refusing = || self.charged.refusing_permits().map(|number| &inner.policy.concurrency[number]);
        if refusing().any(|limit| limit.queue == 0) {
            return None;
        }
        if self.deadline.is_none() {
            self.deadline = refusing().map(|limit| limit.patience).min().map(|patience| timer(patience));
        }
        Some(timer)
    }
}

impl Inner {
    /// Has the store take the permits that a request has here and decide its charge, if the store counts permits.
    pub(super) fn ask_elsewhere(&self, charged: &mut Charged, deadline: Option<Sleep>) -> Option<Elsewhere> {
        let future = self.occupy(charged)?;
        Some(Elsewhere { charged: std::mem::take(charged), step: Step::Asks(future), deadline })
    }

    fn occupy(&self, charged: &mut Charged) -> Option<OccupiedFuture> {
        let Engine::Remote(remote) = &self.engine else { return None };
        let slots: Vec<_> = charged.held.as_ref()?.slots(self).map(|(_, slot)| slot).collect();
        if slots.is_empty() {
            return None;
        }
        charged.at = remote.timeline.now();
        remote.store.occupy(slots, charged.asked.iter().map(|asked| asked.charge).collect())
    }

    /// Decides without the store, if all limits let that be: by the permits that this instance has given.
    #[cold]
    fn hold_without_store(&self, charged: &mut Charged, error: StoreError) -> Result<(), StoreError> {
        let Engine::Remote(remote) = &self.engine else { return Err(error) };
        let instances = remote.store.instances().max(1);
        let Some(held) = &mut charged.held else { return Err(error) };
        let mut fits = true;
        for said in held.said.iter_mut().filter(|said| !said.shadow) {
            let limit = &self.policy.concurrency[said.number];
            match limit.store_down {
                _ if limit.per_instance => {}
                StoreDown::Deny => return Err(error),
                StoreDown::Allow => {}
                StoreDown::Local => {
                    said.max = (said.max / instances).max(1);
                    said.fits = said.used <= said.max;
                    fits &= said.fits;
                }
            }
        }
        if !fits {
            charged.vacate();
        }
        self.decide_without_store(charged, error)
    }
}

impl Held {
    /// What a store is asked for, and by which of the limits: not for what each instance counts by itself, nor for what is
    /// only watched and would be refused here already.
    fn slots<'a>(&'a self, inner: &'a Inner) -> impl Iterator<Item = (usize, Slot)> + 'a {
        let watches = !self.is_shadow_refused();
        // The maxima may have changed while it waited; what is enforced stands first.
        let usages = self.permits.first().map(Permit::usages).unwrap_or_default();
        self.said.iter().enumerate().filter_map(move |(number, said)| {
            let limit = &inner.policy.concurrency[said.number];
            if limit.per_instance || said.shadow && !watches {
                return None;
            }
            let max = usages.get(number).map_or(said.max, |Usage { max, .. }| *max);
            let (place, limit) = limit.place(said.key);
            Some((number, Slot { place, limit, max, shadow: said.shadow }))
        })
    }
}

impl Charged {
    /// Takes note of what a store has answered, and tells whether there was a slot of each.
    fn occupied(&mut self, inner: &Inner, occupied: Occupied) -> Result<bool, StoreError> {
        let Occupied { slots, readings, lease } = occupied;
        let Some(held) = &mut self.held else { return Ok(true) };
        let asked: Vec<_> = held.slots(inner).collect();
        if asked.len() != slots.len() {
            let error = format!("it answered {} slots with {} readings", asked.len(), slots.len());
            return Err(StoreError::new(error));
        }
        let is_free = asked.iter().zip(&slots).all(|((_, slot), reading)| slot.shadow || reading.is_free);
        for ((number, slot), reading) in asked.iter().zip(&slots) {
            let said = &mut held.said[*number];
            // What is only watched is asked again with the rest.
            if is_free || !slot.shadow {
                (said.used, said.max, said.fits) = (reading.used, slot.max, reading.is_free);
            }
        }
        if !is_free {
            return Ok(false);
        }
        if held.is_shadow_refused() {
            // That request would not be running.
            held.permits.truncate(1);
        }
        if let Some(permit) = held.permits.first_mut() {
            permit.lease = lease.map(Box::new);
        }
        self.note(&readings)?;
        Ok(true)
    }

    /// A limit on concurrency refuses, so that nothing is charged and nothing is held.
    fn vacate(&mut self) {
        self.asked.clear();
        self.fit.enforced = false;
        self.give_back();
    }

    fn is_refused_by_permits(&self) -> bool {
        self.refusing_permits().next().is_some()
    }

    /// Charges at the rates that are in force now.
    pub(super) fn renew(&mut self, inner: &Inner) {
        for number in 0..self.asked.len() {
            let Asked { limit, charge, .. } = self.asked[number];
            let compiled = &inner.policy.limits[limit];
            let rate = match compiled.granted {
                None => compiled.quota.rate(),
                Some(_) => inner.granted_rate(self, limit).unwrap_or_else(|| compiled.told_by(charge.rate)),
            };
            self.asked[number].charge = compiled.charge_again(rate, charge, charge.op);
        }
    }
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elsewhere").field("charged", &self.charged).finish_non_exhaustive()
    }
}
