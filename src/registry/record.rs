//! What a registry keeps of a client.

use super::{
    ApiKey, Grant, RegistryError, Tiers,
    api_key::{KeyHash, StoredKey},
    tier::{BAD_NAME, is_tier_name},
    time::{self, serde_rfc3339},
};
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// A client as a registry keeps it. Serialised, it is what a registry elsewhere may store; times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRecord {
    pub(crate) client_id: String,
    pub(crate) tier: String,
    #[serde(default, skip_serializing_if = "Grant::is_empty")]
    pub(crate) rate_limit: Grant,
    #[serde(default)]
    pub(crate) allowed_queues: Option<Vec<String>>,
    pub(crate) enabled: bool,
    #[serde(with = "serde_rfc3339")]
    pub(crate) created_at: SystemTime,
    #[serde(with = "serde_rfc3339")]
    pub(crate) updated_at: SystemTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) webhook_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) temporary: Option<TemporaryGrant>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) api_keys: Vec<StoredKey>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) uninvited: bool,
}

/// A grant that ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemporaryGrant {
    pub(crate) rate_limit: Grant,
    #[serde(with = "serde_rfc3339")]
    pub(crate) expires_at: SystemTime,
}

impl TemporaryGrant {
    /// What it grants.
    pub const fn grant(&self) -> &Grant {
        &self.rate_limit
    }

    /// When it ends.
    pub const fn expires_at(&self) -> SystemTime {
        self.expires_at
    }
}

/// The most resources that a list of allowed ones may have, and the most characters that a name may have.
const MOST_RESOURCES: usize = 1_000;
const LONGEST_RESOURCE: usize = 256;

impl ClientRecord {
    /// A client in the tier `default`, enabled and without limits of its own.
    pub fn new(client_id: impl Into<String>, now: SystemTime) -> Self {
        let now = time::whole_millis(now);
        Self {
            client_id: client_id.into(),
            tier: super::tier::DEFAULT.to_owned(),
            rate_limit: Grant::new(),
            allowed_queues: None,
            enabled: true,
            created_at: now,
            updated_at: now,
            webhook_url: None,
            temporary: None,
            api_keys: Vec::new(),
            uninvited: false,
        }
    }

    /// The client's id.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The name of its tier, which need not be one of the registry's if it has limits of its own.
    pub fn tier(&self) -> &str {
        &self.tier
    }

    /// What it has of its own, beside its tier.
    pub const fn own(&self) -> &Grant {
        &self.rate_limit
    }

    /// The resources that it may use; `None` is all of them.
    pub fn allowed_queues(&self) -> Option<&[String]> {
        self.allowed_queues.as_deref()
    }

    /// Whether it may use a resource.
    pub fn may_use(&self, resource: &str) -> bool {
        self.allowed_queues.as_ref().is_none_or(|allowed| allowed.iter().any(|name| name == resource))
    }

    /// Whether it may send requests at all.
    pub const fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Whether it was created because a request came with its id, and nobody has changed it since. Registries count these.
    pub const fn is_uninvited(&self) -> bool {
        self.uninvited
    }

    /// When it was created.
    pub const fn created_at(&self) -> SystemTime {
        self.created_at
    }

    /// When it was last changed.
    pub const fn updated_at(&self) -> SystemTime {
        self.updated_at
    }

    /// Where the client wants to be told of its limits.
    pub fn webhook_url(&self) -> Option<&str> {
        self.webhook_url.as_deref()
    }

    /// The grant that ends by itself, unless it has ended.
    pub fn temporary(&self, now: SystemTime) -> Option<&TemporaryGrant> {
        self.temporary.as_ref().filter(|grant| now < grant.expires_at)
    }

    /// Its API keys that are still accepted, by prefix.
    pub fn api_keys(&self, now: SystemTime) -> impl Iterator<Item = ApiKey> {
        self.api_keys.iter().filter(move |key| key.is_live(now)).map(StoredKey::shown)
    }

    /// The hashes of all its API keys, for registries that find clients by them.
    pub fn key_hashes(&self) -> impl Iterator<Item = KeyHash> {
        self.api_keys.iter().map(|key| key.hash)
    }

    /// What is in force for it, an override aside: its temporary grant, its own, its tier's and the default tier's.
    pub fn in_force(&self, tiers: &Tiers, now: SystemTime) -> Grant {
        let temporary = self.temporary(now).map(|temporary| temporary.rate_limit.clone()).unwrap_or_default();
        let tier = tiers.get(&self.tier).cloned().unwrap_or_default();
        temporary.or(&self.rate_limit).or(&tier).or(&tiers.fallback())
    }

    /// What is wrong with it, if anything.
    pub(crate) fn check(&self) -> Result<(), RegistryError> {
        if !is_tier_name(&self.tier) {
            return Err(RegistryError::invalid("tier", BAD_NAME));
        }
        self.rate_limit.check("rate_limit")?;
        self.check_resources()?;
        match &self.webhook_url {
            Some(url) if !is_web_url(url) => {
                let message =
                    "it is no URL; write it like https://example.com/hook, in at most 2048 characters";
                Err(RegistryError::invalid("webhook_url", message))
            }
            _ => Ok(()),
        }
    }

    /// Whether there is its tier, or it needs none.
    pub(crate) fn check_tier(&self, tiers: &Tiers) -> Result<(), RegistryError> {
        if tiers.get(&self.tier).is_some() || !self.rate_limit.is_empty() {
            return Ok(());
        }
        let message = format!(
            "there is no tier {:?}, only {:?}; a client in a tier of another name needs a rate_limit of its own",
            self.tier,
            tiers.names()
        );
        Err(RegistryError::invalid("tier", message))
    }

    fn check_resources(&self) -> Result<(), RegistryError> {
        let Some(queues) = &self.allowed_queues else { return Ok(()) };
        if queues.len() > MOST_RESOURCES {
            let message = format!("at most {MOST_RESOURCES} names are accepted");
            return Err(RegistryError::invalid("allowed_queues", message));
        }
        if queues.iter().any(|name| !(1..=LONGEST_RESOURCE).contains(&name.chars().count())) {
            let message = format!("a name has 1 to {LONGEST_RESOURCE} characters");
            return Err(RegistryError::invalid("allowed_queues", message));
        }
        Ok(())
    }
}

fn is_web_url(text: &str) -> bool {
    let uri = text.parse::<http::Uri>().ok().filter(|_| text.len() <= 2_048);
    uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    })
}
