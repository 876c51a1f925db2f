//! Header fields: which go on, which end here, and which are ours.

mod forwarded;
mod hops;
mod request_id;

pub(crate) use forwarded::{Forwarding, Peer};
pub(crate) use hops::Hops;
use http::HeaderMap;
pub(crate) use request_id::{identify, tell_id};

/// The members of a list in all lines of a field, trimmed; empty ones are left out.
pub(crate) fn members<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// Whether a list has a member, whatever its case.
pub(crate) fn has_member(headers: &HeaderMap, name: &http::HeaderName, member: &str) -> bool {
    members(headers, name).any(|found| found.eq_ignore_ascii_case(member.as_bytes()))
}
