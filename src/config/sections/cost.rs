//! What a request costs, before and after its answer is known.

use super::super::kinds::{Grain, Header, Network, Period, Statuses};
use crate::{Bandwidth, Cost, RequestHead, Settle};
use http::{StatusCode, header::CONTENT_LENGTH};
use schemars::JsonSchema;
use serde::Deserialize;

/// How many units a request takes on the way in.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in super::super) enum CostSection {
    /// The same for every request. A cost of 0 is never refused and never counted.
    Fixed(u32),
    /// What the request says.
    By(CostBy),
}

/// What says how much a request costs.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in super::super) enum CostBy {
    /// What a request header says, when it comes from a caller that is trusted; else 1.
    Header(HeaderCost),
    /// The bytes of the request's body, as `Content-Length` announces them.
    ContentLength(LengthCost),
}

/// A cost that a header says.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct HeaderCost {
    /// The header. A value that is no whole number of the range is answered with 400.
    name: Header,
    /// The least that is accepted; 1 unless set.
    #[serde(default = "one")]
    least: u32,
    /// The most that is accepted.
    most: u32,
    /// The networks whose client addresses may name a cost.
    #[schemars(length(min = 1))]
    trusting: Vec<Network>,
}

/// A cost by bytes.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct LengthCost {
    /// How many bytes are one unit, the last one begun counting whole; from 1 to 4 GiB. A request without a body costs nothing.
    grain: Grain,
    /// What a request costs whose length is not announced, in units.
    unknown: u32,
}

const fn one() -> u32 {
    1
}

impl CostSection {
    pub(super) fn build(&self) -> Cost {
        match self {
            Self::Fixed(units) => Cost::fixed(*units),
            Self::By(CostBy::Header(HeaderCost { name, least, most, trusting })) => {
                Cost::header(name.as_str(), *least..=*most).trusting(trusting.iter().map(|net| net.as_str()))
            }
            Self::By(CostBy::ContentLength(LengthCost { grain: Grain(grain), unknown })) => {
                let (grain, unknown) = (*grain, *unknown);
                Cost::by(move |head| length(head).map_or(unknown, |bytes| grains(bytes, grain)))
            }
        }
    }
}

/// The bytes of the body that a request announces; a body whose length is not announced has none.
fn length(head: RequestHead<'_>) -> Option<u64> {
    match head.headers().get(CONTENT_LENGTH) {
        Some(length) => length.to_str().ok()?.parse().ok(),
        // Over HTTP/2 nothing tells whether there is a body.
        None if head.headers().contains_key("transfer-encoding") => None,
        None if matches!(*head.method(), http::Method::GET | http::Method::HEAD | http::Method::OPTIONS) => {
            Some(0)
        }
        None => None,
    }
}

fn grains(bytes: u64, grain: u32) -> u32 {
    u32::try_from(bytes.div_ceil(grain.max(1).into())).unwrap_or(u32::MAX)
}

/// What the response makes of the units that a request took on the way in.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in super::super) enum SettleSection {
    /// Only responses with these statuses count; the others get their units back.
    Count(Vec<Statuses>),
    /// Responses with these statuses get their units back; the others count.
    Refund(Vec<Statuses>),
    /// This response header says how many units the request took in all.
    Header(Header),
    /// The bytes of the response's body count, in grains of so many, from 1 byte to 4 GiB; those that follow the units taken on
    /// the way in are added as debt while they are sent.
    BodyBytes(Grain),
    /// The bytes of bodies count, of requests, of responses or of both together, and bodies may be made to wait.
    Bandwidth(BandwidthSection),
}

/// What of bodies counts.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct BandwidthSection {
    /// How many bytes are one unit, the last one begun counting whole; from 1 byte to 4 GiB.
    grain: Grain,
    /// Whose bodies count.
    #[serde(default)]
    of: Bodies,
    /// Bodies wait until the quota has room for them, at most this long in the queue, and new requests are refused where it is
    /// full. Unless set, no body waits, and what is beyond the burst is added as debt, which refuses the next request.
    pace: Option<Period>,
}

/// Whose bodies count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Bodies {
    /// Those of requests and of responses, unless set.
    #[default]
    Both,
    /// Those of requests.
    Requests,
    /// Those of responses.
    Responses,
}

impl BandwidthSection {
    fn build(&self) -> Bandwidth {
        let grain = self.grain.0;
        let bandwidth = match self.of {
            Bodies::Both => Bandwidth::both(grain),
            Bodies::Requests => Bandwidth::requests(grain),
            Bodies::Responses => Bandwidth::responses(grain),
        };
        self.pace.into_iter().fold(bandwidth, |bandwidth, longest| bandwidth.pace(longest.0))
    }
}

impl SettleSection {
    pub(super) fn build(&self) -> Settle {
        match self {
            Self::Count(statuses) => Settle::count(among(statuses)),
            Self::Refund(statuses) => Settle::refund(among(statuses)),
            Self::Header(name) => Settle::header(name.as_str()),
            Self::BodyBytes(Grain(grain)) => Settle::body_bytes(*grain),
            Self::Bandwidth(bandwidth) => bandwidth.build().into(),
        }
    }
}

fn among(statuses: &[Statuses]) -> impl Fn(StatusCode) -> bool + Send + Sync + 'static {
    let statuses = statuses.to_vec();
    move |status| statuses.iter().any(|some| some.has(status))
}
