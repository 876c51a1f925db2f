//! The way of a request, from its head to a verdict.

use super::{Charged, Inner, Pending};
use crate::{
    Charge, Identity, Key, Op, RequestHead,
    identity::{ClientLabel, Rejection, peer},
    policy::{CompiledLimit, CompiledRule, Match, Paths},
    response::Reason,
};
use http::{
    Method,
    header::{ACCESS_CONTROL_REQUEST_METHOD, FORWARDED, ORIGIN},
};
use smallvec::SmallVec;
use std::net::IpAddr;

/// What is to become of a request.
pub(crate) enum Admission {
    /// No limit applies.
    Free,
    /// Limits apply, and have said what they say.
    Decided,
    /// Limits apply, and a remote store is being asked.
    Waiting(Pending),
    /// It is refused before any limit was asked.
    Refused(Reason),
}

/// Why no charge is made.
enum Stop {
    Free,
    Refused(Reason),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(Reason::Unidentified {
            status: rejection.status(),
            challenge: rejection.challenge(),
            detail: rejection.detail(),
        })
    }
}

impl Inner {
    /// Asks all limits that apply to a request; what they say is in `charged`, which comes empty.
    pub(crate) fn admit(&self, head: RequestHead<'_>, charged: &mut Charged) -> Admission {
        if self.policy.exempt_preflights && is_preflight(head) {
            return Admission::Free;
        }
        match self.collect(head, charged) {
            Ok(()) if charged.charges.is_empty() => Admission::Free,
            Ok(()) => self.engine.ask(charged).map_or(Admission::Decided, Admission::Waiting),
            Err(Stop::Free) => Admission::Free,
            Err(Stop::Refused(reason)) => Admission::Refused(reason),
        }
    }

    /// The charges of every rule that matches.
    fn collect(&self, head: RequestHead<'_>, charged: &mut Charged) -> Result<(), Stop> {
        let mut callers = Callers::new(self, head);
        callers.check_lists()?;
        let route = Route::of(self, head);
        for rule in &self.policy.rules {
            let Some(matched) = route.matches(rule) else { continue };
            if rule.when.as_ref().is_some_and(|when| !when(head)) {
                continue;
            }
            if !rule.limits.is_empty() {
                let key = callers.key(rule.source)?;
                for number in rule.limits.clone() {
                    let limit = &self.policy.limits[number];
                    let cost = limit
                        .cost
                        .of(head, || callers.address().ok().flatten())
                        .map_err(|detail| Stop::Refused(Reason::BadCost { detail }))?;
                    let place = limit.scope.place(key, || route.key(rule, matched));
                    charged.push(number, limit.charge(place, Op::Take(cost), rule.shadow));
                }
            }
            // A path that only some servers read as this rule's may be another rule's, which binds too.
            if rule.only && matched.whole {
                break;
            }
        }
        Ok(())
    }

    /// The client that a limit goes by, as logs may name it.
    pub(crate) fn client(&self, head: RequestHead<'_>, limit: Option<usize>) -> Option<ClientLabel> {
        let policy = &self.policy;
        let source = limit.map_or(0, |limit| policy.rules[policy.limits[limit].rule].source);
        let identity = policy.sources[source].identify(head, policy.proxies.as_ref()).ok()?;
        Some(identity.label(identity.key(&self.keys)))
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
    found: SmallVec<[(usize, Key); 2]>,
}

impl<'a> Callers<'a> {
    fn new(inner: &'a Inner, head: RequestHead<'a>) -> Self {
        Self { inner, head, address: None, found: SmallVec::new() }
    }

    fn key(&mut self, source: usize) -> Result<Key, Stop> {
        if let Some((_, key)) = self.found.iter().find(|(known, _)| *known == source) {
            return Ok(*key);
        }
        let policy = &self.inner.policy;
        let identity = policy.sources[source].identify(self.head, policy.proxies.as_ref())?;
        let key = identity.key(&self.inner.keys);
        self.note_anonymous(&identity);
        if policy.blocked.contains(key) {
            return Err(Stop::Refused(Reason::Blocked));
        }
        if policy.allowed.contains(key) {
            return Err(Stop::Free);
        }
        self.found.push((source, key));
        Ok(key)
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

    /// The lists come before the rules, and whoever is on both is refused.
    fn check_lists(&mut self) -> Result<(), Stop> {
        let (allowed, blocked) = (&self.inner.policy.allowed, &self.inner.policy.blocked);
        if self.is_blocked() {
            return Err(Stop::Refused(Reason::Blocked));
        }
        if !allowed.has_networks() && !blocked.has_networks() {
            return Ok(());
        }
        match self.address()? {
            Some(address) if blocked.contains_address(address) => Err(Stop::Refused(Reason::Blocked)),
            Some(address) if allowed.contains_address(address) => Err(Stop::Free),
            _ => Ok(()),
        }
    }

    /// Whether any source knows a client of the block list, even where no limit asks for it. Whether it matters that
    /// one finds nobody, or something malformed, is for the rules.
    fn is_blocked(&self) -> bool {
        let Inner { policy, keys, .. } = self.inner;
        let is_blocked =
            |identity: Identity<'_>| !identity.is_anonymous() && policy.blocked.contains(identity.key(keys));
        policy.blocked.has_identities()
            && policy
                .sources
                .iter()
                .any(|source| source.identify(self.head, policy.proxies.as_ref()).is_ok_and(is_blocked))
    }

    fn note_anonymous(&self, identity: &Identity<'_>) {
        if identity.is_anonymous() {
            self.inner.warn_anonymous(peer(self.head).is_some());
        }
    }
}
