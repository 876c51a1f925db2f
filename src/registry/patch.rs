//! What is to change about a client, in the manner of a JSON merge patch (RFC 7396).

use super::{ClientRecord, Grant, RegistryError, Tiers, grant::MOST_REQUESTS, time};
use crate::Quota;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, time::SystemTime};

/// A change to a client: a field left out keeps its value.
///
/// ```
/// use tidegate::{ClientPatch, Grant};
/// let patch = ClientPatch::new().tier("premium").rate_limit(Grant::new().requests_per_min(2_000));
/// let same = ClientPatch::from_json(&serde_json::json!({
///     "tier": "premium",
///     "rate_limit": { "max_concurrent": null, "requests_per_min": 2000 },
/// }));
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct ClientPatch {
    tier: Option<String>,
    rate_limit: Option<GrantPatch>,
    allowed_queues: Option<Option<Vec<String>>>,
    enabled: Option<bool>,
    webhook_url: Option<Option<String>>,
    /// The limits that an answer showed, which now is sent back.
    shown: Option<Grant>,
}

/// A field that is `Some(None)` is removed.
#[derive(Debug, Clone)]
enum GrantPatch {
    Replace(Grant),
    Merge {
        max_concurrent: Option<Option<u32>>,
        requests_per_min: Option<Option<u32>>,
        limits: Option<Option<BTreeMap<String, Option<Quota>>>>,
    },
}

impl ClientPatch {
    /// A change of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts the client into a tier.
    pub fn tier(mut self, tier: impl Into<String>) -> Self {
        self.tier = Some(tier.into());
        self
    }

    /// Gives the client limits of its own instead of those that it had. What they leave open is decided by its tier; an
    /// empty grant removes them.
    pub fn rate_limit(mut self, grant: Grant) -> Self {
        self.rate_limit = Some(GrantPatch::Replace(grant));
        self
    }

    /// Lets the client use these resources alone, which may be none.
    pub fn allowed_queues(mut self, resources: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.allowed_queues = Some(Some(resources.into_iter().map(Into::into).collect()));
        self
    }

    /// Lets the client use all resources.
    pub fn all_queues(mut self) -> Self {
        self.allowed_queues = Some(None);
        self
    }

    /// Enables or disables the client.
    pub const fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = Some(enabled);
        self
    }

    /// Where the client wants to be told of its limits; `None` for nowhere.
    pub fn webhook_url(mut self, url: Option<String>) -> Self {
        self.webhook_url = Some(url);
        self
    }

    /// The change that an object of JSON describes; `null` removes a field, where there can be none.
    ///
    /// An answer may be sent back: members that only answers have (`created_at` and the like) are left alone, and beside
    /// them a `rate_limit` that is in force already is not made the client's own.
    ///
    /// # Errors
    ///
    /// If a member is unknown or has a wrong type; the error names it.
    pub fn from_json(value: &Value) -> Result<Self, RegistryError> {
        let mut patch = Self::new();
        let mut is_answer = false;
        for (name, value) in object(value, "body")? {
            match name.as_str() {
                "client_id" => {}
                "created_at" | "updated_at" | "own_rate_limit" | "temporary_grant" => is_answer = true,
                "tier" => patch.tier = Some(text(value, name)?),
                "rate_limit" => patch.rate_limit = Some(grant_patch(value)?),
                "allowed_queues" => patch.allowed_queues = Some(optional(value, |value| names(value, name))?),
                "webhook_url" => patch.webhook_url = Some(optional(value, |value| text(value, name))?),
                "enabled" => {
                    let enabled = value.as_bool();
                    patch.enabled = Some(
                        enabled.ok_or_else(|| RegistryError::invalid(name, "true or false is accepted"))?,
                    );
                }
                _ => {
                    let known =
                        "client_id, tier, rate_limit, allowed_queues, enabled and webhook_url are accepted";
                    return Err(RegistryError::invalid(name, format!("no such field; {known}")));
                }
            }
        }
        let shown = value.get("rate_limit").filter(|limits| is_answer && !limits.is_null());
        patch.shown = shown.map(|limits| Grant::from_json(limits, "rate_limit")).transpose()?;
        Ok(patch)
    }

    /// The record with the change made.
    pub(crate) fn apply(
        mut self,
        mut record: ClientRecord,
        tiers: &Tiers,
        now: SystemTime,
    ) -> Result<ClientRecord, RegistryError> {
        if self.shown.is_some_and(|shown| shown == record.in_force(tiers, now)) {
            self.rate_limit = None;
        }
        let moves = self.tier.is_some() || self.rate_limit.is_some();
        record.tier = self.tier.unwrap_or(record.tier);
        match self.rate_limit {
            Some(GrantPatch::Replace(grant)) => record.rate_limit = grant,
            Some(GrantPatch::Merge { max_concurrent, requests_per_min, limits }) => {
                let own = &mut record.rate_limit;
                own.max_concurrent = max_concurrent.unwrap_or(own.max_concurrent);
                own.requests_per_min = requests_per_min.unwrap_or(own.requests_per_min);
                if let Some(None) = limits {
                    own.limits.clear();
                }
                for (name, quota) in limits.flatten().unwrap_or_default() {
                    match quota {
                        Some(quota) => own.limits.insert(name, quota),
                        None => own.limits.remove(&name),
                    };
                }
            }
            None => {}
        }
        record.allowed_queues = self.allowed_queues.unwrap_or(record.allowed_queues);
        record.enabled = self.enabled.unwrap_or(record.enabled);
        record.webhook_url = self.webhook_url.unwrap_or(record.webhook_url);
        record.updated_at = time::whole_millis(now);
        record.uninvited = false;
        record.check()?;
        // A client whose tier was removed is in it all the same, and can be disabled, say.
        if moves {
            record.check_tier(tiers)?;
        }
        Ok(record)
    }
}

