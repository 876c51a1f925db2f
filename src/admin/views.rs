//! What the admin API answers.

use super::whom::handle;
use crate::{
    ApiKey, Banned, ClientRecord, Grant, IssuedKey, LimitStatus, ListEntry, PermitStatus, TemporaryGrant,
    Tiers, registry::to_text, response::whole_seconds,
};
use serde::Serialize;
use std::{collections::BTreeMap, time::SystemTime};
use utoipa::ToSchema;

/// How much, at once, each minute and by limits with a name of their own.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Limits {
    /// Requests under way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    max_concurrent: Option<u32>,
    /// Requests a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    requests_per_min: Option<u32>,
    /// Quotas by the name of their limit, such as `10/hour`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    limits: BTreeMap<String, String>,
}

impl From<&Grant> for Limits {
    fn from(grant: &Grant) -> Self {
        Self {
            max_concurrent: grant.max_concurrent,
            requests_per_min: grant.requests_per_min,
            limits: grant.limits().map(|(name, quota)| (name.to_owned(), quota.to_string())).collect(),
        }
    }
}

/// A client.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClientView {
    client_id: String,
    tier: String,
    /// What is in force.
    rate_limit: Limits,
    /// What the client has of its own, beside its tier.
    own_rate_limit: Option<Limits>,
    /// The resources that it may use; `null` is all, `[]` none.
    allowed_queues: Option<Vec<String>>,
    enabled: bool,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_url: Option<String>,
    /// A grant that ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    temporary_grant: Option<GrantView>,
}

impl ClientView {
    pub(super) fn new(record: &ClientRecord, tiers: &Tiers, now: SystemTime) -> Self {
        let own = record.own();
        Self {
            client_id: record.client_id().to_owned(),
            tier: record.tier().to_owned(),
            rate_limit: Limits::from(&record.in_force(tiers, now)),
            own_rate_limit: (!own.is_empty()).then(|| own.into()),
            allowed_queues: record.allowed_queues().map(<[String]>::to_vec),
            enabled: record.is_enabled(),
            created_at: to_text(record.created_at()),
            updated_at: to_text(record.updated_at()),
            webhook_url: record.webhook_url().map(str::to_owned),
            temporary_grant: record.temporary(now).map(GrantView::from),
        }
    }
}

/// A page of clients.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClientList {
    pub(super) clients: Vec<ClientView>,
    /// How many clients there are in all.
    pub(super) count: usize,
    /// The `cursor` of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

/// A grant that ends by itself.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GrantView {
    rate_limit: Limits,
    #[schema(format = DateTime)]
    expires_at: String,
}

impl From<&TemporaryGrant> for GrantView {
    fn from(grant: &TemporaryGrant) -> Self {
        Self { rate_limit: grant.grant().into(), expires_at: to_text(grant.expires_at()) }
    }
}

/// A grant of a client, if it has one.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GrantOf {
    pub(super) client_id: String,
    pub(super) temporary_grant: Option<GrantView>,
}

/// An API key, without the secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyView {
    /// The first characters.
    prefix: String,
    #[schema(format = DateTime)]
    created_at: String,
    /// When it ends, if it was rotated.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            prefix: key.prefix().to_owned(),
            created_at: to_text(key.created_at()),
            expires_at: key.expires_at().map(to_text),
        }
    }
}

/// The API keys of a client.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyList {
    pub(super) client_id: String,
    pub(super) keys: Vec<KeyView>,
}

/// A key that was just issued.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewKey {
    pub(super) client_id: String,
    /// The secret, which is shown this once.
    pub(super) api_key: String,
    #[serde(flatten)]
    pub(super) key: KeyView,
}

impl NewKey {
    pub(super) fn new(client_id: String, key: &IssuedKey) -> Self {
        Self { client_id, api_key: key.secret().to_owned(), key: key.key().into() }
    }
}

/// The tiers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TierList {
    pub(super) tiers: BTreeMap<String, Limits>,
}

/// A tier before and after a change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TierChanged {
    pub(super) tier: String,
    pub(super) old: Option<Limits>,
    pub(super) new: Limits,
}

/// What a client has used of a limit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LimitUsage {
    pub(super) rule: String,
    pub(super) limit: String,
    /// The quota in force, such as `100/minute`.
    pub(super) quota: String,
    pub(super) used: u32,
    pub(super) remaining: u32,
    /// Seconds until nothing is used any more, rounded up.
    pub(super) reset: u64,
    /// Whether it only watches.
    pub(super) shadow: bool,
}

impl From<LimitStatus<'_>> for LimitUsage {
    fn from(status: LimitStatus<'_>) -> Self {
        Self {
            rule: status.rule().to_owned(),
            limit: status.limit().to_owned(),
            quota: status.quota().to_string(),
            used: status.rate().burst().get() - status.remaining(),
            remaining: status.remaining(),
            reset: whole_seconds(status.reading().reset_after()),
            shadow: status.is_shadow(),
        }
    }
}

