//! Which limits apply.
//!
//! A [`Policy`] is a description; nothing in it is checked before the limiter is built, so that all mistakes can be
//! told at once. *Every* rule that matches a request applies, and all their limits are charged together or not at all.
//! A rule that rejects a request charges nothing itself, and the others apply all the same.

mod ban;
mod bandwidth;
mod compile;
mod concurrency;
mod cost;
mod limit;
mod lists;
mod matcher;
mod paths;
mod pattern;
mod sole;
mod store_down;

use crate::{
    HeaderStyle, Identity, Quota, Refusal, RequestHead, Source, TrustedProxies, response::AnswerStyle,
};

pub use ban::Ban;
pub use bandwidth::Bandwidth;
pub(crate) use bandwidth::{Direction, Metering};
use bytes::Bytes;
pub(crate) use compile::{Compiled, CompiledLimit, CompiledRule, Scope};
pub(crate) use concurrency::CompiledConcurrency;
pub use concurrency::Concurrency;
pub use cost::{Cost, Settle};
pub(crate) use cost::{Settlement, UnitCost, whole_number};
use http::{Method, Response};
pub use limit::Limit;
pub(crate) use limit::Shares;
pub use lists::Lists;
pub(crate) use lists::{Both, List};
pub(crate) use matcher::Match;
pub(crate) use paths::Paths;
pub(crate) use sole::Sole;
use std::{borrow::Cow, fmt, sync::Arc};
pub use store_down::StoreDown;

/// Who is asking, which rules apply to whom, and whom none applies to.
///
/// ```
/// use tidegate::{Limit, Policy, Quota, Rule, Source, TrustedProxies};
///
/// let policy = Policy::new()
///     .trust_proxies(TrustedProxies::x_forwarded_for(["10.0.0.0/8"]))
///     .identify(Source::bearer().or(Source::address()))
///     .rule(Rule::new("api").limit(Limit::per_client("burst", Quota::per_second(10).burst(50))))
///     .rule(Rule::new("login").route("/login").limit(Limit::per_client("login", Quota::per_minute(5))));
/// ```
#[derive(Debug, Clone)]
pub struct Policy {
    pub(crate) source: Source,
    pub(crate) proxies: Option<TrustedProxies>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) lists: Lists,
    pub(crate) exempt_preflights: bool,
    pub(crate) ban: Option<Ban>,
    pub(crate) answers: AnswerStyle,
}

impl Policy {
    /// No rules yet; clients are told apart by their address.
    pub fn new() -> Self {
        Self {
            source: Source::address(),
            proxies: None,
            rules: Vec::new(),
            lists: Lists::new(),
            exempt_preflights: false,
            ban: None,
            answers: AnswerStyle::default(),
        }
    }

    /// One rule named `client` for every request, with one limit of that name for each client.
    pub fn per_client(quota: Quota) -> Self {
        Self::new().rule(Rule::new("client").limit(Limit::per_client("client", quota)))
    }

    /// Who a client is: its address, unless this says otherwise.
    #[must_use]
    pub fn identify(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    /// The proxies whose word is taken for the client's address. Without them the peer of the connection is the client.
    #[must_use]
    pub fn trust_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = Some(proxies);
        self
    }

    /// Adds a rule after the others.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Client addresses that no rule applies to, such as `192.0.2.7` or `10.0.0.0/8`.
    #[must_use]
    pub fn allow_networks(mut self, networks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.lists = self.lists.allow_networks(networks);
        self
    }

    /// A client that no rule applies to, as the policy's source or a rule's own one finds it. An address is on the list
    /// whatever else its client is known by, and a registered client by the [name](Identity::name) that is its id, however
    /// it comes.
    #[must_use]
    pub fn allow(mut self, identity: Identity<'static>) -> Self {
        self.lists = self.lists.allow(identity);
        self
    }

    /// Client addresses that are refused with 403. Whoever is on both lists is refused.
    #[must_use]
    pub fn block_networks(mut self, networks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.lists = self.lists.block_networks(networks);
        self
    }

    /// A client that is refused with 403 on every route, as the policy's source or a rule's own one finds it. Whoever is
    /// on both lists is refused. An address is on the list whatever else its client is known by, and a registered client by
    /// the [name](Identity::name) that is its id, however it comes.
    #[must_use]
    pub fn block(mut self, identity: Identity<'static>) -> Self {
        self.lists = self.lists.block(identity);
        self
    }

    /// Bans clients that are refused too often; nobody is banned unless this is set.
    #[must_use]
    pub fn ban(mut self, ban: Ban) -> Self {
        self.ban = Some(ban);
        self
    }

    /// The fields by which answers tell clients their limits, unless a layer says otherwise.
    #[must_use]
    pub fn headers(mut self, style: HeaderStyle) -> Self {
        self.answers.headers = style;
        self
    }

    /// A sentence of your own that follows ours in a refusal's `detail`, unless a layer says otherwise.
    #[must_use]
    pub fn refusal_text(mut self, text: impl Into<String>) -> Self {
        self.answers.refusal.text = Some(text.into());
        self
    }

    /// A page about your limits, which a refusal points to in its `detail` and its member `help`, unless a layer says otherwise.
    #[must_use]
    pub fn refusal_link(mut self, link: impl Into<String>) -> Self {
        self.answers.refusal.link = Some(link.into());
        self
    }

