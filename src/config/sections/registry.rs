use super::super::kinds::{Amount, Header};
use crate::{Clients, Grant, IdRule, Overrides, RegistryError, Tiers, UnknownClients};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Clients with tiers, limits of their own and API keys.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct RegistrySection {
    /// The file that keeps the clients; they are kept in memory alone unless set. Only one process may have it open.
    pub(in super::super) journal: Option<String>,
    /// Which texts may be a client's id.
    ids: Option<IdsSection>,
    /// What becomes of requests with an id that is not in the registry.
    unknown: Unknown,
    /// How many unknown clients are created for one address, an IPv6 one being its /64; `10/hour` unless set.
    created_each_address: Option<Amount>,
    /// How many clients there may be that were created so; 10,000 unless set.
    created_total: Option<u32>,
    /// The client whom requests without an id are counted for, such as `legacy-default`; they are not unless set.
    fallback: Option<String>,
    /// Who may bring other limits along with a request; nobody unless set.
    overrides: Option<OverridesSection>,
}

/// What becomes of unknown clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Unknown {
    /// They are created in the tier `default`, within bounds, unless set.
    #[default]
    Create,
    /// They are refused with 401.
    Refuse,
    /// All of them are one client in the tier `default`.
    Share,
}

/// Which texts may be a client's id: letters of ASCII, digits, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct IdsSection {
    /// The fewest bytes; 3 unless set.
    #[serde(default = "three")]
    shortest: u32,
    /// The most bytes; 64 unless set.
    #[serde(default = "sixty_four")]
    longest: u32,
    /// Further characters that an id may have, such as `.:@`; none unless set.
    #[serde(default)]
    more: String,
}

const fn three() -> u32 {
    3
}

const fn sixty_four() -> u32 {
    64
}

/// Limits that requests bring along.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OverridesSection {
    /// At most this much. What it leaves open cannot be overridden.
    up_to: TierSection,
    /// The header in which they stand, like `requests_per_min=200, max_concurrent=10`; none unless set.
    header: Option<Header>,
    /// The tiers whose clients may bring them.
    #[serde(default)]
    tiers: Vec<String>,
    /// The ids of clients that may bring them.
    #[serde(default)]
    clients: Vec<String>,
}

/// What clients are granted.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct TierSection {
    /// How many requests at once, at least 1.
    #[schemars(range(min = 1))]
    max_concurrent: Option<u32>,
    /// How many requests a minute, from 1 to 60,000,000, by limits named `requests`.
    #[schemars(range(min = 1, max = 60_000_000))]
    requests_per_min: Option<u32>,
    /// The quotas of limits with a name of their own.
    limits: BTreeMap<String, Amount>,
}

impl TierSection {
    pub(in super::super) fn grant(&self) -> Grant {
        let grant = self.max_concurrent.into_iter().fold(Grant::new(), Grant::max_concurrent);
        let grant = self.requests_per_min.into_iter().fold(grant, Grant::requests_per_min);
        self.limits.iter().fold(grant, |grant, (name, quota)| grant.limit(name, **quota))
    }
}

/// The built-in tiers with these beside them or instead of them; with the name of a tier that is not accepted.
pub(in super::super) fn tiers(
    sections: &BTreeMap<String, TierSection>,
) -> Result<Tiers, (String, RegistryError)> {
    sections.iter().try_fold(Tiers::new(), |tiers, (name, tier)| {
        tiers.with(name, tier.grant()).map_err(|error| (name.clone(), error))
    })
}

impl RegistrySection {
    /// The clients of a registry as the file says.
    pub(in super::super) fn dress(&self, clients: Clients) -> Clients {
        let ids = self
            .ids
            .as_ref()
            .map(|ids| IdRule::new(ids.shortest as usize, ids.longest as usize).and(&ids.more));
        let mut unknown = match self.unknown {
            Unknown::Create => UnknownClients::create(),
            Unknown::Refuse => UnknownClients::refuse(),
            Unknown::Share => UnknownClients::share(),
        };
        if let Some(quota) = &self.created_each_address {
            unknown = unknown.each_address(**quota);
        }
        if let Some(total) = self.created_total {
            unknown = unknown.total(total as usize);
        }
        let clients = ids.into_iter().fold(clients.unknown(unknown), Clients::ids);
        let clients = self.fallback.iter().fold(clients, Clients::fallback);
        self.overrides.iter().map(OverridesSection::build).fold(clients, Clients::overrides)
    }
}

impl OverridesSection {
    fn build(&self) -> Overrides {
        let overrides = Overrides::up_to(self.up_to.grant());
        let overrides = self.header.iter().fold(overrides, |overrides, name| overrides.header(name.as_str()));
        let overrides = self.tiers.iter().fold(overrides, Overrides::tier);
        self.clients.iter().fold(overrides, Overrides::client)
    }
}
