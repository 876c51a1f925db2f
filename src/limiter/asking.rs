//! What a request is charged for, found out when it is first needed.
//!
//! What few policies need is in functions that are not inlined, out of the way of the others.

use super::{
    Charged, Inner,
    demands::Demands,
    grades::Rates,
    grants::{Denied, Granted, Known, Lookup},
};
use crate::{
    Identity, Key, Place, RequestHead,
    identity::{By, ClientLabel, Rejection, client_address, peer},
    policy::{CompiledLimit, CompiledRule, Match, Paths, Scope, UnitCost},
    response::Reason,
};
use smallvec::{SmallVec, smallvec};
use std::{net::IpAddr, time::Duration};

/// The request's route: as the router named it, and as its path may be read.
struct Route<'a> {
    template: Option<&'a str>,
    paths: Paths<'a>,
}

/// What the lists say of a client.
pub(super) enum Standing {
    Unlisted,
    Allowed,
    Blocked(ClientLabel),
    /// Nobody can say, which must not be a way past the block list. Who is on the allow list is charged nothing for it.
    Rejected {
        rejection: Rejection,
        is_allowed: bool,
    },
}

/// A request, and what has been found out about it so far.
pub(super) struct Asking<'a> {
    pub(super) inner: &'a Inner,
    pub(super) head: &'a RequestHead<'a>,
    route: Option<Route<'a>>,
    /// The source that was asked last, whom it found and by what: rules that follow one another mostly go by the same.
    client: Option<(usize, Key, By)>,
    /// The permits that the request needs. Boxed, because few policies have any.
    pub(super) demands: Option<Box<Demands>>,
    /// Clients that were looked up elsewhere for this request.
    known: &'a [Known],
    /// The registered client whose coming was told already, or several rules would tell it several times.
    told: Option<Key>,
}

/// Why a rule's limits are not asked.
pub(super) enum Stop {
    Refused(Reason),
    /// A client has to be looked up elsewhere first.
    Unknown(Lookup),
    /// A client would have to be looked up for a request that is turned away without that.
    Unasked,
}

/// How long to wait before a registry that failed is worth another try.
const REGISTRY_RETRY: Duration = Duration::from_secs(1);

impl<'a> Asking<'a> {
    pub(super) const fn new(inner: &'a Inner, head: &'a RequestHead<'a>, known: &'a [Known]) -> Self {
        Self { inner, head, route: None, client: None, demands: None, known, told: None }
    }

