//! A charge by hand on its way.

mod future;

pub use future::ChargeFuture;

use super::{
    ChargeError, Charged, Inner, Limiter, Pending,
    demands::Demands,
    grants::{Granted, Lookup, Outcome},
    held::Outcome as Held,
};
use crate::{
    Decision, Grant, Identity, Key, Op,
    identity::ClientLabel,
    policy::{CompiledRule, List, Resource, Scope},
    registry::{Refused, Who},
    store::Asked,
};
use smallvec::smallvec;
use std::{net::IpAddr, sync::Arc};

/// A charge, a peek or a reset that is being put together; await it.
#[derive(Debug, Clone)]
#[must_use = "nothing is charged before it is awaited"]
pub struct Charging<'a> {
    limiter: &'a Limiter,
    key: Key,
    label: ClientLabel,
    rule: &'a str,
    route: Option<&'a str>,
    cost: Option<u32>,
    act: Act,
    who: Option<Arc<Who>>,
    address: Option<IpAddr>,
    resource: Option<&'a str>,
    limits: Option<&'a Grant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Take,
    Hold,
    Peek,
    /// A peek at the permits too, which goes by no list and no ban: it is the operator who asks.
    #[cfg(feature = "admin")]
    Inspect,
    Reset,
}

impl Act {
    const fn takes(self) -> bool {
        matches!(self, Self::Take | Self::Hold)
    }

    /// Whether it is about limits on concurrency too.
    const fn needs_permits(self) -> bool {
        match self {
            Self::Hold => true,
            #[cfg(feature = "admin")]
            Self::Inspect => true,
            Self::Take | Self::Peek | Self::Reset => false,
        }
    }

    const fn goes_by_lists(self) -> bool {
        matches!(self, Self::Take | Self::Hold | Self::Peek)
    }
}

impl<'a> Charging<'a> {
    pub(super) const fn new(
        limiter: &'a Limiter,
        key: Key,
        label: ClientLabel,
        who: Option<Arc<Who>>,
        rule: &'a str,
    ) -> Self {
        Self {
            limiter,
            key,
            label,
            rule,
            route: None,
            cost: None,
            act: Act::Take,
            who,
            address: None,
            resource: None,
            limits: None,
        }
    }

    pub(super) const fn holding(mut self) -> Self {
        self.act = Act::Hold;
        self
    }

    pub(super) const fn only_asking(mut self) -> Self {
        self.act = Act::Peek;
        self
    }

    #[cfg(feature = "admin")]
    pub(super) const fn inspecting(mut self) -> Self {
        self.act = Act::Inspect;
        self
    }

    pub(super) const fn forgiving(mut self) -> Self {
        self.act = Act::Reset;
        self
    }

    /// The units that each limit is charged.
    pub const fn cost(mut self, units: u32) -> Self {
        self.cost = Some(units);
        self
    }

    /// The template of the route, for limits per client and route; without it they count as unmatched.
    pub const fn route(mut self, template: &'a str) -> Self {
        self.route = Some(template);
        self
    }