impl Grant {
    /// The grant that an object of JSON describes, `field` being where it stands.
    ///
    /// # Errors
    ///
    /// If a member is unknown or not accepted; the error names it.
    pub fn from_json(value: &Value, field: &str) -> Result<Self, RegistryError> {
        let mut grant = Self::new();
        for (name, value) in object(value, field)? {
            let path = format!("{field}.{name}");
            match name.as_str() {
                "max_concurrent" => grant.max_concurrent = Some(whole(value, &path, u32::MAX)?),
                "requests_per_min" => grant.requests_per_min = Some(whole(value, &path, MOST_REQUESTS)?),
                "limits" => {
                    for (name, quota) in quotas(value, &path)? {
                        let none =
                            || RegistryError::invalid(format!("{path}.{name}"), "a string is accepted");
                        grant.limits.insert(name.clone(), quota.ok_or_else(none)?);
                    }
                }
                _ => return Err(no_such_limit(path)),
            }
        }
        grant.check(field)?;
        Ok(grant)
    }
}

fn grant_patch(value: &Value) -> Result<GrantPatch, RegistryError> {
    if value.is_null() {
        return Ok(GrantPatch::Replace(Grant::new()));
    }
    let (mut at_once, mut each_minute, mut limits) = (None, None, None);
    for (name, value) in object(value, "rate_limit")? {
        let path = format!("rate_limit.{name}");
        match name.as_str() {
            "max_concurrent" => at_once = Some(optional(value, |value| whole(value, &path, u32::MAX))?),
            "requests_per_min" => {
                each_minute = Some(optional(value, |value| whole(value, &path, MOST_REQUESTS))?)
            }
            "limits" => limits = Some(optional(value, |value| quotas(value, &path))?),
            _ => return Err(no_such_limit(path)),
        }
    }
    Ok(GrantPatch::Merge { max_concurrent: at_once, requests_per_min: each_minute, limits })
}

fn no_such_limit(path: String) -> RegistryError {
    RegistryError::invalid(path, "no such field; max_concurrent, requests_per_min and limits are accepted")
}

fn object<'v>(value: &'v Value, field: &str) -> Result<&'v Map<String, Value>, RegistryError> {
    value.as_object().ok_or_else(|| RegistryError::invalid(field, "an object is accepted"))
}

/// `null` is nothing.
fn optional<T>(
    value: &Value,
    read: impl FnOnce(&Value) -> Result<T, RegistryError>,
) -> Result<Option<T>, RegistryError> {
    if value.is_null() { Ok(None) } else { read(value).map(Some) }
}

fn text(value: &Value, field: &str) -> Result<String, RegistryError> {
    value.as_str().map(str::to_owned).ok_or_else(|| RegistryError::invalid(field, "a string is accepted"))
}

fn whole(value: &Value, field: &str, most: u32) -> Result<u32, RegistryError> {
    let number = whole_number(value).and_then(|number| u32::try_from(number).ok());
    let number = number.filter(|number| (1..=most).contains(number));
    number
        .ok_or_else(|| RegistryError::invalid(field, format!("a whole number from 1 to {most} is accepted")))
}

/// To JSON `5.0` is a whole number too, and some languages write it so.
pub(crate) fn whole_number(value: &Value) -> Option<u64> {
    // Up to there each one can be told apart.
    let written = |number: &f64| number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(number);
    value.as_u64().or_else(|| value.as_f64().filter(written).map(|number| number as u64))
}

fn names(value: &Value, field: &str) -> Result<Vec<String>, RegistryError> {
    let texts =
        value.as_array().map(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
    texts
        .flatten()
        .ok_or_else(|| RegistryError::invalid(field, "a list of strings is accepted, or null for all"))
}

/// Quotas by name, as text; `null` for one that is to go.
fn quotas(value: &Value, field: &str) -> Result<BTreeMap<String, Option<Quota>>, RegistryError> {
    let quota = |(name, value): (&String, &Value)| {
        let path = format!("{field}.{name}");
        let text = optional(value, |value| text(value, &path))?;
        let quota = text.map(|text| text.parse::<Quota>()).transpose();
        Ok((name.clone(), quota.map_err(|error| RegistryError::invalid(path, error.to_string()))?))
    };
    object(value, field)?.iter().map(quota).collect()
}
