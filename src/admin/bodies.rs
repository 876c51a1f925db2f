//! What bodies of requests look like, for the OpenAPI document.
#![allow(dead_code, reason = "they are read field by field, so that each mistake names its field")]

use crate::registry::MOST_LIMITS;
use serde::Deserialize;
use std::collections::BTreeMap;
use utoipa::{
    ToSchema,
    openapi::schema::{
        AdditionalProperties, Object, ObjectBuilder, OneOfBuilder, Ref, Schema, SchemaType, Type,
    },
};

/// A change to a client; a field left out keeps its value.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetClient {
    #[schema(pattern = "^[A-Za-z0-9_-]{3,64}$")]
    client_id: String,
    /// One of the tiers; another name needs a `rate_limit`.
    #[schema(nullable = false, format = "tier")]
    tier: Option<String>,
    /// Limits of the client's own; `null` removes them.
    rate_limit: Option<SetLimits>,
    /// The resources that the client may use; `null` is all, `[]` none.
    #[schema(max_items = 1_000)]
    allowed_queues: Option<Vec<Resource>>,
    /// `true` for a new client.
    #[schema(nullable = false)]
    enabled: Option<bool>,
    /// With `http` or `https`, in at most 2,048 characters.
    #[schema(format = "uri")]
    webhook_url: Option<String>,
}

/// The name of a resource.
#[derive(Deserialize, ToSchema)]
#[schema(pattern = r"^[\s\S]{1,256}$")]
struct Resource(String);

/// Limits; a field left out keeps its value, and `null` removes it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetLimits {
    #[schema(minimum = 1, maximum = 4_294_967_295u32)]
    max_concurrent: Option<u32>,
    #[schema(minimum = 1, maximum = 60_000_000)]
    requests_per_min: Option<u32>,
    #[schema(schema_with = changed_quotas)]
    limits: Option<BTreeMap<String, Option<Quota>>>,
}

/// What is granted, which is something.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Granted {
    #[schema(nullable = false, minimum = 1, maximum = 4_294_967_295u32)]
    max_concurrent: Option<u32>,
    #[schema(nullable = false, minimum = 1, maximum = 60_000_000)]
    requests_per_min: Option<u32>,
    #[schema(schema_with = some_granted_quotas)]
    limits: Option<BTreeMap<String, Quota>>,
}

/// An amount, a period and perhaps a burst, such as `100/minute burst 20`.
#[derive(Deserialize, ToSchema)]
#[schema(format = "quota")]
pub(super) struct Quota(String);

/// A grant that ends by itself.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum SetGrant {
    For(GrantFor),
    Until(GrantUntil),
}

/// A grant that ends after so many seconds.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantFor {
    #[schema(min_length = 1)]
    client_id: String,
    rate_limit: Granted,
    #[schema(minimum = 1, maximum = 3_153_600_000u64)]
    expires_in: u64,
}

/// A grant that ends at a time to come, in UTC.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantUntil {
    #[schema(min_length = 1)]
    client_id: String,
    rate_limit: Granted,
    #[schema(format = DateTime, pattern = "Z$")]
    expires_at: String,
}

/// Whose key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IssueKey {
    #[schema(min_length = 1)]
    client_id: String,
}

/// Which key, and for how many seconds more it is accepted; 24 hours unless set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateKey {
    #[schema(min_length = 1)]
    client_id: String,
    #[schema(min_length = 1)]
    prefix: String,
    #[schema(maximum = 3_153_600_000u64)]
    overlap: Option<u64>,
}

/// What a tier grants.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum SetTier {
    Default(SetDefaultTier),
    Other(SetOtherTier),
}

/// What the tier `default` grants, after which nothing comes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetDefaultTier {
    #[schema(pattern = "^default$")]
    tier: String,
    #[schema(minimum = 1, maximum = 4_294_967_295u32)]
    max_concurrent: u32,
    #[schema(minimum = 1, maximum = 60_000_000)]
    requests_per_min: u32,
    #[schema(schema_with = granted_quotas)]
    limits: Option<BTreeMap<String, Quota>>,
}

