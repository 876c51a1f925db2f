//! A rule's limits, asked for a pacer: quietly, because only the pacer knows whether a wait follows or a refusal.

use super::{
    Charged, Decision, Inner, Pending, Sender, Verdict,
    grants::{Denied, Granted},
};
use crate::{
    Identity, Key, Op, Rate, Reading, Rejection, StoreError,
    event::{Event, Occasion},
    identity::ClientLabel,
    policy::{CompiledLimit, List, Resource, Scope},
    registry::Who,
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
pub(crate) struct Paced {
    inner: Arc<Inner>,
    rule: usize,
    limits: Range<usize>,
    /// Whether no limit holds for it.
    is_free: bool,
    /// Whether it goes at once, and only what would have been is told.
    pub(crate) shadow: bool,
    label: ClientLabel,
    /// What the client came by.
    came_by: Key,
    /// What it is counted under.
    pub(crate) key: Key,
    /// Whom to look for in the registry, and what was found there.
    who: Option<Box<Who>>,
    granted: Option<Box<Granted>>,
    slowness: Slowness,
    /// For each limit of the rule, in its order.
    pub(crate) units: SmallVec<[u32; 4]>,
}

/// By how much slower than its quotas a client is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slowness {
    /// The share of each rate that is used, above 0 and at most 1.
    pub(crate) factor: f64,
    /// The least nanoseconds between units of the rule's first limit.
    pub(crate) interval: u64,
}

impl Slowness {
    pub(crate) const NONE: Self = Self { factor: 1.0, interval: 0 };
}

/// Why a client may not send at all.
#[derive(Debug)]
pub(crate) enum Barred {
    Blocked,
    Banned(Duration),
    Unregistered(Rejection),
    /// It may not use the rule's resource.
    Resource(String),
    Down(StoreError),
}

impl From<Denied> for Barred {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Rejected(rejection) => Self::Unregistered(rejection),
            Denied::Down(error) => Self::Down(StoreError::of("registry", error)),
        }
    }
}

impl Inner {
    /// The limits of a rule, by their names and what they usually cost.
    pub(crate) fn rule_limits(&self, rule: usize) -> impl Iterator<Item = (&str, u32)> {
        let limits = self.limits(rule);
        limits.iter().map(|limit| (limit.words.name.as_str(), limit.cost.usual()))
    }

    /// Whether any limit of a rule is shared by all clients, and whether any is not.
    pub(crate) fn shares_limits(&self, rule: usize) -> [bool; 2] {
        let is_shared = |limit: &CompiledLimit| matches!(limit.scope, Scope::Shared(_));
        let limits = self.limits(rule);
        [limits.iter().any(is_shared), !limits.iter().all(is_shared)]
    }

    fn limits(&self, rule: usize) -> &[CompiledLimit] {
        let range = self.policy.rules.get(rule).map(|rule| rule.limits.clone());
        range.and_then(|range| self.policy.limits.get(range)).unwrap_or_default()
    }
}

impl Paced {
    /// Takes the units of each limit.
    pub(crate) fn new(
        inner: &Arc<Inner>,
        rule: usize,
        sender: Sender,
        units: SmallVec<[u32; 4]>,
        shadow: bool,
    ) -> Self {
        let Sender { key, label, who } = sender;
        Self {
            inner: inner.clone(),
            rule,
            limits: inner.policy.rules.get(rule).map_or(0..0, |rule| rule.limits.clone()),
            is_free: false,
            shadow,
            label,
            came_by: key,
            key,
            who,
            granted: None,
            slowness: Slowness::NONE,
            units,
        }
    }

    /// Whether there is anything to find out about the client.
    pub(crate) fn is_looked_up(&self) -> bool {
        self.who.is_some() || self.is_free || self.inner.policy.lists.exempts()
    }

    /// Finds out what the lists say of the client, whether it is banned, and what the registry grants it, as of now.
    ///
    /// # Errors
    ///
    /// If it may not send, or the registry cannot be asked.
    pub(crate) async fn look_up(&mut self) -> Result<(), Barred> {
        let inner = self.inner.clone();
        self.is_free = inner.policy.lists.exempts() && self.is_exempt().await?;
        let Some((grants, who)) = inner.grants.as_ref().zip(self.who.as_ref()).filter(|_| !self.is_free)
        else {
            return Ok(());
        };
        let granted = match grants.with(self.came_by, Granted::clone) {
            Some(granted) => Ok(granted),
            None => {
                // Nobody knows where it comes from, so all of its kind are counted as one where new clients are created.
                let address = Identity::anonymous().key(&inner.keys);
                let looked = match grants.look_up(self.came_by, (**who).clone(), Some(address)) {
                    Ok(looked) => looked,
                    Err(lookup) => lookup.await.1,
                };
                inner.note_looked(&looked);
                looked.outcome
            }
        };
        let granted = granted.and_then(Granted::enabled)?;
        if let Some(Resource::Named(name)) = &inner.policy.rules[self.rule].resource {
            if !granted.record.may_use(name) {
                return Err(Barred::Resource(name.clone()));
            }
        }
        if self.granted.is_none() {
            inner.note_use(&granted);
        }
        self.key = granted.client;
        self.granted = Some(Box::new(granted));
        Ok(())
    }

