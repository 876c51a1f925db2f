use super::{
    super::kinds::{Header, Verb},
    identity::IdentitySection,
    limit::{ConcurrencySection, LimitSection},
};
use crate::{RequestHead, Rule};
use http::{HeaderName, header::HOST};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Which requests it is about, and the limits that they are held to.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct RuleSection {
    /// A name that no other rule has, 1 to 64 printable ASCII characters.
    #[schemars(length(min = 1, max = 64))]
    pub(in super::super) name: String,
    /// Only requests to one of these routes: `/users/{id}`, `/files/{*path}`. All, unless set. They are compared with the path
    /// under every reading that a server may give it, so `//login`, `/%6cogin` and `/login/` are `/login`.
    #[serde(default)]
    routes: Vec<String>,
    /// Only requests with one of these methods. `GET` stands for `HEAD` too. All, unless set.
    #[serde(default)]
    methods: Vec<Verb>,
    /// Only requests for one of these hosts, without a port; `*.example.com` stands for every name below it. All, unless set.
    #[serde(default)]
    hosts: Vec<String>,
    /// Only requests that have all these headers, each with this value, or with any where that is `*`.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Who the client is in this rule, where that is not whom `[identity]` finds.
    identity: Option<IdentitySection>,
    /// How much, how fast.
    #[serde(default)]
    pub(in super::super) limit: Vec<LimitSection>,
    /// How many at once.
    #[serde(default)]
    pub(in super::super) concurrency: Vec<ConcurrencySection>,
    /// Only watches: counts and reports what would be refused, and refuses nothing; false unless set.
    #[serde(default)]
    pub(in super::super) shadow: bool,
    /// The rules that follow do not apply to what this one is about; false unless set. Without limits, it exempts.
    #[serde(default)]
    only: bool,
    /// Not for requests: only a program that charges by hand goes by it; false unless set.
    #[serde(default)]
    by_hand: bool,
    /// Only for clients that may use this resource, as their records in the registry say; others get a 403.
    resource: Option<String>,
    /// The same for the resource that this header of the request names, if it does.
    resource_header: Option<Header>,
}

impl RuleSection {
    pub(super) fn build(&self) -> Rule {
        let mut rule = self.routes.iter().fold(Rule::new(&self.name), Rule::route);
        rule = self.methods.iter().map(|method| (**method).clone()).fold(rule, Rule::method);
        if let Some(condition) = self.condition() {
            rule = rule.when(move |head| condition.holds(head));
        }
        rule = self.identity.iter().map(IdentitySection::source).fold(rule, Rule::identify);
        rule = self.limit.iter().map(|limit| limit.build(&self.name)).fold(rule, Rule::limit);
        let concurrency = self.concurrency.iter().map(|limit| limit.build(&self.name));
        rule = concurrency.fold(rule, Rule::concurrency);
        rule = self.resource.iter().fold(rule, Rule::resource);
        if let Some(name) = self.resource_header.as_ref().and_then(|name| name.parse::<HeaderName>().ok()) {
            rule = rule.resource_by(move |head| Some(head.headers().get(&name)?.to_str().ok()?.into()));
        }
        rule = if self.shadow { rule.shadow() } else { rule };
        rule = if self.only { rule.only() } else { rule };
        if self.by_hand { rule.by_hand() } else { rule }
    }

    fn condition(&self) -> Option<Condition> {
        // A name that is none never is in a request; the check has told of it.
        let header = |(name, value): (&String, &String)| Some((name.parse().ok()?, value.clone()));
        let condition = Condition {
            hosts: self.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            headers: self.headers.iter().filter_map(header).collect(),
        };
        (!condition.hosts.is_empty() || !condition.headers.is_empty()).then_some(condition)
    }
}

/// What a request must have besides its route and method.
struct Condition {
    hosts: Vec<String>,
    headers: Vec<(HeaderName, String)>,
}

impl Condition {
    fn holds(&self, head: RequestHead<'_>) -> bool {
        let has = |(name, wanted): &(HeaderName, String)| {
            let mut values = head.headers().get_all(name).iter();
            values.any(|value| wanted == "*" || value.as_bytes() == wanted.as_bytes())
        };
        self.headers.iter().all(has) && (self.hosts.is_empty() || self.is_host(head))
    }

    fn is_host(&self, head: RequestHead<'_>) -> bool {
        let named = head.uri().authority().map(|authority| authority.as_str());
        let named = named.or_else(|| head.headers().get(HOST)?.to_str().ok());
        let Some(host) = named.map(without_port) else { return false };
        self.hosts.iter().any(|wanted| match wanted.strip_prefix('*') {
            Some(end) => host.len() > end.len() && host.ends_with(end),
            None => host == *wanted,
        })
    }
}

fn without_port(authority: &str) -> String {
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    };
    host.trim_end_matches('.').to_ascii_lowercase()
}
