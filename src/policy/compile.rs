//! From the description of a policy to what a request is held against, with every mistake on the way.

mod layout;
mod limit;
mod registered;

use layout::{Layout, place_of};
pub(crate) use limit::{CompiledLimit, Scope};

use super::{
    Ban, CompiledConcurrency, Concurrency, Direction, Limit, Policy, Rule, Settle, Shares, Sole,
    cost::{CostKind, Settlement, UnitCost, header_name},
    lists::{Both, LiveLists},
    matcher::{Matcher, Templates},
};
use crate::{
    Key, Mistake, Quota, Rate,
    ban::Terms,
    identity::{Identify, Networks, Proxies},
    key::{Keys, Material},
    live::QuotaCell,
    response::{self, AnswerStyle},
    store::{Charge, Op, Place, Ready},
};
use http::HeaderValue;
use std::{fmt, ops::Range, sync::Arc};

/// A policy without mistakes.
pub(crate) struct Compiled {
    /// Who is asking: first as the policy says, then as rules say that have a source of their own.
    pub(crate) sources: Vec<Identify>,
    pub(crate) proxies: Option<Proxies>,
    pub(crate) rules: Vec<CompiledRule>,
    /// The limits of all rules, in order.
    pub(crate) limits: Vec<CompiledLimit>,
    /// The limits on concurrency of all rules, in order.
    pub(crate) concurrency: Vec<CompiledConcurrency>,
    /// Whom no rule applies to, and whether anybody or anything is on a list or exempt, or can be banned.
    pub(crate) lists: Arc<LiveLists>,
    /// Whom the policy itself puts on the lists.
    pub(crate) listed: Both,
    pub(crate) exempt_preflights: bool,
    /// How limits and refusals are told.
    pub(crate) answers: AnswerStyle,
    layout: Layout,
    /// When clients are banned, and how many can be remembered.
    pub(crate) ban: Option<(Terms, usize)>,
    /// Names the route of a request that no router has named.
    pub(crate) templates: Templates,
    /// Whether any limit goes by the response.
    pub(crate) has_settlements: bool,
    /// Whether any source looks its clients up in the registry.
    pub(crate) has_registered: bool,
    /// The rule that charges all requests alike, if there is no other.
    pub(crate) sole: Option<Sole>,
}

pub(crate) struct CompiledRule {
    pub(crate) name: String,
    /// Its place in the policy.
    pub(crate) number: usize,
    pub(crate) matcher: Matcher,
    pub(crate) when: Option<super::When>,
    /// Whether it is for each and every request.
    pub(crate) takes_all: bool,
    /// Which of the policy's sources.
    pub(crate) source: usize,
    /// Which of the policy's limits.
    pub(crate) limits: Range<usize>,
    /// Which of the policy's limits on concurrency.
    pub(crate) concurrency: Range<usize>,
    pub(crate) shadow: bool,
    /// Whether it ends the search. One that only watches never does, or it would let requests by the rules behind it.
    pub(crate) only: bool,
    pub(crate) by_hand: bool,
    /// Whether its clients are looked up in the registry.
    pub(crate) registered: bool,
    pub(crate) resource: Option<super::Resource>,
    /// What `RateLimit-Policy` says of all its limits, while their quotas are those that they were built with.
    pub(crate) policy: Option<HeaderValue>,
}

impl CompiledRule {
    /// Whether nothing is asked of its registered clients but their rates.
    pub(crate) fn is_plain(&self) -> bool {
        self.registered && self.resource.is_none() && self.concurrency.is_empty()
    }
}

impl fmt::Debug for CompiledRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledRule").field("name", &self.name).finish_non_exhaustive()
    }
}

/// So many limits of one client lie in one line of the table.
pub(super) const GROUP: usize = 4;

impl Compiled {
    /// Leaves out what has a mistake. Limits of a client are only grouped where memory counts. Those of the names that the
    /// `former` policy had keep their places and quotas.
    pub(crate) fn new(
        policy: &Policy,
        former: Option<&Self>,
        keys: &Keys,
        is_grouped: bool,
        mistakes: &mut Vec<Mistake>,
    ) -> Self {
        let layout = former.map(|former| former.layout.clone()).unwrap_or_default();
        let (limits, concurrency) = (Vec::new(), Vec::new());
        Compiler { keys, mistakes, former, layout, is_grouped, limits, concurrency }.policy(policy)
    }