    /// A refusal of your own, unless a layer says otherwise; see [`ThrottleLayer::refusal`](crate::ThrottleLayer::refusal).
    #[must_use]
    pub fn refusal(
        mut self,
        respond: impl Fn(&Refusal<'_>, RequestHead<'_>) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.answers.refusal.custom = Some(Arc::new(respond));
        self
    }

    /// Lets the browsers' CORS preflights (`OPTIONS` with `Origin` and `Access-Control-Request-Method`) pass uncounted,
    /// but not those of blocked clients.
    #[must_use]
    pub const fn exempt_preflights(mut self) -> Self {
        self.exempt_preflights = true;
        self
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

/// Which requests it is about, and the limits that they are held to.
///
/// A rule without routes and methods is about every request. One without limits lets its requests pass, which together
/// with [`only`](Self::only) exempts them from the rules that follow.
#[derive(Clone)]
pub struct Rule {
    pub(crate) name: String,
    pub(crate) methods: Vec<Method>,
    pub(crate) patterns: Vec<String>,
    pub(crate) when: Option<When>,
    pub(crate) source: Option<Source>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) concurrency: Vec<Concurrency>,
    pub(crate) shadow: bool,
    pub(crate) only: bool,
    pub(crate) by_hand: bool,
    pub(crate) resource: Option<Resource>,
}

/// What a client must be allowed to use.
#[derive(Clone)]
pub(crate) enum Resource {
    Named(String),
    By(ResourceOf),
}

impl Resource {
    /// The resource that a request is for.
    pub(crate) fn of<'a>(&'a self, head: RequestHead<'a>) -> Option<Cow<'a, str>> {
        match self {
            Self::Named(name) => Some(Cow::Borrowed(name)),
            Self::By(resource) => resource(head),
        }
    }
}

type ResourceOf = Arc<dyn for<'a> Fn(RequestHead<'a>) -> Option<Cow<'a, str>> + Send + Sync>;

type When = Arc<dyn Fn(RequestHead<'_>) -> bool + Send + Sync>;

impl Rule {
    /// A rule about every request, without limits yet. No two rules of a policy have one name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            methods: Vec::new(),
            patterns: Vec::new(),
            when: None,
            source: None,
            limits: Vec::new(),
            concurrency: Vec::new(),
            shadow: false,
            only: false,
            by_hand: false,
            resource: None,
        }
    }

    /// Only requests to this route, or to another one given: `/users/{id}`, `/files/{*path}`.
    ///
    /// It is compared with axum's `MatchedPath` where there is one (feature `axum`), and with the path under every
    /// reading that a server may give it: `//login`, `/./login`, `/%6cogin` and `/login/` are `/login`. A `{*path}`
    /// needs at least one character, as in axum: list `/files` too if it is meant.
    #[must_use]
    pub fn route(mut self, pattern: impl Into<String>) -> Self {
        self.patterns.push(pattern.into());
        self
    }

    /// Only requests with this method, or with another one given. `GET` stands for `HEAD` too.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.methods.push(method);
        self
    }

    /// Only requests of which the closure says so. It is asked last.
    #[must_use]
    pub fn when(mut self, when: impl Fn(RequestHead<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.when = Some(Arc::new(when));
        self
    }

    /// Who the client is in this rule, such as the address where the policy goes by API key.
    #[must_use]
    pub fn identify(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    /// Only for clients that may use this resource, as [`ClientRecord::allowed_queues`](crate::ClientRecord::allowed_queues)
    /// says; others get a 403, or [`ChargeError::ResourceNotAllowed`](crate::ChargeError::ResourceNotAllowed) where they
    /// are charged by hand. The rule's source must be [registered](Source::registered).
    #[must_use]
    pub fn resource(mut self, name: impl Into<String>) -> Self {
        self.resource = Some(Resource::Named(name.into()));
        self
    }

    /// The same for the resource that a closure finds in the request, if it does. Charged by hand, say it with
    /// [`Charging::resource`](crate::Charging::resource).
    #[must_use]
    pub fn resource_by(
        mut self,
        resource: impl for<'a> Fn(RequestHead<'a>) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    ) -> Self {
        self.resource = Some(Resource::By(Arc::new(resource)));
        self
    }

    /// Adds a limit. No two limits of a policy have one name.
    #[must_use]
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// Adds a limit on how many requests run at once. It shares its names with the other limits.
    #[must_use]
    pub fn concurrency(mut self, concurrency: Concurrency) -> Self {
        self.concurrency.push(concurrency);
        self
    }

    /// Only watch: count and report what would be refused, and refuse nothing.
    #[must_use]
    pub const fn shadow(mut self) -> Self {
        self.shadow = true;
        self
    }

    /// Not for requests: only [`Client::charge`](crate::Client::charge) goes by this rule.
    #[must_use]
    pub const fn by_hand(mut self) -> Self {
        self.by_hand = true;
        self
    }

    /// The rules that follow do not apply to what this rule is about, unless it only watches.
    #[must_use]
    pub const fn only(mut self) -> Self {
        self.only = true;
        self
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("name", &self.name)
            .field("methods", &self.methods)
            .field("patterns", &self.patterns)
            .field("when", &self.when.as_ref().map(|_| ".."))
            .field("source", &self.source)
            .field("limits", &self.limits)
            .field("concurrency", &self.concurrency)
            .field("shadow", &self.shadow)
            .field("only", &self.only)
            .field("by_hand", &self.by_hand)
            .finish()
    }
}
