//! How many units a request takes, before and after its answer is known.

use super::{Bandwidth, bandwidth::Metering};
use crate::{RequestHead, identity::Networks};
use http::{HeaderMap, HeaderName, StatusCode};
use std::{borrow::Cow, fmt, net::IpAddr, ops::RangeInclusive, sync::Arc};

/// How many units a request takes on the way in.
///
/// ```
/// use tidegate::{Cost, Limit, Quota};
///
/// let reports = Limit::per_client("reports", Quota::per_hour(100)).cost(Cost::fixed(10));
/// let batches = Limit::per_client("items", Quota::per_hour(5_000))
///     .cost(Cost::by(|head| if head.path().ends_with("/batch") { 50 } else { 1 }));
/// let internal = Limit::per_client("work", Quota::per_hour(5_000))
///     .cost(Cost::header("x-cost", 1..=100).trusting(["10.0.0.0/8"]));
/// ```
#[derive(Clone)]
pub struct Cost(pub(crate) CostKind);

type ByHead = Arc<dyn Fn(RequestHead<'_>) -> u32 + Send + Sync>;

#[derive(Clone)]
pub(crate) enum CostKind {
    Fixed(u32),
    By(ByHead),
    Header { name: String, range: RangeInclusive<u32>, trusted: Vec<String> },
}

impl Cost {
    /// The same for every request; 1 unless set. A cost of 0 is never refused and never counted.
    pub const fn fixed(units: u32) -> Self {
        Self(CostKind::Fixed(units))
    }

    /// What the closure says of the request's head.
    ///
    /// A request that costs more than the limit's burst is refused with a 429 that has no `Retry-After`, because no
    /// waiting would help it.
    pub fn by(units: impl Fn(RequestHead<'_>) -> u32 + Send + Sync + 'static) -> Self {
        Self(CostKind::By(Arc::new(units)))
    }

    /// What a request header says, when it comes from a caller that is trusted (see [`trusting`](Self::trusting)).
    ///
    /// Without the header, or from anybody else, a request costs 1. A value that is not a whole number of the range,
    /// or that stands there twice, is answered with 400.
    pub fn header(name: impl Into<String>, range: RangeInclusive<u32>) -> Self {
        Self(CostKind::Header { name: name.into(), range, trusted: Vec::new() })
    }

    /// The networks whose client addresses may name a cost; nobody may, until they are given.
    #[must_use]
    pub fn trusting(mut self, networks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        if let CostKind::Header { trusted, .. } = &mut self.0 {
            trusted.extend(networks.into_iter().map(Into::into));
        }
        self
    }
}

impl From<u32> for Cost {
    fn from(units: u32) -> Self {
        Self::fixed(units)
    }
}

impl fmt::Debug for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            CostKind::Fixed(units) => write!(f, "Cost::fixed({units})"),
            CostKind::By(_) => f.write_str("Cost::by(..)"),
            CostKind::Header { name, range, trusted } => {
                write!(f, "Cost::header({name:?}, {range:?}).trusting({trusted:?})")
            }
        }
    }
}

