//! What bodies of requests look like, for the OpenAPI document.
#![allow(dead_code, reason = "they are read field by field, so that each mistake names its field")]

use serde::Deserialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A change to a client; a field left out keeps its value.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetClient {
    #[schema(pattern = "^[A-Za-z0-9_-]{3,64}$")]
    client_id: String,
    /// One of the tiers; another name needs a `rate_limit`.
    #[schema(nullable = false)]
    tier: Option<String>,
    /// Limits of the client's own; `null` removes them.
    rate_limit: Option<SetLimits>,
    /// The resources that the client may use; `null` is all, `[]` none.
    allowed_queues: Option<Vec<String>>,
    /// `true` for a new client.
    #[schema(nullable = false)]
    enabled: Option<bool>,
    webhook_url: Option<String>,
}

/// Limits; a field left out keeps its value, and `null` removes it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetLimits {
    #[schema(minimum = 1)]
    max_concurrent: Option<u32>,
    #[schema(minimum = 1, maximum = 600_000_000)]
    requests_per_min: Option<u32>,
    /// Quotas by the name of their limit, such as `10/hour`.
    limits: Option<BTreeMap<String, Option<String>>>,
}

/// A grant that ends by itself, after `expires_in` seconds or at `expires_at`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetGrant {
    client_id: String,
    rate_limit: SetLimits,
    #[schema(minimum = 1)]
    expires_in: Option<u64>,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// Whose key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IssueKey {
    client_id: String,
}

/// Which key, and for how many seconds more it is accepted; 24 hours unless set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateKey {
    client_id: String,
    prefix: String,
    overlap: Option<u64>,
}

/// What a tier grants.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetTier {
    tier: String,
    #[schema(minimum = 1)]
    max_concurrent: Option<u32>,
    #[schema(minimum = 1, maximum = 600_000_000)]
    requests_per_min: Option<u32>,
    limits: Option<BTreeMap<String, String>>,
}

/// Another number for a limit on concurrency.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetConcurrency {
    limit: String,
    #[schema(minimum = 1)]
    max: u32,
}

/// Another quota for a limit.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetLimit {
    limit: String,
    /// Such as `100/minute burst 20`.
    quota: String,
}

/// Who is banned, by one of `client_id`, `address`, `api_key` and `header`, and for how long.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetBan {
    client_id: Option<String>,
    /// One address: `192.0.2.7`, or an IPv6 one, which stands for its /64.
    address: Option<String>,
    api_key: Option<String>,
    header: Option<HeaderOf>,
    #[schema(minimum = 1)]
    seconds: u64,
}

/// Who sends a header with this value.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderOf {
    #[schema(pattern = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
    name: String,
    #[schema(min_length = 1)]
    value: String,
}

/// Entries to be put on a list, one at least.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddToList {
    #[schema(inline)]
    list: super::lists::Named,
    /// Such as `192.0.2.7` and `10.0.0.0/8`.
    networks: Option<Vec<String>>,
    /// Clients by their ids, however they come.
    client_ids: Option<Vec<String>>,
    /// Keys, each for itself.
    api_keys: Option<Vec<String>>,
}
