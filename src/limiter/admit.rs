//! The way of a request, from its head to a verdict.

use super::{Inner, engine::Answer};
use crate::{
    Charge, Identity, Key, Op, RequestHead,
    decision::Charged,
    identity::{ClientLabel, Rejection, peer},
    policy::{CompiledLimit, CompiledRule, Match, Paths},
    response::Reason,
    store::Readings,
};
use http::{
    Method,
    header::{ACCESS_CONTROL_REQUEST_METHOD, FORWARDED, ORIGIN},
};
use smallvec::SmallVec;
use std::net::IpAddr;

/// What is to become of a request.
#[allow(clippy::large_enum_variant, reason = "a box would be an allocation on each request")]
pub(crate) enum Admission {
    /// No limit applies.
    Free,
    /// Limits apply, and this is what they say.
    Asked(Answer),
    /// It is refused before any limit was asked.
    Refused(Reason),
}

/// What the lists say of a client.
enum Standing {
    Unlisted,
    Allowed,
    Blocked(ClientLabel),
}

impl From<Rejection> for Reason {
    fn from(rejection: Rejection) -> Self {
        Self::Unidentified {
            status: rejection.status(),
            challenge: rejection.challenge(),
            detail: rejection.detail(),
        }
    }
}

impl Inner {
    pub(crate) fn admit(&self, head: RequestHead<'_>) -> Admission {
        let mut callers = Callers::new(self, head);
        let (reason, client) = match callers.standing() {
            Ok(Standing::Allowed) => return Admission::Free,
            Ok(Standing::Unlisted) if self.policy.exempt_preflights && is_preflight(head) => {
                return Admission::Free;
            }
            Ok(Standing::Unlisted) => match self.charges(head, &mut callers) {
                Ok(charged) if charged.charges.is_empty() => return Admission::Free,
                Ok(charged) => return Admission::Asked(self.engine.ask(charged)),
                Err(reason) => (reason, None),
            },
            Ok(Standing::Blocked(client)) => (Reason::Blocked, Some(client)),
            Err(rejection) => (rejection.into(), None),
        };
        self.report_refused(&reason, client, head);
        Admission::Refused(reason)
    }

    /// The charges of every rule that matches.
    fn charges(&self, head: RequestHead<'_>, callers: &mut Callers<'_>) -> Result<Charged, Reason> {
        let route = Route::of(self, head);
        let mut charged = Charged::new();
        for rule in &self.policy.rules {
            let Some(matched) = route.matches(rule) else { continue };
            if rule.when.as_ref().is_some_and(|when| !when(head)) {
                continue;
            }
            let before = charged.charges.len();
            match self.charge_rule(rule, matched, &route, callers, &mut charged) {
                Err(reason) if rule.shadow => {
                    charged.truncate(before);
                    self.report_would_reject(&reason, head);
                }
                result => result?,
            }
            // A path that only some servers read as this rule's may be another rule's, which binds too.
            if rule.only && matched.whole {
                break;
            }
        }
        Ok(charged)
    }

    fn charge_rule(
        &self,
        rule: &CompiledRule,
        matched: Match,
        route: &Route<'_>,
        callers: &mut Callers<'_>,
        charged: &mut Charged,
    ) -> Result<(), Reason> {
        if rule.limits.is_empty() {
            return Ok(());
        }
        let (key, label) = callers.client(rule.source)?;
        for number in rule.limits.clone() {
            let limit = &self.policy.limits[number];
            let cost = limit
                .cost
                .of(callers.head, || callers.address().ok().flatten())
                .map_err(|detail| Reason::BadCost { detail })?;
            let place = limit.scope.place(key, || route.key(rule, matched));
            charged.push(number, limit.charge(place, Op::Take(cost), rule.shadow));
        }
        charged.client.get_or_insert(label);
        Ok(())
    }

    /// The template of a request's route, for those who want to know.
    pub(crate) fn route<'a>(&'a self, head: RequestHead<'a>) -> Option<&'a str> {
        matched_path(head).or_else(|| self.policy.templates.name(&Paths::of(head.path())))
    }

    /// Whether forwarding headers came from a peer that is not trusted with them.
    pub(crate) fn has_untrusted_forwarding(&self, head: RequestHead<'_>) -> bool {
        let forwards =
            head.headers().contains_key(&FORWARDED) || head.headers().contains_key("x-forwarded-for");
        let peer = peer(head);
        forwards
            && peer.is_some()
            && self.policy.proxies.as_ref().is_none_or(|proxies| {
                proxies.client_address(peer, head.headers()).is_ok_and(|client| client == peer)
            })
    }
}

impl Charged {
    pub(super) fn new() -> Self {
        Self { charges: SmallVec::new(), limits: SmallVec::new(), readings: Readings::new(), client: None }
    }

    pub(super) fn push(&mut self, limit: usize, charge: Charge) {
        self.limits.push(limit);
        self.charges.push(charge);
    }

    fn truncate(&mut self, len: usize) {
        self.limits.truncate(len);
        self.charges.truncate(len);
    }
}