    /// Whether the client is on the allow list, and so has no limits.
    async fn is_exempt(&self) -> Result<bool, Barred> {
        let (inner, who) = (&self.inner, self.who.as_deref());
        let Some(rule) = inner.policy.rules.get(self.rule) else { return Ok(false) };
        let client = match inner.client_by_hand(rule, self.came_by, who, &[]) {
            Ok(client) => client,
            Err(lookup) => {
                let (key, looked) = lookup.await;
                inner.note_looked(&looked);
                looked.outcome.ok().filter(|_| key == self.came_by).map(|granted| granted.client)
            }
        };
        if let Some(time) = inner.banned_client(self.came_by, client) {
            return Err(Barred::Banned(time));
        }
        let lists = inner.policy.lists.load();
        let address = self.label.address.map(|net| net.ip());
        let is_on = |list: &List| {
            list.has(self.came_by, address) || client.is_some_and(|client| list.contains(client))
        };
        if is_on(&lists.blocked) { Err(Barred::Blocked) } else { Ok(is_on(&lists.allowed)) }
    }

    /// Which of the policy's limits hold for the client.
    fn limits(&self) -> Range<usize> {
        if self.is_free { 0..0 } else { self.limits.clone() }
    }

    /// Makes it slower than its quotas from now on.
    pub(crate) const fn slow(&mut self, slowness: Slowness) {
        self.slowness = slowness;
    }

    /// The rate by which a limit of the policy is counted for the client.
    fn rate(&self, number: usize) -> Rate {
        let limit = &self.inner.policy.limits[number];
        let granted = self.granted.as_ref().and_then(|granted| granted.rates.of(limit.granted));
        let rate = granted.unwrap_or_else(|| limit.quota.rate());
        let least = if number == self.limits.start { self.slowness.interval } else { 0 };
        rate.slowed(self.slowness.factor, least)
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
        if self.granted.is_some() {
            charged.registered.push((self.rule, self.came_by));
        }
        for (number, units) in self.limits().zip(&self.units) {
            let limit = &inner.policy.limits[number];
            let place = limit.scope.place(self.key, || inner.route_key(None));
            charged
                .asked
                .push(Asked::new(number, limit.charge(self.rate(number), place, op(*units), self.shadow)));
        }
        if self.granted.as_ref().is_some_and(|granted| granted.may_override) {
            inner.keep_owed(&mut charged.asked);
        }
        let pending = inner.engine.ask(&mut charged);
        Question { inner: inner.clone(), charged, pending }
    }

    /// Gives time back that the limits of a decision would have drained in, if it had not come too late.
    pub(crate) fn forgive(&self, decision: &Decision, nanos: impl Fn(usize, &Asked) -> u64) {
        let late = decision.charged.asked.iter().enumerate().filter_map(|(number, asked)| {
            let nanos = nanos(number, asked);
            let limit = &self.inner.policy.limits[asked.limit];
            let give = || limit.charge_again(asked.charge.rate, asked.charge, Op::Give(nanos));
            (nanos > 0).then(|| Asked::new(asked.limit, give()))
        });
        self.inner.engine.settle(late.collect());
    }

    /// The engine's time, in nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        self.inner.engine.now()
    }

    pub(crate) fn tell(&self, event: &Event<'_>) {
        self.inner.emit_for(self.rule, event);
    }

    /// Tells of what passed.
    pub(crate) fn report_passed(&self, decision: &Decision, waited: Option<Duration>) {
        self.inner.meters.sent(self.rule, waited);
        match waited {
            None => self.inner.report_sent(&decision.charged, self.key, self.label),
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
        self.inner.meters.sent(self.rule, None);
        self.inner.meters.watched(self.rule, "would_wait");
        if self.inner.is_worth_telling(&decision.charged) {
            self.report(decision, |occasion| Event::ShadowWaited { occasion, wait });
        }
    }

    /// Tells of what passed and would have been refused.
    pub(crate) fn report_would_refuse(&self, decision: &Decision) {
        self.inner.meters.sent(self.rule, None);
        self.inner.meters.watched(self.rule, "would_be_rejected");
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
        self.tell(&event(&occasion));
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