    /// How many places of shared limits there have to be.
    pub(crate) fn shared_limits(&self) -> usize {
        self.layout.rates[Shares::All as usize].len()
    }

    pub(crate) fn rule(&self, name: &str) -> Option<&CompiledRule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// What `RateLimit-Policy` says of these limits, in ascending order, where they are all of one rule's.
    pub(crate) fn told_policy(&self, mut limits: impl Iterator<Item = usize>) -> Option<&HeaderValue> {
        let first = limits.next()?;
        let rule = &self.rules[self.limits[first].rule];
        let whole = first == rule.limits.start && limits.eq(first + 1..rule.limits.end);
        let told = whole && self.limits[rule.limits.clone()].iter().all(|limit| limit.quota.is_unchanged());
        rule.policy.as_ref().filter(|_| told)
    }

    /// Whether any limit counts requests' bodies.
    pub(crate) fn counts_uploads(&self) -> bool {
        let metering = |limit: &CompiledLimit| limit.settle.as_ref()?.metering().copied();
        self.limits.iter().filter_map(metering).any(|metering| metering.counts(Direction::Up))
    }

    pub(crate) fn limit(&self, name: &str) -> Option<&CompiledLimit> {
        self.limits.iter().find(|limit| limit.words.name == name)
    }
}

/// The rate of a limit's quota, if it can be counted and admits what a request costs.
fn checked_rate(rule: &str, limit: &str, quota: Quota, cost: &UnitCost) -> Result<Rate, Mistake> {
    let (rule, limit) = (rule.to_owned(), limit.to_owned());
    let (rate, cost) = match quota.rate() {
        Ok(rate) => (rate, cost.most()),
        Err(error) => return Err(Mistake::Quota { rule, limit, error }),
    };
    if cost > rate.burst().get() {
        let reason = format!(
            "a request that costs {cost} can never pass \"{quota}\", because only {} fit at once; raise its burst to {cost}",
            rate.burst()
        );
        return Err(Mistake::Cost { rule, limit, reason });
    }
    Ok(rate)
}

struct Compiler<'c> {
    keys: &'c Keys,
    mistakes: &'c mut Vec<Mistake>,
    /// The policy that this one follows.
    former: Option<&'c Compiled>,
    layout: Layout,
    is_grouped: bool,
    limits: Vec<CompiledLimit>,
    concurrency: Vec<CompiledConcurrency>,
}

