use super::{Grant, RegistryError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The tiers that clients may be in, by name. There always is one named `default`, which has all fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Grant>", into = "BTreeMap<String, Grant>")]
pub struct Tiers {
    tiers: BTreeMap<String, Grant>,
}

/// The tier of clients that nobody has put into another.
pub(crate) const DEFAULT: &str = "default";
const MOST_TIERS: usize = 1_000;

impl Tiers {
    /// The built-in ones, as the most at once and the requests a minute: `free` 1 and 10, `basic` 5 and 100, `premium` 20
    /// and 1000, `enterprise` 50 and 5000, `default` 3 and 50.
    pub fn new() -> Self {
        let built_in = [
            ("free", 1, 10),
            ("basic", 5, 100),
            ("premium", 20, 1000),
            ("enterprise", 50, 5000),
            (DEFAULT, 3, 50),
        ];
        let tier = |(name, at_once, requests): (&str, u32, u32)| {
            (name.to_owned(), Grant::new().max_concurrent(at_once).requests_per_min(requests))
        };
        Self { tiers: built_in.into_iter().map(tier).collect() }
    }

    /// The same with another tier, or with this grant for one that is there.
    ///
    /// # Errors
    ///
    /// If the name is not printable ASCII of 1 to 64 characters, the grant has a field that is not accepted, or the
    /// tier is `default` and leaves `max_concurrent` or `requests_per_min` open.
    pub fn with(mut self, name: impl Into<String>, grant: Grant) -> Result<Self, RegistryError> {
        let name = name.into();
        if !is_tier_name(&name) {
            return Err(RegistryError::invalid("tier", BAD_NAME));
        }
        grant.check(&format!("tiers.{name}"))?;
        let open = grant.max_concurrent.is_none() || grant.requests_per_min.is_none();
        if name == DEFAULT && open {
            let message = "it has to say max_concurrent and requests_per_min, because nothing comes after it";
            return Err(RegistryError::invalid("tiers.default", message));
        }
        self.tiers.insert(name, grant);
        if self.tiers.len() > MOST_TIERS {
            return Err(RegistryError::invalid("tiers", format!("at most {MOST_TIERS} tiers are accepted")));
        }
        Ok(self)
    }

    /// The same without a tier. Clients that are in it fall back to `default`, as far as they have no limits of their own.
    ///
    /// # Errors
    ///
    /// If it is `default`, or there is no such tier.
    pub fn without(mut self, name: &str) -> Result<Self, RegistryError> {
        if name == DEFAULT {
            return Err(RegistryError::invalid(
                "tier",
                "the tier \"default\" cannot be removed; set other limits for it",
            ));
        }
        match self.tiers.remove(name) {
            Some(_) => Ok(self),
            None => Err(RegistryError::NotFound { what: format!("tier {name:?}") }),
        }
    }

    /// What a tier grants.
    pub fn get(&self, name: &str) -> Option<&Grant> {
        self.tiers.get(name)
    }

    /// What the tier `default` grants.
    pub(crate) fn fallback(&self) -> Grant {
        self.get(DEFAULT).cloned().unwrap_or_default()
    }

    /// All tiers, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Grant)> {
        self.tiers.iter().map(|(name, grant)| (name.as_str(), grant))
    }

    /// The names.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.tiers.keys().map(String::as_str).collect()
    }
}

pub(crate) const BAD_NAME: &str = "a tier's name has 1 to 64 printable ASCII characters and no spaces";

pub(crate) fn is_tier_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Default for Tiers {
    fn default() -> Self {
        Self::new()
    }
}

/// Refuses what [`Tiers::with`] would, and tiers without `default`.
impl TryFrom<BTreeMap<String, Grant>> for Tiers {
    type Error = RegistryError;

    fn try_from(tiers: BTreeMap<String, Grant>) -> Result<Self, RegistryError> {
        if !tiers.contains_key(DEFAULT) {
            return Err(RegistryError::invalid("tiers", "there has to be a tier \"default\""));
        }
        let none = Self { tiers: BTreeMap::new() };
        tiers.into_iter().try_fold(none, |all, (name, grant)| all.with(name, grant))
    }
}

impl From<Tiers> for BTreeMap<String, Grant> {
    fn from(tiers: Tiers) -> Self {
        tiers.tiers
    }
}