/// What another tier grants. What is left out is decided by the tier `default`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetOtherTier {
    #[schema(pattern = "^(?!default$)[!-~]{1,64}$")]
    tier: String,
    #[schema(nullable = false, minimum = 1, maximum = 4_294_967_295u32)]
    max_concurrent: Option<u32>,
    #[schema(nullable = false, minimum = 1, maximum = 60_000_000)]
    requests_per_min: Option<u32>,
    #[schema(schema_with = granted_quotas)]
    limits: Option<BTreeMap<String, Quota>>,
}

/// Another number for a limit on concurrency.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetConcurrency {
    #[schema(min_length = 1)]
    limit: String,
    #[schema(minimum = 1, maximum = 4_294_967_295u32)]
    max: u32,
}

/// Another quota for a limit.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetLimit {
    #[schema(min_length = 1)]
    limit: String,
    quota: Quota,
}

/// Quotas by the names of limits; `null` for one that is to go.
fn changed_quotas() -> Object {
    let quota = OneOfBuilder::new().item(Ref::from_schema_name("Quota"));
    let none = ObjectBuilder::new().schema_type(Type::Null);
    let types = SchemaType::from_iter([Type::Object, Type::Null]);
    by_limit(Schema::from(quota.item(none).build())).schema_type(types).build()
}

fn granted_quotas() -> Object {
    by_limit(Ref::from_schema_name("Quota")).build()
}

fn some_granted_quotas() -> Object {
    by_limit(Ref::from_schema_name("Quota")).min_properties(Some(1)).build()
}

/// The limit `requests` is granted by `requests_per_min`.
fn by_limit(quota: impl Into<AdditionalProperties<Schema>>) -> ObjectBuilder {
    let name = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^(?!requests$)[ -~]{1,64}$"));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property_names(Some(Schema::from(name.build())))
        .additional_properties(Some(quota))
        .max_properties(Some(MOST_LIMITS))
        .description(Some("Quotas by the name of their limit, such as `10/hour`."))
}

/// Who is banned, and for how long.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum SetBan {
    Client(BanClient),
    Address(BanAddress),
    ApiKey(BanApiKey),
    Header(BanHeader),
}

/// A ban of a client by its id, however it comes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BanClient {
    #[schema(pattern = "^[A-Za-z0-9_-]{3,64}$")]
    client_id: String,
    #[schema(minimum = 1, maximum = 3_153_600_000u64)]
    seconds: u64,
}

/// A ban of whoever comes from an address.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BanAddress {
    /// One address: `192.0.2.7`, or an IPv6 one, which stands for its /64.
    #[schema(format = "address")]
    address: String,
    #[schema(minimum = 1, maximum = 3_153_600_000u64)]
    seconds: u64,
}

/// A ban of whoever sends a key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BanApiKey {
    #[schema(min_length = 1)]
    api_key: String,
    #[schema(minimum = 1, maximum = 3_153_600_000u64)]
    seconds: u64,
}

/// A ban of whoever sends a header with a value.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BanHeader {
    header: HeaderOf,
    #[schema(minimum = 1, maximum = 3_153_600_000u64)]
    seconds: u64,
}

/// A header and its value.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderOf {
    #[schema(pattern = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", max_length = 1_000)]
    name: String,
    #[schema(min_length = 1)]
    value: String,
}

/// Entries to be put on a list, one at least.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddToList {
    #[schema(inline)]
    list: Named,
    /// Such as `192.0.2.7` and `10.0.0.0/8`.
    #[schema(nullable = false, min_items = 1, max_items = 1_000)]
    networks: Option<Vec<Network>>,
    /// Clients by their ids, however they come.
    #[schema(nullable = false, min_items = 1, max_items = 1_000)]
    client_ids: Option<Vec<ClientId>>,
    /// Keys, each for itself.
    #[schema(nullable = false, min_items = 1, max_items = 1_000)]
    api_keys: Option<Vec<Key>>,
}

/// An address or a network.
#[derive(Deserialize, ToSchema)]
#[schema(format = "network")]
struct Network(String);

/// A client's id.
#[derive(Deserialize, ToSchema)]
#[schema(pattern = "^[A-Za-z0-9_-]{3,64}$")]
struct ClientId(String);

/// An API key.
#[derive(Deserialize, ToSchema)]
#[schema(pattern = r"^[\s\S]+$")]
struct Key(String);

/// Which list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Named {
    Allow,
    Block,
}
