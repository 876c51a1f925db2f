//! Limits that a request brings along.

use super::{ClientRecord, Grant, RegistryError};
use crate::{Mistake, Rate};
use http::{HeaderMap, HeaderName};

/// Who may bring other limits along with a request, how, and how high. Nobody may, unless
/// [`Clients::overrides`](super::Clients::overrides) says so.
///
/// An override goes before all other limits of the client, for this request and against what it owes already: it is
/// never a second quota. What a client has taken by it beyond its own limits, it owes to them when it comes without.
/// Every attempt is an event.
#[derive(Debug, Clone)]
#[must_use]
pub struct Overrides {
    most: Grant,
    header: Option<String>,
    tiers: Vec<String>,
    clients: Vec<String>,
}

impl Overrides {
    /// At most this much, field by field. What it leaves open cannot be overridden, and nobody may override anything yet.
    pub const fn up_to(most: Grant) -> Self {
        Self { most, header: None, tiers: Vec::new(), clients: Vec::new() }
    }

    /// Takes them from a header too, in which they stand like `requests_per_min=200, max_concurrent=10`. Without it they
    /// are taken from [`Charging::with_limits`](crate::Charging::with_limits) alone.
    pub fn header(mut self, name: impl Into<String>) -> Self {
        self.header = Some(name.into());
        self
    }

    /// Clients in this tier may bring them, or in another one given.
    pub fn tier(mut self, tier: impl Into<String>) -> Self {
        self.tiers.push(tier.into());
        self
    }

    /// This client may bring them, or another one given.
    pub fn client(mut self, id: impl Into<String>) -> Self {
        self.clients.push(id.into());
        self
    }

    pub(super) fn compile(&self, mistakes: &mut Vec<Mistake>) -> Option<HeaderName> {
        let mut mistake = |reason| mistakes.push(Mistake::Setting { setting: "Overrides", reason });
        if let Err(error) = self.most.check("up_to") {
            mistake(error.to_string());
        }
        let name = self.header.as_deref()?;
        let parsed = name.parse::<HeaderName>();
        parsed.map_err(|_| mistake(format!("{name:?} cannot be a header's name"))).ok()
    }

    /// Whether a client may override its limits.
    pub(super) fn may(&self, record: &ClientRecord) -> bool {
        self.clients.contains(&record.client_id) || self.tiers.contains(&record.tier)
    }

    /// The highest rate of a limit.
    pub(super) fn most(&self, limit: &str) -> Option<Rate> {
        self.most.quota(limit)?.rate().ok()
    }

    /// Whether a client may override its limits with these.
    pub(crate) fn admit(
        &self,
        record: &ClientRecord,
        wanted: Result<Grant, Refused>,
    ) -> Result<Grant, Refused> {
        if !self.may(record) {
            return Err(Refused::Client);
        }
        let wanted = wanted?;
        self.check(&wanted).map_err(|error| Refused::Value(error.to_string()))?;
        Ok(wanted)
    }

    fn check(&self, wanted: &Grant) -> Result<(), RegistryError> {
        if wanted.is_empty() {
            return Err(RegistryError::invalid("override", "it says nothing; write requests_per_min=200"));
        }
        wanted.check("override")?;
        let over = |field: &str, most: String| {
            Err(RegistryError::invalid(format!("override.{field}"), format!("at most {most} is accepted")))
        };
        for (field, wanted, most) in [
            ("max_concurrent", wanted.max_concurrent, self.most.max_concurrent),
            ("requests_per_min", wanted.requests_per_min, self.most.requests_per_min),
        ] {
            if wanted > most.or(Some(0)) {
                return over(field, most.map_or("nothing".into(), |most| most.to_string()));
            }
        }
        for (name, quota) in &wanted.limits {
            let most = self.most.limits.get(name);
            let rates = most.and_then(|most| Some((quota.rate().ok()?, most.rate().ok()?)));
            let fits = |(wanted, most): (Rate, Rate)| {
                wanted.interval() >= most.interval() && wanted.burst() <= most.burst()
            };
            if !rates.is_some_and(fits) {
                return over(&format!("limits.{name}"), most.map_or("nothing".into(), ToString::to_string));
            }
        }
        Ok(())
    }
}

/// Why an override is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The client may not bring any.
    Client,
    /// It is malformed or too high.
    Value(String),
}

/// What a header says, `requests_per_min=200, max_concurrent=10`, where it is there.
pub(crate) fn read(headers: &HeaderMap, name: &HeaderName) -> Option<Result<Grant, Refused>> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?;
    let text = line.to_str().ok().filter(|_| lines.next().is_none());
    let malformed =
        || Refused::Value("override: write it once, like requests_per_min=200, max_concurrent=10".to_owned());
    let Some(text) = text else { return Some(Err(malformed())) };
    let fields = text.split(',').try_fold(Grant::new(), |grant, field| {
        let (field, number) = field.split_once('=')?;
        let number = number.trim();
        let number =
            number.parse::<u32>().ok().filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()))?;
        match field.trim() {
            "requests_per_min" if grant.requests_per_min.is_none() => Some(grant.requests_per_min(number)),
            "max_concurrent" if grant.max_concurrent.is_none() => Some(grant.max_concurrent(number)),
            _ => None,
        }
    });
    Some(fields.ok_or_else(malformed))
}
