//! How many units a request takes, before and after its answer is known.

use crate::{RequestHead, identity::Networks};
use http::{HeaderName, HeaderValue, StatusCode};
use std::{fmt, net::IpAddr, num::NonZeroU32, ops::RangeInclusive, sync::Arc};

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
pub struct Settle(pub(crate) SettleKind);

type ByStatus = Arc<dyn Fn(StatusCode) -> bool + Send + Sync>;

#[derive(Clone)]
pub(crate) enum SettleKind {
    Count(ByStatus),
    Header(String),
    BodyBytes(u32),
}

impl Settle {
    /// Only responses with these statuses count; the others get their units back.
    pub fn count(counts: impl Fn(StatusCode) -> bool + Send + Sync + 'static) -> Self {
        Self(SettleKind::Count(Arc::new(counts)))
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
        Self(SettleKind::Header(name.into()))
    }

    /// The bytes of the response's body count, in grains of `grain` bytes (at least 1), the last one rounded up.
    ///
    /// The units taken on the way in are the first grains. Those that follow are added as debt while the body is being
    /// sent, so the next request finds them; no body is ever cut off. Choose the grain so that the bandwidth stays
    /// below the 10,000,000 units a second that a quota can count.
    pub const fn body_bytes(grain: u32) -> Self {
        Self(SettleKind::BodyBytes(grain))
    }
}

impl fmt::Debug for Settle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            SettleKind::Count(_) => f.write_str("Settle::count(..)"),
            SettleKind::Header(name) => write!(f, "Settle::header({name:?})"),
            SettleKind::BodyBytes(grain) => write!(f, "Settle::body_bytes({grain})"),
        }
    }
}

/// A whole number as headers have it: digits and nothing else, not even the sign that `parse` takes.
pub(crate) fn whole_number(value: &HeaderValue) -> Option<u32> {
    let text = value.to_str().ok()?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// A grain that was checked when the limiter was built.
pub(crate) type Grain = NonZeroU32;

/// A cost that was checked when the limiter was built.
pub(crate) enum UnitCost {
    Fixed(u32),
    By(ByHead),
    Header { name: HeaderName, range: RangeInclusive<u32>, trusted: Networks, text: String },
}

impl fmt::Debug for UnitCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(units) => write!(f, "Fixed({units})"),
            Self::By(_) => f.write_str("By(..)"),
            Self::Header { name, .. } => write!(f, "Header({name})"),
        }
    }
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
            Self::Header { name, range, trusted, text } => {
                let mut values = head.headers().get_all(name).iter();
                let Some(value) = values.next() else { return Ok(1) };
                if !client().is_some_and(|client| trusted.contains(client)) {
                    return Ok(1);
                }
                match whole_number(value).filter(|units| range.contains(units) && values.next().is_none()) {
                    Some(units) => Ok(units),
                    None => Err(text.clone()),
                }
            }
        }
    }
}

/// A settlement that was checked when the limiter was built.
pub(crate) enum Settlement {
    Count(ByStatus),
    Header(HeaderName),
    BodyBytes(Grain),
}

impl fmt::Debug for Settlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count(_) => "Count(..)",
            Self::Header(_) => "Header(..)",
            Self::BodyBytes(_) => "BodyBytes(..)",
        })
    }
}
