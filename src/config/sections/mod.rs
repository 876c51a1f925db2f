//! What a file may say, section by section, and the descriptions that it becomes.
//!
//! The comments of sections and keys are the descriptions in the schema, and so the reference in `docs/configuration.md`.

mod admin;
mod answers;
mod cost;
mod identity;
mod limit;
mod lists;
mod pace;
mod registry;
mod rule;
mod store;

use admin::AdminSection;
use answers::AnswersSection;
use pace::PaceSection;
pub(super) use registry::tiers;
use registry::{RegistrySection, TierSection};
use store::StoreSection;

use crate::Policy;
use identity::{IdentitySection, ProxiesSection};
use lists::{AllowSection, BanSection, BlockSection};
use rule::RuleSection;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// All sections that are the library's own.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Sections {
    /// Who a client is: its address, unless this says otherwise.
    pub(super) identity: Option<IdentitySection>,
    /// The proxies whose word is taken for the client's address. Without this the peer of the connection is the client.
    pub(super) trusted_proxies: Option<ProxiesSection>,
    /// Which requests are held to which limits. Every rule that matches a request applies, in this order.
    pub(super) rule: Vec<RuleSection>,
    /// Whom no rule applies to.
    pub(super) allow: AllowSection,
    /// Who is refused with 403 on every route. Whoever is on both lists is refused.
    pub(super) block: BlockSection,
    /// Bans clients that are refused too often; nobody is banned without it.
    pub(super) ban: Option<BanSection>,
    /// How limits and refusals are told.
    pub(super) answers: AnswersSection,
    /// Where and how requests are counted: in memory unless there is a `[store.redis]`.
    pub(super) store: StoreSection,
    /// Clients with tiers, limits of their own and API keys, for sources that are `registered`.
    pub(super) registry: Option<RegistrySection>,
    /// Tiers by name, beside the built-in `free`, `basic`, `premium`, `enterprise` and `default`, or instead of them.
    pub(super) tier: BTreeMap<String, TierSection>,
    /// The admin API.
    pub(super) admin: Option<AdminSection>,
    /// Quotas for what a program sends.
    pub(super) pace: Vec<PaceSection>,
}

impl Sections {
    /// The policy, just as a program would describe it.
    pub(super) fn policy(&self) -> Policy {
        let mut policy = Policy::new();
        if let Some(identity) = &self.identity {
            policy = policy.identify(identity.source());
        }
        if let Some(proxies) = &self.trusted_proxies {
            policy = policy.trust_proxies(proxies.build());
        }
        policy = self.rule.iter().map(RuleSection::build).fold(policy, Policy::rule);
        policy = self.pace.iter().map(PaceSection::rule).fold(policy, Policy::rule);
        policy = self.answers.add_to(self.block.add_to(self.allow.add_to(policy)));
        self.ban.iter().map(BanSection::build).fold(policy, Policy::ban)
    }
}
