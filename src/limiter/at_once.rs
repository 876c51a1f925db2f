//! A rule's limits, charged for a pacer at once, where nobody has to be looked up or waited for.

use super::{Charged, Decision, Inner};
use crate::{Identity, Key, Op, Rate, identity::ClientLabel, registry::Who, store::Asked};
use smallvec::SmallVec;
use std::{num::NonZeroU32, sync::Arc};

/// Whoever sends under a rule: what it is counted under, and whom to look for in the registry.
pub(crate) struct Sender {
    pub(crate) key: Key,
    pub(super) label: ClientLabel,
    pub(super) who: Option<Box<Who>>,
}

/// A send that may go at once, if its limits admit it.
pub(crate) struct AtOnce<'a> {
    pub(crate) inner: &'a Arc<Inner>,
    pub(crate) rule: usize,
    pub(crate) sender: &'a Sender,
    /// For each limit of the rule, in its order.
    pub(crate) units: &'a [u32],
}

impl Inner {
    pub(crate) fn sender(&self, rule: usize, identity: &Identity<'_>) -> Sender {
        let key = identity.key(&self.keys);
        let is_registered = |rule: usize| self.policy.rules.get(rule).is_some_and(|rule| rule.registered);
        let registry = self.grants.as_ref().filter(|_| is_registered(rule));
        let who = registry.and_then(|grants| grants.claimed(identity)).map(Box::new);
        Sender { key, label: identity.label(key), who }
    }
}

impl AtOnce<'_> {
    /// Charges all limits if each would admit its units with the burst that `burst` makes of its rate; or charges nothing.
    ///
    /// A smaller burst holds debt back that the limit's own would admit, and forgives none of it. What needs more than the
    /// embedded engine, or where `burst` is nothing, is not charged.
    #[inline]
    pub(crate) fn passes(&self, burst: impl Fn(Rate, u32) -> Option<NonZeroU32>) -> bool {
        // It is made where it lies, because it is too large to be passed around.
        self.charge(&mut Charged::default(), burst).is_some()
    }

    /// The same with a decision to keep.
    #[inline]
    pub(crate) fn decides(&self, burst: impl Fn(Rate, u32) -> Option<NonZeroU32>) -> Option<Decision> {
        let mut decision = Decision::open(self.inner.clone());
        self.charge(&mut decision.charged, burst)?;
        decision.conclude();
        Some(decision)
    }

    #[inline]
    fn charge(&self, charged: &mut Charged, burst: impl Fn(Rate, u32) -> Option<NonZeroU32>) -> Option<()> {
        let Self { inner, rule, sender, units } = *self;
        let memory = inner.engine.memory()?;
        if sender.who.is_some() || inner.policy.lists.exempts() {
            return None;
        }
        let limits = inner.policy.rules.get(rule)?.limits.clone();
        let mut rates: SmallVec<[Rate; 4]> = SmallVec::new();
        for ((number, limit), units) in limits.clone().zip(inner.policy.limits.get(limits)?).zip(units) {
            let rate = limit.quota.rate();
            let burst = burst(rate, *units)?;
            let place = limit.scope.place(sender.key, || inner.route_key(None));
            let mut charge = limit.charge(rate, place, Op::Take(*units), false);
            let more = rate.burst().get().checked_sub(burst.get())?;
            charge.rate = Rate::new(rate.interval_ns(), burst);
            charge.max_debt = charge.max_debt.checked_add(more)?;
            charged.asked.push(Asked::new(number, charge));
            rates.push(rate);
        }
        (charged.at, charged.fit) = memory.charge(&mut charged.asked);
        if !charged.is_allowed() {
            return None;
        }
        for (asked, rate) in charged.asked.iter_mut().zip(rates) {
            let limit = &inner.policy.limits[asked.limit];
            asked.charge = limit.charge(rate, asked.charge.place, asked.charge.op, false);
        }
        inner.meters.attempted(rule);
        inner.meters.sent(rule, None);
        inner.report_sent(charged, sender.key, sender.label);
        Some(())
    }
}
