//! The way of a request, from its head to a verdict.

use super::{Charged, Inner, Pending};
use crate::{
    Charge, Identity, Key, Op, Place, RequestHead,
    identity::{ClientLabel, Rejection, client_address, peer},
    policy::{CompiledLimit, CompiledRule, Match, Paths, Scope},
    response::Reason,
};
use http::{
    Method,
    header::{ACCESS_CONTROL_REQUEST_METHOD, FORWARDED, ORIGIN},
};
use smallvec::{SmallVec, smallvec};
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

/// What the lists say of a client.
enum Standing {
    Unlisted,
    Allowed,
    Blocked(ClientLabel),
}

impl Inner {
    /// Asks all limits that apply to a request; what they say is in `charged`, which comes empty.
    pub(crate) fn admit(&self, head: RequestHead<'_>, charged: &mut Charged) -> Admission {
        let mut callers = Callers::new(self, head);
        let (reason, client) = match callers.standing() {
            Ok(Standing::Allowed) => return Admission::Free,
            Ok(Standing::Unlisted) if self.policy.exempt_preflights && is_preflight(head) => {
                return Admission::Free;
            }
            Ok(Standing::Unlisted) => match self.collect(head, &mut callers, charged) {
                Ok(()) if charged.charges.is_empty() => return Admission::Free,
                Ok(()) => return self.engine.ask(charged).map_or(Admission::Decided, Admission::Waiting),
                Err(reason) => (reason, None),
            },
            Ok(Standing::Blocked(client)) => (Reason::Blocked, Some(client)),
            Err(rejection) => (Reason::Unidentified(rejection), None),
        };
        self.report_refused(&reason, client, head);
        Admission::Refused(reason)
    }

    /// The charges of every rule that matches.
    fn collect(
        &self,
        head: RequestHead<'_>,
        callers: &mut Callers<'_>,
        charged: &mut Charged,
    ) -> Result<(), Reason> {
        let route = Route::of(self, head);
        for rule in &self.policy.rules {
            let Some(matched) = route.matches(rule) else { continue };
            if rule.by_hand || rule.when.as_ref().is_some_and(|when| !when(head)) {
                continue;
            }
            let before = charged.charges.len();
            match self.collect_rule(rule, &route, callers, charged) {
                Err(reason) if rule.shadow => {
                    charged.truncate(before);
                    self.report_would_reject(&reason, head);
                }
                result => result?,
            }
            // A path that only some servers read as this rule's may be another rule's, which binds too.
            if rule.only && matched == Match::Whole {
                break;
            }
        }
        Ok(())
    }

    fn collect_rule(
        &self,
        rule: &CompiledRule,
        route: &Route<'_>,
        callers: &mut Callers<'_>,
        charged: &mut Charged,
    ) -> Result<(), Reason> {
        if rule.limits.is_empty() {
            return Ok(());
        }
        let client = callers.key(rule.source).map_err(Reason::Unidentified)?;
        for number in rule.limits.clone() {
            let limit = &self.policy.limits[number];
            let cost = limit
                .cost
                .of(callers.head, || callers.address().ok().flatten())
                .map_err(|detail| Reason::BadCost { detail })?;
            let mut push = |place| charged.push(number, limit.charge(place, Op::Take(cost), rule.shadow));
            match limit.scope {
                Scope::Client(group) => push(Place::Client(client.and(group))),
                Scope::Shared(number) => push(Place::Shared(number)),
                Scope::ClientAndRoute(group) => {
                    for name in route.names(rule) {
                        push(Place::Client(client.and(group).and(self.route_key(name))));
                    }
                }
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
        matched_path(head).or_else(|| self.policy.templates.name(&Paths::of(path(head))))
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
    pub(super) fn charge(&self, place: Place, op: Op, shadow: bool) -> Charge {
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
        let paths = if inner.policy.has_routes { Paths::of(path(head)) } else { Paths::raw("/") };
        let template = if inner.policy.has_templates { matched_path(head) } else { None };
        Self { inner, method: head.method(), template, paths }
    }

    fn matches(&self, rule: &CompiledRule) -> Option<Match> {
        rule.matcher.matches(self.method, self.template, &self.paths)
    }

    /// What a rule's limits per route go by: the template where a router named one; else the rule's own pattern, or any
    /// other rule's, under each reading of the path. All that has no name shares one.
    fn names<'s>(&'s self, rule: &'s CompiledRule) -> SmallVec<[Option<&'s str>; 2]> {
        if self.template.is_some() {
            return smallvec![self.template];
        }
        let templates = &self.inner.policy.templates;
        let mut names = SmallVec::new();
        for path in self.paths.iter() {
            let name =
                if rule.matcher.has_routes() { rule.matcher.name(path) } else { templates.name_one(path) };
            // A reading that is not the rule's is another rule's to count.
            if (name.is_some() || !rule.matcher.has_routes()) && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

#[cfg(feature = "axum")]
fn matched_path(head: RequestHead<'_>) -> Option<&str> {
    head.extensions().get::<axum::extract::MatchedPath>().map(axum::extract::MatchedPath::as_str)
}

/// The path as the client sent it: inside a nested router axum has cut its prefix off.
#[cfg(feature = "axum")]
fn path(head: RequestHead<'_>) -> &str {
    let original = head.extensions().get::<axum::extract::OriginalUri>();
    original.map_or_else(|| head.path(), |original| original.path())
}

#[cfg(not(feature = "axum"))]
fn path(head: RequestHead<'_>) -> &str {
    head.path()
}

#[cfg(not(feature = "axum"))]
fn matched_path(_: RequestHead<'_>) -> Option<&str> {
    None
}

/// Who is asking: found once for each source that the rules go by.
struct Callers<'a> {
    inner: &'a Inner,
    head: RequestHead<'a>,
    /// The source that was asked last, because rules that follow one another mostly go by the same.
    found: Option<(usize, Key)>,
}

impl<'a> Callers<'a> {
    fn new(inner: &'a Inner, head: RequestHead<'a>) -> Self {
        Self { inner, head, found: None }
    }

    fn key(&mut self, source: usize) -> Result<Key, Rejection> {
        if let Some((known, key)) = self.found {
            if known == source {
                return Ok(key);
            }
        }
        let Inner { policy, keys, .. } = self.inner;
        let (key, is_somebody) = policy.sources[source].key(self.head, policy.proxies.as_ref(), keys)?;
        if !is_somebody {
            self.inner.warn_anonymous(peer(self.head).is_some());
        }
        self.found = Some((source, key));
        Ok(key)
    }

    /// The client's address, behind the trusted proxies if there are any.
    fn address(&self) -> Result<Option<IpAddr>, Rejection> {
        client_address(self.head, self.inner.policy.proxies.as_ref())
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
            let identity = match source.identify(self.head, policy.proxies.as_ref()) {
                Ok(identity) => identity,
                // Who is on the list must not get by it by sending a credential twice.
                Err(rejection) if blocked.has_identities() && rejection.is_malformed() => {
                    return Err(rejection);
                }
                Err(_) => continue,
            };
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
}
