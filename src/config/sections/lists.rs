use super::super::kinds::{Header, Network, Period, Secret};
use crate::{Ban, Identity, Policy};
use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

/// Whom no rule applies to.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct AllowSection {
    /// Client addresses and networks.
    networks: Vec<Network>,
    /// Clients by name: the ids of registered ones.
    names: Vec<String>,
    /// Clients by an API key that they send.
    api_keys: Vec<Secret>,
    /// Clients by what a header says of them.
    headers: Vec<NamedSection>,
    /// Lets browsers' CORS preflights pass uncounted, but not those of blocked clients; false unless set.
    preflights: bool,
}

/// Who is refused.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct BlockSection {
    /// Client addresses and networks.
    networks: Vec<Network>,
    /// Clients by name: the ids of registered ones.
    names: Vec<String>,
    /// Clients by an API key that they send.
    api_keys: Vec<Secret>,
    /// Clients by what a header says of them.
    headers: Vec<NamedSection>,
}

/// A client by what a header says.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NamedSection {
    /// The header.
    name: Header,
    /// What it says.
    value: String,
}

/// The clients of a list.
fn listed<'s>(
    names: &'s [String],
    api_keys: &'s [Secret],
    headers: &'s [NamedSection],
) -> impl Iterator<Item = Identity<'static>> + 's {
    let header = |header: &NamedSection| {
        Some(Identity::header(header.name.parse::<HeaderName>().ok()?, header.value.clone()))
    };
    let keys = api_keys.iter().map(|key| Identity::api_key(key.expose().to_owned()));
    let names = names.iter().map(|name| Identity::name(name.clone()));
    names.chain(keys).chain(headers.iter().filter_map(header))
}

impl AllowSection {
    pub(super) fn add_to(&self, policy: Policy) -> Policy {
        let policy = policy.allow_networks(self.networks.iter().map(|network| network.as_str()));
        let policy = listed(&self.names, &self.api_keys, &self.headers).fold(policy, Policy::allow);
        if self.preflights { policy.exempt_preflights() } else { policy }
    }
}

impl BlockSection {
    pub(super) fn add_to(&self, policy: Policy) -> Policy {
        let policy = policy.block_networks(self.networks.iter().map(|network| network.as_str()));
        listed(&self.names, &self.api_keys, &self.headers).fold(policy, Policy::block)
    }
}

/// Bans clients that are refused too often.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct BanSection {
    /// So many refusals in a window lead to a ban, at least 1. Without it nobody is banned but by hand.
    #[schemars(range(min = 1))]
    refusals: Option<u32>,
    /// The window; a minute unless set. Fewer refusals in it never lead to a ban, and as many within half of it always do.
    window: Option<Period>,
    /// How long the first ban takes; 10 minutes unless set.
    lasting: Option<Period>,
    /// Each ban of a client takes twice as long as the one before, up to this; all take as long as the first unless set.
    doubling_up_to: Option<Period>,
    /// How long after its last ban a client starts anew; as long as the longest ban takes unless set.
    forgiven_after: Option<Period>,
    /// How many clients that were refused are remembered, from 1 to 16,777,216; 16,384 unless set. Each takes about 140 bytes.
    #[schemars(range(min = 1, max = 16_777_216))]
    remember: Option<u32>,
}

const MINUTE: Duration = Duration::from_secs(60);

impl BanSection {
    pub(super) fn build(&self) -> Ban {
        let window = self.window.map_or(MINUTE, |window| window.0);
        let ban = self.refusals.map_or_else(Ban::by_hand, |refusals| Ban::after(refusals, window));
        let set = |ban: Ban, period: Option<Period>, set: fn(Ban, Duration) -> Ban| {
            period.into_iter().fold(ban, |ban, Period(time)| set(ban, time))
        };
        let ban = set(ban, self.lasting, Ban::lasting);
        let ban = set(ban, self.doubling_up_to, Ban::doubling_up_to);
        let ban = set(ban, self.forgiven_after, Ban::forgiven_after);
        self.remember.into_iter().fold(ban, |ban, clients| ban.remember(clients as usize))
    }
}
