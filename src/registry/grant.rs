//! What a client may do, and by whose word.

use super::RegistryError;
use crate::Quota;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// How much a client may do: at once, each minute, and by limits with a name of their own.
///
/// What one grant leaves open is decided by the next: an override's goes before a temporary grant, that before the client's
/// own, that before its tier's and that before the tier `default`, field by field.
///
/// ```
/// use tidegate::{Grant, Quota};
/// let grant = Grant::new().max_concurrent(5).requests_per_min(100).limit("exports", Quota::per_hour(10));
/// assert_eq!(grant.requests_quota(), Some(Quota::per_minute(100)));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_concurrent: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) requests_per_min: Option<u32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "quotas")]
    pub(crate) limits: BTreeMap<String, Quota>,
}

/// The most requests a minute: a million a second, up to which each number can be counted by.
pub(super) const MOST_REQUESTS: u32 = 60_000_000;
/// The limit that `requests_per_min` is about.
pub(crate) const REQUESTS: &str = "requests";

impl Grant {
    /// A grant that leaves everything open.
    pub const fn new() -> Self {
        Self { max_concurrent: None, requests_per_min: None, limits: BTreeMap::new() }
    }

    /// How many requests may be under way at once, at least 1.
    #[must_use]
    pub const fn max_concurrent(mut self, requests: u32) -> Self {
        self.max_concurrent = Some(requests);
        self
    }

    /// How many requests a minute, from 1 to 60,000,000; as many can be sent at once. It is the quota of limits named
    /// `requests`.
    #[must_use]
    pub const fn requests_per_min(mut self, requests: u32) -> Self {
        self.requests_per_min = Some(requests);
        self
    }

    /// The quota of a limit by its name, other than `requests`.
    #[must_use]
    pub fn limit(mut self, name: impl Into<String>, quota: Quota) -> Self {
        self.limits.insert(name.into(), quota);
        self
    }

    /// How many requests may be under way at once, where it says so.
    pub const fn concurrency(&self) -> Option<u32> {
        self.max_concurrent
    }

    /// The quota of limits named `requests`, where it says so.
    pub fn requests_quota(&self) -> Option<Quota> {
        self.requests_per_min.map(|requests| Quota::per_minute(requests.into()))
    }

    /// The quota of a limit, where it says so.
    pub fn quota(&self, limit: &str) -> Option<Quota> {
        if limit == REQUESTS { self.requests_quota() } else { self.limits.get(limit).copied() }
    }

    /// The quotas of limits with a name of their own.
    pub fn limits(&self) -> impl Iterator<Item = (&str, Quota)> {
        self.limits.iter().map(|(name, quota)| (name.as_str(), *quota))
    }

    /// Whether it leaves everything open.
    pub fn is_empty(&self) -> bool {
        self.max_concurrent.is_none() && self.requests_per_min.is_none() && self.limits.is_empty()
    }

    /// Fills in what it leaves open.
    #[must_use]
    pub fn or(mut self, next: &Self) -> Self {
        self.max_concurrent = self.max_concurrent.or(next.max_concurrent);
        self.requests_per_min = self.requests_per_min.or(next.requests_per_min);
        for (name, quota) in &next.limits {
            self.limits.entry(name.clone()).or_insert(*quota);
        }
        self
    }

    /// What is wrong with it, if anything; `field` is where it stands.
    pub(crate) fn check(&self, field: &str) -> Result<(), RegistryError> {
        let invalid =
            |name: &str, message: String| RegistryError::invalid(format!("{field}.{name}"), message);
        if self.max_concurrent == Some(0) {
            return Err(invalid("max_concurrent", "0 would admit nothing; 1 or more is accepted".into()));
        }
        if let Some(requests) = self.requests_per_min {
            if requests == 0 {
                let message = format!(
                    "0 would admit nothing; 1 to {MOST_REQUESTS} is accepted (to shut a client out, set enabled to false)"
                );
                return Err(invalid("requests_per_min", message));
            }
            if requests > MOST_REQUESTS {
                return Err(invalid("requests_per_min", format!("1 to {MOST_REQUESTS} is accepted")));
            }
        }
        for (name, quota) in &self.limits {
            let field = format!("limits.{name}");
            if name == REQUESTS {
                return Err(invalid(&field, "this limit's quota is set with requests_per_min".into()));
            }
            if !(1..=64).contains(&name.len()) || !name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                return Err(invalid(&field, "a limit's name has 1 to 64 printable ASCII characters".into()));
            }
            quota.rate().map_err(|error| invalid(&field, error.to_string()))?;
        }
        if self.limits.len() > MOST_LIMITS {
            return Err(invalid("limits", format!("at most {MOST_LIMITS} limits are accepted")));
        }
        Ok(())
    }
}

/// So many limits with a name of their own a grant may have.
pub(crate) const MOST_LIMITS: usize = 64;

/// Quotas as text.
mod quotas {
    use super::*;
    use serde::de::Error;

    pub(super) fn serialize<S: Serializer>(
        limits: &BTreeMap<String, Quota>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(limits.iter().map(|(name, quota)| (name, quota.to_string())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, Quota>, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
        let parsed = texts.into_iter().map(|(name, text)| Ok((name, text.parse()?)));
        parsed.collect::<Result<_, crate::QuotaError>>().map_err(D::Error::custom)
    }
}
