//! What becomes of requests while a store elsewhere cannot decide.

use super::{Charged, Inner, engine::Engine, statuses};
use crate::{
    Charge, Op, Rate, Reading, StoreDown, StoreError,
    event::{Event, Occasion},
    store::{Asked, Fit},
};
use smallvec::SmallVec;
use std::num::NonZeroU32;

/// The time of decisions that no store has made, so that the store is not given back what it never counted.
pub(super) const WITHOUT_STORE: u64 = u64::MAX;

impl Charged {
    pub(super) const fn is_without_store(&self) -> bool {
        self.at == WITHOUT_STORE
    }
}

impl Inner {
    /// Decides without the store, if all limits let that be.
    #[cold]
    pub(super) fn decide_without_store(
        &self,
        charged: &mut Charged,
        error: StoreError,
    ) -> Result<(), StoreError> {
        let Engine::Remote(remote) = &self.engine else { return Err(error) };
        let how = |asked: &Asked| self.policy.limits[asked.limit].store_down;
        let denies = |asked: &Asked| {
            !matches!(asked.charge.op, Op::Take(_)) || !asked.charge.shadow && how(asked) == StoreDown::Deny
        };
        if charged.asked.iter().any(denies) {
            return Err(error);
        }
        let instances = remote.store.instances();
        let mut local: SmallVec<[Asked; 4]> = SmallVec::new();
        for asked in &mut charged.asked {
            asked.reading = Reading::allowed_ns(0);
            if how(asked) == StoreDown::Local {
                let whole = asked.charge.rate.burst().get();
                asked.charge.rate = part(&asked.charge, instances);
                // Parts differ by cost, and a small one must not forgive what a large one has let pass.
                asked.charge.max_debt = asked.charge.max_debt.max(whole - asked.charge.rate.burst().get());
                local.push(*asked);
            }
        }
        if let Some(memory) = remote.local.as_ref().filter(|_| !local.is_empty()) {
            memory.charge(&mut local);
        }
        let mut decided = local.iter();
        for asked in charged.asked.iter_mut().filter(|asked| how(asked) == StoreDown::Local) {
            asked.reading = decided.next().map_or(asked.reading, |decided| decided.reading);
        }
        // Where a limit on concurrency has refused, nothing is left to decide.
        if charged.is_allowed() {
            let fits = |asked: &Asked| (asked.charge.shadow, asked.reading.is_allowed());
            charged.fit = Fit::of(charged.asked.iter().map(fits));
        }
        charged.at = WITHOUT_STORE;
        let occasion =
            &Occasion { limits: &statuses(&charged.asked, self), ..self.occasion(None, None, None) };
        self.emit(&Event::WithoutStore { occasion, kind: error.kind(), error: &error.to_string() });
        Ok(())
    }

    /// Adds what only the response told of a decision that was made without the store. Nothing is given back: the rate
    /// was another one, and the store is back or the counts are gone soon.
    pub(super) fn settle_without_store(&self, asked: &Asked) {
        let Engine::Remote(remote) = &self.engine else { return };
        let is_local = self.policy.limits[asked.limit].store_down == StoreDown::Local;
        if let (Some(memory), true, Op::Owe(_)) = (&remote.local, is_local, asked.charge.op) {
            memory.charge(&mut [*asked]);
        }
    }
}

/// An instance's part of a rate. Its burst is no smaller than what is charged, or that would never pass.
fn part(charge: &Charge, instances: u32) -> Rate {
    let Op::Take(cost) = charge.op else { return charge.rate };
    let (instances, burst) = (instances.max(1), charge.rate.burst().get());
    let part = (burst / instances).max(cost.min(burst)).max(1);
    // No debt is longer than 2^62 ns, and no interval longer than 2^32 seconds.
    let most = ((1u64 << 62) / u64::from(part)).min(u64::from(u32::MAX) * 1_000_000_000);
    let interval = charge.rate.interval_ns().saturating_mul(instances.into()).min(most);
    Rate::new(interval, NonZeroU32::new(part).unwrap_or(NonZeroU32::MIN))
}