impl CompiledLimit {
    pub(super) fn charge(&self, place: crate::Place, op: Op, shadow: bool) -> Charge {
        let rate = self.quota.rate();
        Charge { place, limit: self.id, rate, max_debt: self.max_debt(rate.burst()), op, shadow }
    }
}

fn is_preflight(head: RequestHead<'_>) -> bool {
    head.method() == Method::OPTIONS
        && head.headers().contains_key(&ORIGIN)
        && head.headers().contains_key(&ACCESS_CONTROL_REQUEST_METHOD)
}

/// The request's route: as the router named it, and as its path may be read.
struct Route<'a> {
    inner: &'a Inner,
    method: &'a Method,
    template: Option<&'a str>,
    paths: Paths<'a>,
}

impl<'a> Route<'a> {
    fn of(inner: &'a Inner, head: RequestHead<'a>) -> Self {
        // No rule asks for the path where none has a route.
        let paths = Paths::of(if inner.policy.has_routes { head.path() } else { "/" });
        let template = if inner.policy.has_templates { matched_path(head) } else { None };
        Self { inner, method: head.method(), template, paths }
    }

    fn matches(&self, rule: &CompiledRule) -> Option<Match> {
        rule.matcher.matches(self.method, self.template, &self.paths)
    }

    /// As the router named it, else as the rule does, else as any other rule does. All that is left shares a key.
    fn key(&self, rule: &CompiledRule, matched: Match) -> Key {
        let pattern = || rule.matcher.pattern(matched);
        self.inner.route_key(
            self.template.or_else(pattern).or_else(|| self.inner.policy.templates.name(&self.paths)),
        )
    }
}

#[cfg(feature = "axum")]
fn matched_path(head: RequestHead<'_>) -> Option<&str> {
    head.extensions().get::<axum::extract::MatchedPath>().map(axum::extract::MatchedPath::as_str)
}

#[cfg(not(feature = "axum"))]
fn matched_path(_: RequestHead<'_>) -> Option<&str> {
    None
}

/// Who is asking: found once for each source that the rules go by.
struct Callers<'a> {
    inner: &'a Inner,
    head: RequestHead<'a>,
    address: Option<Result<Option<IpAddr>, Rejection>>,
    found: SmallVec<[(usize, Key, ClientLabel); 2]>,
}

impl<'a> Callers<'a> {
    fn new(inner: &'a Inner, head: RequestHead<'a>) -> Self {
        Self { inner, head, address: None, found: SmallVec::new() }
    }

    fn client(&mut self, source: usize) -> Result<(Key, ClientLabel), Rejection> {
        if let Some((_, key, label)) = self.found.iter().find(|(known, ..)| *known == source) {
            return Ok((*key, *label));
        }
        let policy = &self.inner.policy;
        let identity = policy.sources[source].identify(self.head, policy.proxies.as_ref())?;
        let key = identity.key(&self.inner.keys);
        let label = identity.label(key);
        self.note_anonymous(&identity);
        self.found.push((source, key, label));
        Ok((key, label))
    }

    /// The client's address, behind the trusted proxies if there are any.
    fn address(&mut self) -> Result<Option<IpAddr>, Rejection> {
        let head = self.head;
        let proxies = self.inner.policy.proxies.as_ref();
        *self.address.get_or_insert_with(|| {
            let peer = peer(head);
            proxies.map_or(Ok(peer), |proxies| proxies.client_address(peer, head.headers()))
        })
    }

    /// What the lists say of the client, by its address and by whatever source of the policy knows it: a block holds on
    /// routes without a rule too. A source that rejects the request knows nobody, and its rules reject it later.
    fn standing(&mut self) -> Result<Standing, Rejection> {
        let (inner, policy) = (self.inner, &self.inner.policy);
        let (allowed, blocked) = (&policy.allowed, &policy.blocked);
        let mut standing = Standing::Unlisted;
        if allowed.has_networks() || blocked.has_networks() {
            match self.address()? {
                Some(address) if blocked.contains_address(address) => {
                    let identity = Identity::address(address);
                    return Ok(Standing::Blocked(identity.label(identity.key(&inner.keys))));
                }
                Some(address) if allowed.contains_address(address) => standing = Standing::Allowed,
                _ => {}
            }
        }
        if !allowed.has_identities() && !blocked.has_identities() {
            return Ok(standing);
        }
        for (number, source) in policy.sources.iter().enumerate() {
            let Ok(identity) = source.identify(self.head, policy.proxies.as_ref()) else { continue };
            // Whom one rule's source does not know may be known to the policy's.
            if number > 0 && identity.is_anonymous() {
                continue;
            }
            let key = identity.key(&inner.keys);
            if blocked.contains(key) {
                return Ok(Standing::Blocked(identity.label(key)));
            }
            if allowed.contains(key) {
                standing = Standing::Allowed;
            }
        }
        Ok(standing)
    }

    fn note_anonymous(&self, identity: &Identity<'_>) {
        if identity.is_anonymous() {
            self.inner.warn_anonymous(peer(self.head).is_some());
        }
    }
}