    /// The charges of every rule that matches and does not reject the request.
    pub(super) fn collect(&mut self, charged: &mut Charged) -> Result<(), Stop> {
        for rule in &self.inner.policy.rules {
            let matched = if rule.takes_all { Some(Match::Whole) } else { self.matches(rule) };
            let Some(matched) = matched else { continue };
            let before = charged.asked.len();
            if let Err(stop) = self.collect_rule(rule, charged) {
                charged.asked.truncate(before);
                self.stopped(rule, stop, charged)?;
            }
            // A path that only some servers read as this rule's may be another rule's, which binds too.
            if rule.only && matched == Match::Whole {
                break;
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn matches(&mut self, rule: &CompiledRule) -> Option<Match> {
        let method = self.head.method();
        if rule.by_hand || !rule.matcher.takes(method) {
            return None;
        }
        let matched = if rule.matcher.has_routes() {
            let route = self.route();
            rule.matcher.matches(method, route.template, &route.paths)?
        } else {
            Match::Whole
        };
        rule.when.as_ref().is_none_or(|when| when(*self.head)).then_some(matched)
    }

    fn route(&mut self) -> &Route<'a> {
        self.route.get_or_insert_with(|| Route {
            template: matched_path(self.head),
            paths: Paths::of(path(self.head)),
        })
    }

    fn collect_rule(&mut self, rule: &CompiledRule, charged: &mut Charged) -> Result<(), Stop> {
        if rule.registered {
            return self.collect_registered(rule, charged);
        }
        if rule.limits.is_empty() && rule.concurrency.is_empty() {
            return Ok(());
        }
        let client = self.client(rule.source).map_err(refused)?;
        self.collect_limits(rule, client, None, charged)
    }

    #[inline(always)]
    fn collect_limits(
        &mut self,
        rule: &CompiledRule,
        client: Key,
        granted: Option<&Granted>,
        charged: &mut Charged,
    ) -> Result<(), Stop> {
        self.collect_rates(rule, client, granted.map(|granted| &granted.rates), charged)?;
        if !rule.concurrency.is_empty() {
            self.demand(rule, client, granted);
        }
        Ok(())
    }

    #[inline(always)]
    fn collect_rates(
        &mut self,
        rule: &CompiledRule,
        client: Key,
        granted: Option<&Rates>,
        charged: &mut Charged,
    ) -> Result<(), Stop> {
        for number in rule.limits.clone() {
            let limit = &self.inner.policy.limits[number];
            let cost = match limit.cost {
                UnitCost::Fixed(units) => units,
                _ => self.cost(limit).map_err(Stop::Refused)?,
            };
            let rate = granted.and_then(|granted| granted.of(limit.granted));
            let mut take = |place| charged.take(number, limit, rate, place, cost, rule.shadow);
            match limit.scope {
                Scope::Client(group) => {
                    take(Place::Client(client.and(group)));
                }
                Scope::Shared(place) => take(Place::Shared(place)),
                Scope::ClientAndRoute(group) => {
                    for route in self.routes(rule) {
                        take(Place::Client(client.and(group).and(route)));
                    }
                }
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn demand(&mut self, rule: &CompiledRule, client: Key, granted: Option<&Granted>) {
        let mut demands = self.demands.take().unwrap_or_else(|| Box::new(Demands::new(client)));
        demands.add(self.inner, rule, client, granted, || self.routes(rule));
        self.demands = Some(demands);
    }

    /// The charges of a rule whose clients are in the registry.
    #[inline(never)]
    fn collect_registered(&mut self, rule: &CompiledRule, charged: &mut Charged) -> Result<(), Stop> {
        let key = self.client(rule.source).map_err(refused)?;
        let Some(grants) = &self.inner.grants else { return self.collect_limits(rule, key, None, charged) };
        // Never by an API key: guessing one that is taken for another's would be too easy.
        if rule.is_plain() && matches!(self.client, Some((_, _, By::Id))) {
            self.inner.fetch(rule, key);
            if let Some(rates) = grants.plain(key, self.head.headers()) {
                charged.registered.push((rule.number, key));
                return self.collect_rates(rule, key, Some(rates), charged);
            }
        }
        if let Some(collected) = grants.with(key, |granted| self.collect_granted(rule, key, granted, charged))
        {
            return collected;
        }
        match self.look_up(rule.source, key, charged)? {
            Some(granted) => self.collect_granted(rule, key, &granted, charged),
            None => self.collect_limits(rule, key, None, charged),
        }
    }

    fn collect_granted(
        &mut self,
        rule: &CompiledRule,
        key: Key,
        granted: &Granted,
        charged: &mut Charged,
    ) -> Result<(), Stop> {
        let is_news = self.told.replace(key) != Some(key);
        if is_news {
            self.inner.note_use(granted);
        }
        if let Some(resource) = rule.resource.as_ref().and_then(|resource| resource.of(*self.head)) {
            if !granted.record.may_use(&resource) {
                return Err(Stop::Refused(Reason::ResourceNotAllowed { resource: resource.into_owned() }));
            }
        }
        let before = charged.asked.len();
        let overridden = self.inner.overridden(granted, self.head.headers(), is_news);
        match overridden.map_err(Stop::Refused)? {
            None => {
                charged.registered.push((rule.number, key));
                self.collect_limits(rule, granted.client, Some(granted), charged)?;
            }
            Some(granted) => self.collect_limits(rule, granted.client, Some(&granted), charged)?,
        }
        if granted.may_override {
            self.inner.keep_owed(&mut charged.asked[before..]);
        }
        Ok(())
    }

    /// Looks a client up; nothing where it is not one of the registry's kind.
    #[cold]
    fn look_up(&self, source: usize, key: Key, charged: &mut Charged) -> Result<Option<Granted>, Stop> {
        let Inner { policy, grants, .. } = self.inner;
        let identity =
            policy.sources[source].identify(*self.head, policy.proxies.as_ref()).map_err(refused)?;
        let Some((grants, who)) =
            grants.as_ref().and_then(|grants| Some((grants, grants.claimed(&identity)?)))
        else {
            return Ok(None);
        };
        let outcome = match self.known.iter().find(|(known, _)| *known == key) {
            Some((_, outcome)) => outcome.clone(),
            None if charged.is_rejected() || self.inner.is_refused_already(charged) => {
                return Err(Stop::Unasked);
            }
            None => {
                let address =
                    self.address().map_err(refused)?.map_or(Identity::anonymous(), Identity::address);
                let looked = grants.look_up(key, who, Some(address.key(&self.inner.keys)));
                let looked = looked.map_err(Stop::Unknown)?;
                self.inner.note_looked(&looked);
                looked.outcome
            }
        };
        outcome.and_then(Granted::enabled).map(Some).map_err(|denied| {
            Stop::Refused(match denied {
                Denied::Rejected(rejection) => Reason::Unidentified(rejection),
                Denied::Down(_) => Reason::StoreDown { retry_after: REGISTRY_RETRY },
            })
        })
    }

    fn client(&mut self, source: usize) -> Result<Key, Rejection> {
        if let Some((known, key, _)) = self.client {
            if known == source {
                return Ok(key);
            }
        }
        let Inner { policy, keys, .. } = self.inner;
        let (key, by) = policy.sources[source].key(self.head, policy.proxies.as_ref(), keys)?;
        if by == By::Nothing && !self.is_stood_in_for(source) {
            self.inner.warn_anonymous(peer(self.head).is_some());
        }
        self.client = Some((source, key, by));
        Ok(key)
    }

    /// Whether those whom a source does not know are the registry's fallback client.
    #[cold]
    fn is_stood_in_for(&self, source: usize) -> bool {
        let Inner { policy, grants, .. } = self.inner;
        policy.sources[source].registered
            && grants.as_ref().is_some_and(|grants| grants.office.has_fallback())
    }

    #[inline(never)]
    fn cost(&self, limit: &CompiledLimit) -> Result<u32, Reason> {
        let cost = limit.cost.of(*self.head, || self.address().ok().flatten());
        cost.map_err(|detail| Reason::BadCost { detail })
    }

    /// What a rule's limits per route go by: the template where a router named one; else the rule's own pattern, or any
    /// other rule's, under each reading of the path. All that has no name shares one.
    #[inline(never)]
    fn routes(&mut self, rule: &CompiledRule) -> SmallVec<[Key; 2]> {
        let inner = self.inner;
        let route = self.route();
        if route.template.is_some() {
            return smallvec![inner.route_key(route.template)];
        }
        let mut keys = SmallVec::new();
        for path in route.paths.iter() {
            let name = if rule.matcher.has_routes() {
                rule.matcher.name(path)
            } else {
                inner.policy.templates.name_one(path)
            };
            let key = inner.route_key(name);
            // A reading that is not the rule's is another rule's to count.
            if (name.is_some() || !rule.matcher.has_routes()) && !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }

    /// The client's address, behind the trusted proxies if there are any.
    fn address(&self) -> Result<Option<IpAddr>, Rejection> {
        client_address(self.head, self.inner.policy.proxies.as_ref())
    }

    /// What the lists say of the client, by its address, by whatever source of the policy knows it, and by the id of the
    /// registry's client that it is: a block holds on routes without a rule too. A source that rejects the request knows nobody,
    /// and its rules reject it later.
    pub(super) fn standing(&self, known: &[Known]) -> Result<Standing, Lookup> {
        let (inner, policy) = (self.inner, &self.inner.policy);
        let lists = policy.lists.load();
        let (allowed, blocked) = (&lists.allowed, &lists.blocked);
        let mut standing = Standing::Unlisted;
        if allowed.has_networks() || blocked.has_networks() {
            let address = match self.address() {
                Ok(address) => address,
                Err(rejection) => return Ok(Standing::Rejected { rejection, is_allowed: false }),
            };
            match address {
                Some(address) if blocked.contains_address(address) => {
                    let identity = Identity::address(address);
                    return Ok(Standing::Blocked(identity.label(identity.key(&inner.keys))));
                }
                Some(address) if allowed.contains_address(address) => standing = Standing::Allowed,
                _ => {}
            }
        }
        if !allowed.has_identities() && !blocked.has_identities() && !inner.bans() {
            return Ok(standing);
        }
        for (number, source) in policy.sources.iter().enumerate() {
            let identity = match source.identify(*self.head, policy.proxies.as_ref()) {
                Ok(identity) => identity,
                // Who is on the list or banned must not get by that by sending a credential twice.
                Err(rejection) if inner.may_hide_somebody(rejection, blocked) => {
                    let is_allowed = matches!(standing, Standing::Allowed);
                    return Ok(Standing::Rejected { rejection, is_allowed });
                }
                Err(_) => continue,
            };
            let key = identity.key(&inner.keys);
            // Whom one rule's source does not know may be known to the policy's.
            let own = (number == 0 || !identity.is_anonymous()).then_some(key);
            let client = if source.registered && lists.has_names() {
                inner.client_key(key, identity.claim(), known)?
            } else {
                None
            };
            for key in own.into_iter().chain(client) {
                if blocked.contains(key) {
                    return Ok(Standing::Blocked(identity.label(key)));
                }
                if allowed.contains(key) {
                    standing = Standing::Allowed;
                }
            }
        }
        Ok(standing)
    }
}

const fn refused(rejection: Rejection) -> Stop {
    Stop::Refused(Reason::Unidentified(rejection))
}

#[cfg(feature = "axum")]
pub(super) fn matched_path<'a>(head: &RequestHead<'a>) -> Option<&'a str> {
    head.extensions().get::<axum::extract::MatchedPath>().map(axum::extract::MatchedPath::as_str)
}

/// The path as the client sent it: inside a nested router axum has cut its prefix off.
#[cfg(feature = "axum")]
pub(super) fn path<'a>(head: &RequestHead<'a>) -> &'a str {
    let original = head.extensions().get::<axum::extract::OriginalUri>();
    original.map_or_else(|| head.path(), |original| original.path())
}

#[cfg(not(feature = "axum"))]
pub(super) fn path<'a>(head: &RequestHead<'a>) -> &'a str {
    head.path()
}

#[cfg(not(feature = "axum"))]
pub(super) fn matched_path<'a>(_: &RequestHead<'a>) -> Option<&'a str> {
    None
}
