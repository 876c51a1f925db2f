//! A rule's limits, asked for a pacer: quietly, because only the pacer knows whether a wait follows or a refusal.

use super::{Charged, Decision, Inner, Pending, Verdict};
use crate::{
    Charge, Identity, Key, Op, Reading, StoreError,
    event::{Event, Occasion},
    identity::ClientLabel,
    policy::{CompiledLimit, Scope},
    store::Asked,
};
use smallvec::SmallVec;
use std::{
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

/// What one client is to send under a rule, and what that costs of each of its limits.
#[derive(Clone)]
pub(crate) struct Paced {
    inner: Arc<Inner>,
    limits: Range<usize>,
    /// Whether it goes at once, and only what would have been is told.
    pub(crate) shadow: bool,
    label: ClientLabel,
    pub(crate) key: Key,
    /// For each limit of the rule, in its order.
    pub(crate) units: SmallVec<[u32; 4]>,
}

impl Inner {
    /// The limits of a rule, by their names and what they usually cost.
    pub(crate) fn rule_limits(&self, rule: usize) -> impl Iterator<Item = (&str, u32)> {
        let limits = self.limits(rule);
        limits.iter().map(|limit| (limit.words.name.as_str(), limit.cost.usual()))
    }

    /// Whether any limit of a rule is shared by all clients.
    pub(crate) fn shares_limits(&self, rule: usize) -> bool {
        self.limits(rule).iter().any(|limit| matches!(limit.scope, Scope::Shared(_)))
    }

    fn limits(&self, rule: usize) -> &[CompiledLimit] {
        let range = self.policy.rules.get(rule).map(|rule| rule.limits.clone());
        range.and_then(|range| self.policy.limits.get(range)).unwrap_or_default()
    }
}

impl Paced {
    /// Takes the units of each limit; nothing where the client is on the block list. Who is on the allow list has no limits.
    pub(crate) fn new(
        inner: &Arc<Inner>,
        rule: usize,
        identity: &Identity<'_>,
        units: SmallVec<[u32; 4]>,
        shadow: bool,
    ) -> Option<Self> {
        let policy = &inner.policy;
        let key = identity.key(&inner.keys);
        let address = identity.label(key).address.map(|net| net.ip());
        let lists = policy.lists.load();
        if lists.blocked.has(key, address) {
            return None;
        }
        let free = lists.allowed.has(key, address);
        let limits = policy.rules.get(rule).filter(|_| !free).map_or(0..0, |rule| rule.limits.clone());
        Some(Self { inner: inner.clone(), limits, shadow, label: identity.label(key), key, units })
    }

    /// What the limits say, without a charge.
    pub(crate) fn peek(&self) -> Question {
        self.ask(Op::Peek)
    }

    /// Charges all limits, or none.
    pub(crate) fn take(&self) -> Question {
        self.ask(Op::Take)
    }

    fn ask(&self, op: impl Fn(u32) -> Op) -> Question {
        let inner = &self.inner;
        let mut charged = Charged::default();
        for (number, units) in self.limits.clone().zip(&self.units) {
            let limit = &inner.policy.limits[number];
            let place = limit.scope.place(self.key, || inner.route_key(None));
            charged
                .asked
                .push(Asked::new(number, limit.charge(limit.quota.rate(), place, op(*units), self.shadow)));
        }
        let pending = inner.engine.ask(&mut charged);
        Question { inner: inner.clone(), charged, pending }
    }

    /// Gives time back that the limits of a decision would have drained in, if it had not come too late.
    pub(crate) fn forgive(&self, decision: &Decision, nanos: impl Fn(usize, &Asked) -> u64) {
        let late = decision.charged.asked.iter().enumerate().filter_map(|(number, asked)| {
            let nanos = nanos(number, asked);
            let limit = &self.inner.policy.limits[asked.limit];
            let (rate, Charge { place, shadow, .. }) = (limit.quota.rate(), asked.charge);
            let charge = || limit.charge(rate, place, Op::Give(nanos), shadow);
            (nanos > 0).then(|| Asked::new(asked.limit, charge()))
        });
        self.inner.engine.settle(late.collect());
    }

    /// The engine's time, in nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        self.inner.engine.now()
    }

    /// Tells of what passed.
    pub(crate) fn report_passed(&self, decision: &Decision, waited: Option<Duration>) {
        match waited {
            None => self.inner.report_handled(&decision.charged, self.key, self.label, None),
            Some(waited) if self.inner.is_worth_telling(&decision.charged) => {
                self.report(decision, |occasion| Event::Waited { occasion, waited });
            }
            Some(_) => {}
        }
    }

    /// Tells of what was refused.
    pub(crate) fn report_refused(&self, decision: &Decision) {
        self.report(decision, |occasion| Event::Refused(occasion));
    }

    /// Tells of what passed and would have waited.
    pub(crate) fn report_would_wait(&self, decision: &Decision, wait: Duration) {
        if self.inner.is_worth_telling(&decision.charged) {
            self.report(decision, |occasion| Event::ShadowWaited { occasion, wait });
        }
    }

    /// Tells of what passed and would have been refused.
    pub(crate) fn report_would_refuse(&self, decision: &Decision) {
        self.report(decision, |occasion| Event::ShadowRefused(occasion));
    }

    /// Tells of a store that failed.
    pub(crate) fn report_store(&self, error: &StoreError) {
        self.inner.report_store(error, None);
    }

    fn report(&self, decision: &Decision, event: impl for<'a> FnOnce(&'a Occasion<'a>) -> Event<'a>) {
        let limits = decision.charged.statuses(&self.inner);
        let plain_addresses = self.inner.plain_addresses;
        let occasion = Occasion {
            method: None,
            route: None,
            client: Some(self.label),
            plain_addresses,
            limits: &limits,
            permits: &[],
        };
        self.inner.emit(&event(&occasion));
    }
}

impl Decision {
    /// Lets limits say of the wait what the pacer does, which also counts who is ahead.
    pub(crate) fn refuse_for(&mut self, wait: impl Fn(usize, &Asked) -> u64) {
        for (number, asked) in self.charged.asked.iter_mut().enumerate() {
            let wait = wait(number, asked);
            if wait > 0 && !asked.reading.is_never() {
                let debt = u64::try_from(asked.reading.reset_after().as_nanos()).unwrap_or(u64::MAX);
                asked.reading = Reading::refused_ns(debt, wait);
                self.charged.fit.enforced &= asked.charge.shadow;
            }
        }
    }
}

/// A question to the limits; in memory it is answered when first polled.
pub(crate) struct Question {
    inner: Arc<Inner>,
    charged: Charged,
    pending: Option<Pending>,
}

impl Future for Question {
    type Output = Result<Decision, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.inner.clone();
        let charged = match &mut self.pending {
            Some(pending) => match ready!(pending.poll(&inner, cx)) {
                Ok(Verdict::Charged(charged)) => Ok(charged),
                // Nobody is looked up for a pacer.
                Ok(Verdict::Known(..)) => Err(StoreError::new("a registry answered for a store")),
                Err(error) => Err(error),
            },
            None => Ok(std::mem::take(&mut self.charged)),
        };
        self.pending = None;
        Poll::Ready(charged.map(|charged| Decision::new(inner, charged)))
    }
}