/// How much of a limit on concurrency is in use.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PermitUsage {
    pub(super) rule: String,
    pub(super) limit: String,
    /// How many may run at once.
    pub(super) max: u32,
    /// How many do.
    pub(super) used: u32,
    pub(super) remaining: u32,
    /// Whether it only watches.
    pub(super) shadow: bool,
}

impl From<PermitStatus<'_>> for PermitUsage {
    fn from(status: PermitStatus<'_>) -> Self {
        Self {
            rule: status.rule().to_owned(),
            limit: status.limit().to_owned(),
            max: status.max(),
            used: status.used(),
            remaining: status.remaining(),
            shadow: status.is_shadow(),
        }
    }
}

/// A ban in force.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BanView {
    /// By which it can be lifted.
    #[schema(pattern = "^[0-9a-f]{32}$")]
    handle: String,
    /// Who is banned, as logs name it.
    client: String,
    /// Its id or name, where that is what is banned.
    client_id: Option<String>,
    /// Seconds that it takes yet, rounded up.
    remaining: u64,
    /// Which ban in a row it is; 0 for one by hand.
    times: u32,
}

impl BanView {
    /// As audit events name it.
    pub(super) fn subject(&self) -> &str {
        self.client_id.as_ref().unwrap_or(&self.client)
    }
}

impl From<&Banned> for BanView {
    fn from(ban: &Banned) -> Self {
        Self {
            handle: handle(ban.key()),
            client: ban.client().to_string(),
            client_id: ban.name().map(str::to_owned),
            remaining: whole_seconds(ban.remaining()),
            times: ban.times(),
        }
    }
}

/// The bans in force.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BanList {
    pub(super) bans: Vec<BanView>,
    pub(super) count: usize,
}

/// An entry of a list: a network, or somebody's identity.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EntryView {
    /// The network, such as `10.0.0.0/8`.
    network: Option<String>,
    /// By which an identity can be deleted.
    #[schema(pattern = "^[0-9a-f]{32}$")]
    handle: Option<String>,
    /// The identity, as logs name it.
    client: Option<String>,
    /// Its id or name, where that is on the list.
    client_id: Option<String>,
}

impl From<&ListEntry> for EntryView {
    fn from(entry: &ListEntry) -> Self {
        Self {
            network: entry.network(),
            handle: entry.key().map(handle),
            client: entry.key().map(|_| entry.to_string()),
            client_id: entry.name().map(str::to_owned),
        }
    }
}

/// The lists in force.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListsView {
    pub(super) allow: Vec<EntryView>,
    pub(super) block: Vec<EntryView>,
}

/// What a client has used.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Usage {
    pub(super) client_id: String,
    pub(super) limits: Vec<LimitUsage>,
    /// What runs at once.
    pub(super) concurrency: Vec<PermitUsage>,
    /// Its ban, if one is in force.
    pub(super) banned: Option<BanView>,
}

/// What a client may do and has done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OwnLimits {
    pub(super) client_id: String,
    pub(super) rate_limit: Limits,
    /// What is used of the limit `requests`.
    pub(super) current_usage: u32,
    /// What is left of it.
    pub(super) remaining: u32,
    pub(super) limits: Vec<LimitUsage>,
}

/// A limit of the policy.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LimitView {
    pub(super) rule: String,
    pub(super) limit: String,
    /// The quota in force for those who were granted no other.
    pub(super) quota: String,
    /// `client`, `client_and_route` or `shared`.
    pub(super) counted_for: &'static str,
    /// Whether registered clients are granted a quota of their own.
    pub(super) granted: bool,
}

/// A limit on how many requests run at once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConcurrencyView {
    pub(super) rule: String,
    pub(super) limit: String,
    /// The number in force for those who were granted no other.
    pub(super) max: u32,
    /// `client`, `client_and_route` or `shared`.
    pub(super) counted_for: &'static str,
    /// Whether registered clients are granted a number of their own.
    pub(super) granted: bool,
    /// How many requests of one client may wait; 0 where none may.
    pub(super) queue: u32,
}

/// The limits of the policy.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LimitList {
    pub(super) limits: Vec<LimitView>,
    pub(super) concurrency: Vec<ConcurrencyView>,
}

/// A limit before and after a change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LimitChanged {
    pub(super) limit: String,
    pub(super) old: String,
    pub(super) new: String,
}

/// A limit on concurrency before and after a change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConcurrencyChanged {
    pub(super) limit: String,
    pub(super) old: u32,
    pub(super) new: u32,
}

/// A rule of the policy.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RuleView {
    pub(super) rule: String,
    /// The methods that it is for; none are all.
    pub(super) methods: Vec<String>,
    /// The routes that it is for; none are all.
    pub(super) routes: Vec<String>,
    pub(super) shadow: bool,
    pub(super) only: bool,
    pub(super) by_hand: bool,
    /// Whether its clients are those of the registry.
    pub(super) registered: bool,
    pub(super) limits: Vec<LimitView>,
    pub(super) concurrency: Vec<ConcurrencyView>,
}

/// The policy in force.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PolicyView {
    pub(super) rules: Vec<RuleView>,
    pub(super) tiers: BTreeMap<String, Limits>,
}