    /// Where the client is, by which new clients of a registry are counted. Without it all that are charged by hand share
    /// one count.
    pub const fn address(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// The resource that it is for, which a registered client must be allowed to use.
    pub const fn resource(mut self, name: &'a str) -> Self {
        self.resource = Some(name);
        self
    }

    /// Overrides what a registered client was granted, if it may (see [`Overrides`](crate::Overrides)).
    pub const fn with_limits(mut self, limits: &'a Grant) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Asks, or answers with what is to be waited for; `known` is the client, once it was looked up elsewhere. What the
    /// limits say is in `charged`, which comes empty.
    fn ask(
        &self,
        inner: &Arc<Inner>,
        known: Option<Outcome>,
        charged: &mut Charged,
    ) -> Result<Option<Pending>, ChargeError> {
        let Some(rule) = inner.policy.rule(self.rule) else {
            let known = inner.policy.rules.iter().map(|rule| rule.name.clone()).collect();
            return Err(ChargeError::UnknownRule { rule: self.rule.to_owned(), known });
        };
        if self.act.goes_by_lists() && inner.policy.lists.exempts() {
            let looked = known.clone().map(|outcome| (self.key, outcome));
            match inner.client_by_hand(rule, self.key, self.who.as_deref(), looked.as_slice()) {
                Ok(client) if self.is_exempt(inner, client)? => return Ok(inner.engine.ask(charged)),
                Ok(_) => {}
                Err(lookup) => return Ok(Some(Pending::registry(lookup, &[]))),
            }
        }
        let mut demands = None;
        if let Some(lookup) = self.collect_for(inner, rule, known, charged, &mut demands)? {
            return Ok(Some(Pending::registry(lookup, &[])));
        }
        match demands {
            #[cfg(feature = "admin")]
            Some(demands) if self.act == Act::Inspect => {
                charged.held = Some(inner.look(&demands));
                Ok(if charged.asked.is_empty() { None } else { inner.engine.ask(charged) })
            }
            Some(demands) => Self::ask_held(inner, demands, charged),
            None => Ok(inner.engine.ask(charged)),
        }
    }

    /// Permits first, and then the charge.
    #[inline(never)]
    fn ask_held(
        inner: &Inner,
        demands: Demands,
        charged: &mut Charged,
    ) -> Result<Option<Pending>, ChargeError> {
        match inner.hold(demands) {
            Ok(Held::Answered(held)) => {
                charged.hold(held);
                Ok(inner.ask_held(charged, None))
            }
            Ok(Held::Waits(mut line)) => {
                line.charged = std::mem::take(charged);
                Ok(Some(Pending::line(line)))
            }
            Err(_) => Err(ChargeError::NoRoom),
        }
    }

    /// The charges of a rule, for the client as the registry knows it if the rule goes by that.
    fn collect_for(
        &self,
        inner: &Inner,
        rule: &CompiledRule,
        known: Option<Outcome>,
        charged: &mut Charged,
        demands: &mut Option<Demands>,
    ) -> Result<Option<Lookup>, ChargeError> {
        let registry = inner.grants.as_ref().zip(self.who.as_deref()).filter(|_| rule.registered);
        let Some((grants, who)) = registry else {
            self.collect(inner, rule, self.key, None, charged, demands);
            return Ok(None);
        };
        let outcome = match known {
            Some(outcome) => outcome,
            None => {
                let found = grants
                    .with(self.key, |granted| self.collect_granted(inner, rule, granted, charged, demands));
                if let Some(collected) = found {
                    return collected.map(|()| None);
                }
                let address = self.address.map_or(Identity::anonymous(), Identity::address).key(&inner.keys);
                let address = self.act.takes().then_some(address);
                match grants.look_up(self.key, who.clone(), address) {
                    Ok(looked) => {
                        inner.note_looked(&looked);
                        looked.outcome
                    }
                    Err(lookup) => return Ok(Some(lookup)),
                }
            }
        };
        match outcome {
            Ok(granted) if self.act.takes() => {
                let granted = granted.enabled()?;
                self.collect_granted(inner, rule, &granted, charged, demands).map(|()| None)
            }
            Ok(granted) => self.collect_granted(inner, rule, &granted, charged, demands).map(|()| None),
            Err(denied) => Err(denied.into()),
        }
    }

    fn collect_granted(
        &self,
        inner: &Inner,
        rule: &CompiledRule,
        granted: &Granted,
        charged: &mut Charged,
        demands: &mut Option<Demands>,
    ) -> Result<(), ChargeError> {
        if self.act.takes() {
            inner.note_use(granted);
        }
        let named = match &rule.resource {
            Some(Resource::Named(name)) if self.act.takes() => Some(&**name),
            _ => None,
        };
        let mut resources = self.resource.into_iter().chain(named);
        if let Some(resource) = resources.find(|resource| !granted.record.may_use(resource)) {
            return Err(ChargeError::ResourceNotAllowed { resource: resource.to_owned() });
        }
        let overridden = self.limits.map(|limits| inner.override_with(granted, Ok(limits.clone()), true));
        let overridden = overridden.transpose().map_err(|refused| match refused {
            Refused::Client => ChargeError::OverrideNotAllowed,
            Refused::Value(detail) => ChargeError::BadOverride { detail },
        })?;
        if overridden.is_none() {
            charged.registered.push((rule.number, self.key));
        }
        self.collect(
            inner,
            rule,
            granted.client,
            Some(overridden.as_ref().unwrap_or(granted)),
            charged,
            demands,
        );
        if granted.may_override {
            inner.keep_owed(&mut charged.asked);
        }
        Ok(())
    }

    /// Whether nothing is asked of the client; `client` is the key of the registry's client that it is.
    fn is_exempt(&self, inner: &Inner, client: Option<Key>) -> Result<bool, ChargeError> {
        if let Some(retry_after) = inner.banned_client(self.key, client) {
            return Err(ChargeError::Banned { retry_after });
        }
        let lists = inner.policy.lists.load();
        let address = self.label.address.map(|net| net.ip());
        let is_on =
            |list: &List| list.has(self.key, address) || client.is_some_and(|client| list.contains(client));
        if is_on(&lists.blocked) { Err(ChargeError::Blocked) } else { Ok(is_on(&lists.allowed)) }
    }

    /// Tells what the limits have answered.
    fn conclude(&self, decision: &mut Decision) {
        if self.act.takes() {
            decision.inner.report_handled(&decision.charged, self.key, self.label, self.route);
        }
        decision.conclude();
    }

    /// What the client is charged, and the permits that it needs.
    fn collect(
        &self,
        inner: &Inner,
        rule: &CompiledRule,
        client: Key,
        granted: Option<&Granted>,
        charged: &mut Charged,
        demands: &mut Option<Demands>,
    ) {
        for number in rule.limits.clone() {
            let limit = &inner.policy.limits[number];
            let cost = self.cost.unwrap_or_else(|| limit.cost.usual());
            let op = match self.act {
                Act::Take | Act::Hold => Op::Take(cost),
                Act::Peek => Op::Peek(cost),
                #[cfg(feature = "admin")]
                Act::Inspect => Op::Peek(cost),
                Act::Reset if matches!(limit.scope, Scope::Shared(_)) => Op::Peek(0),
                Act::Reset => Op::Clear,
            };
            let place = limit.scope.place(client, || inner.route_key(self.route));
            let rate = granted.and_then(|granted| granted.rates.of(limit.granted));
            let rate = rate.unwrap_or_else(|| limit.quota.rate());
            charged.asked.push(Asked::new(number, limit.charge(rate, place, op, rule.shadow)));
        }
        if self.act.needs_permits() && !rule.concurrency.is_empty() {
            let mut needed = Demands::new(client);
            needed.add(inner, rule, client, granted, || smallvec![inner.route_key(self.route)]);
            *demands = Some(needed);
        }
    }
}

impl<'a> IntoFuture for Charging<'a> {
    type Output = Result<Decision, ChargeError>;
    type IntoFuture = ChargeFuture<'a>;

    fn into_future(self) -> ChargeFuture<'a> {
        ChargeFuture::new(self)
    }
}