impl Compiler<'_> {
    fn policy(&mut self, policy: &Policy) -> Compiled {
        let mut sources = vec![policy.source.compile(self.mistakes)];
        let proxies = policy.proxies.as_ref().map(|proxies| proxies.compile(self.mistakes));
        let mut rules: Vec<CompiledRule> = Vec::new();
        for (number, rule) in policy.rules.iter().enumerate() {
            let source = rule.source.as_ref().map_or(0, |source| {
                sources.push(source.compile(self.mistakes));
                sources.len() - 1
            });
            let compiled = self.rule(number, rule, source, &sources);
            self.check_place(&rules, &compiled);
            rules.push(compiled);
        }
        let listed = Both::default().with(&policy.lists, self.keys, self.mistakes);
        let has_registered = sources.iter().any(|source| source.registered);
        let patterns = policy.rules.iter().flat_map(|rule| &rule.patterns);
        let ban = policy.ban.as_ref().map(Ban::compile).transpose();
        let ban = ban.map_err(|mistake| self.mistakes.push(mistake)).ok().flatten();
        let lists = match self.former {
            Some(former) => former.lists.clone(),
            None => Arc::new(LiveLists::new(listed.clone(), policy.exempt_preflights || ban.is_some())),
        };
        Compiled {
            sole: Sole::of(&rules, &self.limits),
            sources,
            proxies,
            rules,
            limits: std::mem::take(&mut self.limits),
            concurrency: std::mem::take(&mut self.concurrency),
            lists,
            listed,
            exempt_preflights: policy.exempt_preflights,
            answers: policy.answers.clone(),
            layout: std::mem::take(&mut self.layout),
            ban,
            has_registered,
            templates: Templates::new(patterns.map(String::as_str)),
            has_settlements: policy
                .rules
                .iter()
                .any(|rule| rule.limits.iter().any(|limit| limit.settle.is_some())),
        }
    }

    /// A rule of the same name, or one that takes everything and ends the search, must not stand before it.
    fn check_place(&mut self, earlier: &[CompiledRule], rule: &CompiledRule) {
        if earlier.iter().any(|other| other.name == rule.name) {
            self.mistakes.push(Mistake::DuplicateRule { rule: rule.name.clone() });
        }
        let takes_all =
            |other: &&CompiledRule| other.only && other.when.is_none() && other.matcher.covers(&rule.matcher);
        if let Some(other) = earlier.iter().find(takes_all).filter(|_| !rule.by_hand) {
            self.mistakes.push(Mistake::Hidden { rule: rule.name.clone(), by: other.name.clone() });
        }
    }

    fn rule(&mut self, number: usize, rule: &Rule, source: usize, sources: &[Identify]) -> CompiledRule {
        self.name(&rule.name);
        let registered = sources[source].registered;
        self.check_registered(rule, registered);
        let first = self.limits.len();
        for limit in &rule.limits {
            self.limit(number, rule, limit);
        }
        let limits = first..self.limits.len();
        let first = self.concurrency.len();
        for concurrency in &rule.concurrency {
            self.concurrency(number, rule, concurrency);
        }
        let policy = (!rule.shadow && !limits.is_empty()).then(|| {
            let members: Vec<_> =
                self.limits[limits.clone()].iter().map(|limit| &*limit.words.policy).collect();
            response::lasting_value(members.join(", "))
        });
        CompiledRule {
            name: rule.name.clone(),
            number,
            matcher: Matcher::compile(&rule.name, &rule.methods, &rule.patterns, self.mistakes),
            when: rule.when.clone(),
            takes_all: rule.methods.is_empty()
                && rule.patterns.is_empty()
                && rule.when.is_none()
                && !rule.by_hand,
            source,
            limits,
            concurrency: first..self.concurrency.len(),
            shadow: rule.shadow,
            only: rule.only && !rule.shadow && !rule.by_hand,
            by_hand: rule.by_hand,
            registered,
            resource: rule.resource.clone(),
            policy: policy.flatten(),
        }
    }

    fn limit(&mut self, number: usize, rule: &Rule, limit: &Limit) {
        if !self.limit_name(rule, &limit.name) {
            return;
        }
        let cost = self.cost(rule, limit);
        let settle = limit.settle.as_ref().and_then(|settle| self.settle(rule, limit, settle));
        let rate = match checked_rate(&rule.name, &limit.name, limit.quota, &cost) {
            Ok(rate) => rate,
            Err(mistake) => return self.mistakes.push(mistake),
        };
        let grain = settle.as_ref().and_then(Settlement::metering).map(|metering| metering.grain);
        let Some(scope) = self.scope(limit.shares, &limit.name) else { return };
        let quota = match self.former.and_then(|former| former.limit(&limit.name)) {
            Some(former) => {
                former.quota.handed_on(limit.quota, rate, |rate| cost.most() <= rate.burst().get())
            }
            None => QuotaCell::new(limit.quota, rate),
        };
        let id = self.keys.key(Material::Limit, &[limit.name.as_bytes()]).lo;
        let (place, op) = (Place::Shared(0), Op::Take(cost.usual()));
        let charge = Charge { place, limit: id, rate, max_debt: 0, op, shadow: rule.shadow };
        let compiled = CompiledLimit {
            ready: Ready::new(charge),
            words: response::words(&limit.name, limit.quota, rate, grain),
            rule: number,
            quota,
            id,
            scope,
            cost,
            settle,
            granted: limit.granted.then(|| self.granted()),
            max_debt: limit.max_debt,
            store_down: limit.store_down,
            leased: limit.leased,
        };
        if limit.leased.is_some_and(|units| !(1..=rate.burst().get()).contains(&units)) {
            let reason = format!("1 to {} units can be leased, which is its burst", rate.burst());
            return self.wrong_cost(rule, limit, reason);
        }
        self.limits.push(compiled);
    }

    fn concurrency(&mut self, number: usize, rule: &Rule, concurrency: &Concurrency) {
        if !self.limit_name(rule, &concurrency.name) {
            return;
        }
        let slot = place_of(&mut self.layout.concurrency, &concurrency.name);
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        match CompiledConcurrency::compile(number, slot, rule, concurrency, self.keys) {
            Ok(compiled) => self.concurrency.push(compiled),
            Err(mistake) => self.mistakes.push(mistake),
        }
    }

    /// Whether no limit of either kind has this name yet.
    fn limit_name(&mut self, rule: &Rule, name: &str) -> bool {
        self.name(name);
        let rates = self.limits.iter().map(|limit| &limit.words.name);
        let concurrency = self.concurrency.iter().map(|limit| &limit.name);
        let is_new = !rates.chain(concurrency).any(|other| other == name);
        if !is_new {
            let (rule, limit) = (rule.name.clone(), name.to_owned());
            self.mistakes.push(Mistake::DuplicateLimit { rule, limit });
        }
        is_new
    }

    fn scope(&mut self, shares: Shares, name: &str) -> Option<Scope> {
        let place = place_of(&mut self.layout.rates[shares as usize], name);
        let group = if self.is_grouped { (place / GROUP) as u64 } else { 0 };
        // The first group is the client's own key.
        let group = match group {
            0 => Key::new(0, 0),
            _ => self.keys.key(Material::Limit, &[&group.to_be_bytes(), b"group"]),
        };
        match shares {
            Shares::Nobody => Some(Scope::Client(group)),
            Shares::NobodyOnOneRoute => Some(Scope::ClientAndRoute(group)),
            Shares::All => match u16::try_from(place) {
                Ok(number) => Some(Scope::Shared(number)),
                Err(_) => {
                    let reason =
                        "there are 65,536 of them at most, those of former policies among them".to_owned();
                    self.mistakes.push(Mistake::Setting { setting: "shared limits", reason });
                    None
                }
            },
        }
    }

    fn cost(&mut self, rule: &Rule, limit: &Limit) -> UnitCost {
        match &limit.cost.0 {
            CostKind::Fixed(units) => UnitCost::Fixed(*units),
            CostKind::By(units) => UnitCost::By(units.clone()),
            CostKind::Header { name, range, trusted } => {
                let mut reasons = Vec::new();
                if range.is_empty() {
                    reasons.push(format!("no cost is in the range {range:?} of header {name:?}"));
                }
                if trusted.is_empty() {
                    reasons.push(format!("nobody may set header {name:?}; say who, with `trusting`"));
                }
                let header = header_name(name).unwrap_or_else(|reason| {
                    reasons.push(reason);
                    http::header::VIA // never used, because the mistake ends the build
                });
                let mut mistakes = Vec::new();
                let trusted = Networks::compile(trusted, "callers that may set a cost", &mut mistakes);
                reasons.extend(mistakes.iter().map(ToString::to_string));
                reasons.into_iter().for_each(|reason| self.wrong_cost(rule, limit, reason));
                UnitCost::Header { name: header, range: range.clone(), trusted }
            }
        }
    }

    fn settle(&mut self, rule: &Rule, limit: &Limit, settle: &Settle) -> Option<Settlement> {
        let settlement = settle.0.clone();
        settlement.map_err(|reason| self.wrong_cost(rule, limit, reason.into_owned())).ok()
    }

    fn wrong_cost(&mut self, rule: &Rule, limit: &Limit, reason: String) {
        let (rule, limit) = (rule.name.clone(), limit.name.clone());
        self.mistakes.push(Mistake::Cost { rule, limit, reason });
    }

    /// Names are sent in headers.
    fn name(&mut self, name: &str) {
        if !(1..=64).contains(&name.len()) || !name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            self.mistakes.push(Mistake::Name { name: name.to_owned() });
        }
    }
}