/// What the response makes of the units that a request took on the way in.
///
/// They are reserved first, so that requests in flight count. A request that is dropped before its response stays
/// charged, and so does one whose service fails without a response: where responses can cost much more than 1, reserve
/// what they usually do with [`Limit::cost`](crate::Limit::cost). No more is given back than is still owed of a charge,
/// because debt drains in the meantime.
///
/// ```
/// use tidegate::{Limit, Quota, Settle};
/// use http::StatusCode;
///
/// let failures = Limit::per_client("failed logins", Quota::per_minute(5))
///     .settle(Settle::count(|status| status == StatusCode::UNAUTHORIZED));
/// // Megabytes an hour, counted in grains of 1 KiB.
/// let bandwidth = Limit::per_client("bandwidth", Quota::per_hour(100 * 1024))
///     .settle(Settle::body_bytes(1024));
/// ```
#[derive(Clone)]
pub struct Settle(pub(super) Result<Settlement, Cow<'static, str>>);

#[derive(Clone)]
pub(crate) enum Settlement {
    Count(Arc<dyn Fn(StatusCode) -> bool + Send + Sync>),
    Header(HeaderName),
    Bytes(Metering),
}

impl Settlement {
    /// What it counts of bodies, if it does.
    pub(crate) const fn metering(&self) -> Option<&Metering> {
        match self {
            Self::Bytes(metering) => Some(metering),
            _ => None,
        }
    }
}

impl Settle {
    /// Only responses with these statuses count; the others get their units back.
    pub fn count(counts: impl Fn(StatusCode) -> bool + Send + Sync + 'static) -> Self {
        Self(Ok(Settlement::Count(Arc::new(counts))))
    }

    /// Responses with these statuses get their units back; the others count.
    pub fn refund(refunds: impl Fn(StatusCode) -> bool + Send + Sync + 'static) -> Self {
        Self::count(move |status| !refunds(status))
    }

    /// A response header says how many units the request took in all.
    ///
    /// What was reserved beyond that is given back; what it is short of is added as debt (see
    /// [`Limit::max_debt`](crate::Limit::max_debt)). Without the header, or where it is no whole number up to
    /// 4,294,967,295, the reserved units stay.
    pub fn header(name: impl Into<String>) -> Self {
        Self(header_name(&name.into()).map(Settlement::Header).map_err(Cow::Owned))
    }

    /// The bytes of the response's body count, in grains of `grain` bytes: the same as [`Bandwidth::responses`].
    pub fn body_bytes(grain: u32) -> Self {
        Bandwidth::responses(grain).into()
    }
}

impl fmt::Debug for Settle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(Settlement::Count(_)) => f.write_str("Settle::count(..)"),
            Ok(Settlement::Header(name)) => write!(f, "Settle::header({name:?})"),
            Ok(Settlement::Bytes(metering)) => write!(f, "Settle({metering:?})"),
            Err(reason) => write!(f, "Settle({reason})"),
        }
    }
}

/// The whole number that a header says once and properly: digits and nothing else, not even the sign that `parse` takes.
pub(crate) fn whole_number(headers: &HeaderMap, name: &HeaderName) -> Option<u32> {
    let mut values = headers.get_all(name).iter();
    let text = values.next()?.to_str().ok()?;
    let sound = values.next().is_none() && text.bytes().all(|byte| byte.is_ascii_digit());
    if sound { text.parse().ok() } else { None }
}

pub(super) fn header_name(name: &str) -> Result<HeaderName, String> {
    let reason = || format!("{name:?} is no header name; one is made of letters, digits and !#$%&'*+-.^_`|~");
    name.parse().map_err(|_| reason())
}

/// A cost that was checked when the limiter was built.
pub(crate) enum UnitCost {
    Fixed(u32),
    By(ByHead),
    Header { name: HeaderName, range: RangeInclusive<u32>, trusted: Networks },
}

impl UnitCost {
    /// The units of a charge that no request's head goes with.
    pub(crate) const fn usual(&self) -> u32 {
        match self {
            Self::Fixed(units) => *units,
            Self::By(_) | Self::Header { .. } => 1,
        }
    }

    /// The most units that are known to be asked for.
    pub(super) fn most(&self) -> u32 {
        match self {
            Self::Fixed(units) => *units,
            Self::By(_) => 1,
            Self::Header { range, .. } if range.is_empty() => 0,
            Self::Header { range, .. } => *range.end(),
        }
    }

    /// The units, or what is wrong with the header that should say.
    pub(crate) fn of(
        &self,
        head: RequestHead<'_>,
        client: impl FnOnce() -> Option<IpAddr>,
    ) -> Result<u32, String> {
        match self {
            Self::Fixed(units) => Ok(*units),
            Self::By(units) => Ok(units(head)),
            Self::Header { name, range, trusted } => {
                let headers = head.headers();
                if !headers.contains_key(name) || !client().is_some_and(|client| trusted.contains(client)) {
                    return Ok(1);
                }
                whole_number(headers, name).filter(|units| range.contains(units)).ok_or_else(|| {
                    let (least, most) = (range.start(), range.end());
                    format!("header {name:?} must be one whole number from {least} to {most}")
                })
            }
        }
    }
}
