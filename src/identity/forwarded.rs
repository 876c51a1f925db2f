//! The client's address behind proxies.

use super::{Rejection, network::Networks};
use crate::Mistake;
use http::{HeaderMap, HeaderName, header};
use std::{
    iter,
    net::{IpAddr, Ipv6Addr},
};

/// No walk looks at more entries than this, however long the header.
const MOST_ENTRIES: u8 = 64;

/// The proxies in front of the server, and the one header in which they say whom they forward for.
///
/// A peer outside the networks is the client itself, and its headers are ignored. Behind a trusted peer the header is
/// read from its right end, where the nearest proxy writes: the first address outside the networks is the client. An
/// entry that is no address (`unknown`, a hidden name) ends the walk at the proxy that wrote it. Where every entry is
/// trusted, the leftmost is the client. At most 64 entries are looked at.
///
/// The proxies must append to the header or replace it. One that passes it on untouched lets clients write it.
#[derive(Debug, Clone)]
pub struct TrustedProxies {
    field: Field,
    networks: Vec<String>,
    hops: Option<u8>,
}

impl TrustedProxies {
    /// Proxies in `networks` (`10.0.0.0/8`, `2001:db8::1`) that append to `X-Forwarded-For`.
    pub fn x_forwarded_for(networks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(Field::XForwardedFor, networks)
    }

    /// Proxies in `networks` (`10.0.0.0/8`, `2001:db8::1`) that append to `Forwarded` (RFC 7239); its `for` counts.
    pub fn forwarded(networks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(Field::Forwarded, networks)
    }

    fn new(field: Field, networks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { field, networks: networks.into_iter().map(Into::into).collect(), hops: None }
    }

    /// Exactly `n` proxies (1 to 64) stand in a row before the server, the last of them being its peer.
    ///
    /// The client is then the `n`-th entry from the right, itself trusted or not. Everything to the right of it must be
    /// in the networks; where an entry there is not, or the header has fewer than `n`, the request found a way around
    /// a proxy and is rejected with 400.
    ///
    /// This alone permits networks that hold everybody (`0.0.0.0/0`, `::/0`), for proxies whose addresses change.
    /// It is safe only while the server cannot be reached but through all `n` proxies.
    #[must_use]
    pub const fn hops(mut self, n: u8) -> Self {
        self.hops = Some(n);
        self
    }

    pub(crate) fn compile(&self, mistakes: &mut Vec<Mistake>) -> Proxies {
        let networks = Networks::compile(&self.networks, "trusted proxies", mistakes);
        if let Some(n) = self.hops.filter(|n| !(1..=MOST_ENTRIES).contains(n)) {
            let reason = format!("{n} proxies; 1 to {MOST_ENTRIES} are accepted");
            mistakes.push(Mistake::Setting { setting: "trusted proxies, hops", reason });
        }
        if self.hops.is_none() && networks.contains_everybody() {
            let reason = "they hold every address, so clients could choose theirs; name the proxies' networks or set hops";
            mistakes.push(Mistake::Setting { setting: "trusted proxies", reason: reason.into() });
        }
        Proxies { name: self.field.name(), field: self.field, networks, hops: self.hops }
    }
}

#[derive(Debug, Clone, Copy)]
enum Field {
    XForwardedFor,
    Forwarded,
}

impl Field {
    const fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            Self::Forwarded => header::FORWARDED,
        }
    }

    fn address(self, entry: &[u8]) -> Option<IpAddr> {
        match self {
            Self::XForwardedFor => address(entry),
            Self::Forwarded => address(forwarded_for(entry)?),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Proxies {
    name: HeaderName,
    field: Field,
    networks: Networks,
    hops: Option<u8>,
}

impl Proxies {
    /// The client's address, for an unmapped `peer`; without a peer there is nobody to trust, and it is unknown.
    pub(crate) fn client_address(
        &self,
        peer: Option<IpAddr>,
        headers: &HeaderMap,
    ) -> Result<Option<IpAddr>, Rejection> {
        let Some(peer) = peer else { return Ok(None) };
        if !self.networks.contains(peer) {
            return Ok(Some(peer));
        }
        let most = usize::from(self.hops.unwrap_or(MOST_ENTRIES));
        let lines = headers.get_all(&self.name).iter().rev();
        let (mut client, mut seen) = (peer, 0);
        for entry in lines.flat_map(|line| from_the_right(line.as_bytes(), b',')).take(most) {
            seen += 1;
            let Some(address) = self.field.address(entry) else { break };
            client = address;
            if !self.networks.contains(client) {
                break;
            }
        }
        match self.hops {
            Some(_) if seen < most => Err(Rejection::ShortChain),
            _ => Ok(Some(client)),
        }
    }
}

/// The parts of a list from its right end, split at separators outside quotes.
///
/// A client that opens a quote and never closes it spoils its own end of the list, not what proxies appended.
fn from_the_right(list: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(list);
    iter::from_fn(move || {
        let list = rest.take()?;
        let mut quoted = false;
        for (i, &byte) in list.iter().enumerate().rev() {
            let left = list.get(..i).unwrap_or_default();
            if byte == b'"' && left.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 0 {
                quoted = !quoted;
            } else if byte == separator && !quoted {
                rest = Some(left);
                return list.get(i + 1..);
            }
        }
        Some(list)
    })
}

/// The node in an element's `for`, which may be there only once (RFC 7239, section 4).
fn forwarded_for(element: &[u8]) -> Option<&[u8]> {
    let mut node = None;
    for pair in from_the_right(element, b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()) {
        let equals = pair.iter().position(|b| *b == b'=')?;
        let (name, value) = (pair.get(..equals)?, pair.get(equals + 1..)?);
        if name.eq_ignore_ascii_case(b"for") {
            let value = match value.strip_prefix(b"\"") {
                Some(quoted) => quoted.strip_suffix(b"\"")?,
                None => value,
            };
            if node.replace(value).is_some() {
                return None;
            }
        }
    }
    node
}

/// Reads `192.0.2.7`, `192.0.2.7:80`, `2001:db8::1`, `[2001:db8::1]:80`, the latter two with a zone (`%eth0`) or not.
fn address(node: &[u8]) -> Option<IpAddr> {
    let node = std::str::from_utf8(node.trim_ascii()).ok()?;
    let ip = if let Some(node) = node.strip_prefix('[') {
        let (ip, rest) = node.split_once(']')?;
        let sound = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        ipv6(ip).filter(|_| sound)?.into()
    } else {
        match node.split_once(':') {
            Some((ip, port)) if is_port(port) => ip.parse().map(IpAddr::V4).ok()?,
            Some(_) => ipv6(node)?.into(),
            None => IpAddr::V4(node.parse().ok()?),
        }
    };
    Some(ip.to_canonical())
}

fn ipv6(text: &str) -> Option<Ipv6Addr> {
    match text.split_once('%') {
        Some((_, "")) => None,
        Some((ip, _)) => ip.parse().ok(),
        None => text.parse().ok(),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}
