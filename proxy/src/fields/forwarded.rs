//! Whom a request comes from: `X-Forwarded-*`, `Forwarded` and `Via`.

use super::{hops::is_forwarding, members};
use crate::settings::ForwardedStyle;
use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{FORWARDED, HOST, VIA},
};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

static FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Who is at the other end of a client's connection, in words made once.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) is_trusted: bool,
    is_secure: bool,
    /// The address as `X-Forwarded-For` has it.
    plain: HeaderValue,
}

impl Peer {
    fn proto(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }
}

/// How requests say whom they come from.
#[derive(Debug)]
pub(crate) struct Forwarding {
    style: ForwardedStyle,
    trusted: Vec<IpNet>,
    /// The received protocol and our name, for HTTP/1.0, 1.1 and 2.
    via: [HeaderValue; 3],
    name: String,
}

impl Forwarding {
    /// Nothing where `name` cannot stand in `Via`.
    pub(crate) fn new(style: ForwardedStyle, trusted: &[IpNet], name: &str) -> Option<Self> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        let value = |protocol: &str| HeaderValue::try_from(format!("{protocol} {name}")).ok();
        let via = [value("1.0")?, value("1.1")?, value("2")?];
        Some(Self { style, trusted: trusted.to_vec(), via, name: name.to_owned() })
    }

    /// The peer of a new connection.
    pub(crate) fn peer(&self, address: SocketAddr, is_secure: bool) -> Peer {
        let ip = address.ip().to_canonical();
        let is_trusted = self.trusted.iter().any(|net| net.contains(&ip));
        let plain =
            HeaderValue::try_from(ip.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Peer { address, is_trusted, is_secure, plain }
    }

    /// Whether the request went through us before.
    pub(crate) fn is_loop(&self, headers: &HeaderMap) -> bool {
        let by_us = |hop: &[u8]| {
            let mut words = hop.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            words.nth(1).is_some_and(|name| name.eq_ignore_ascii_case(self.name.as_bytes()))
        };
        headers.contains_key(VIA) && members(headers, &VIA).any(by_us)
    }

    /// Adds us to the proxies that the request went through.
    pub(crate) fn add_via(&self, version: Version, headers: &mut HeaderMap) {
        let [http_10, http_11, http_2] = &self.via;
        let via = match version {
            Version::HTTP_2 => http_2,
            Version::HTTP_10 => http_10,
            _ => http_11,
        };
        match joined(headers, &VIA, via) {
            Some(all) => headers.insert(VIA, all),
            None => headers.insert(VIA, via.clone()),
        };
    }

    /// Says whom the request comes from. What an untrusted peer says of it is removed; what a trusted one says in our
    /// style is passed on, with the peer added.
    pub(crate) fn tell(&self, peer: &Peer, headers: &mut HeaderMap) {
        let kept: &[&HeaderName] = match self.style {
            _ if !peer.is_trusted => &[],
            ForwardedStyle::XForwarded => &[&FOR, &PROTO, &FORWARDED_HOST],
            ForwardedStyle::Forwarded => &[&FORWARDED],
            ForwardedStyle::Off => &[],
        };
        let is_foreign = |name: &&HeaderName| is_forwarding(name.as_str()) && !kept.contains(name);
        if headers.keys().any(|name| is_foreign(&name)) {
            let foreign: Vec<_> = headers.keys().filter(is_foreign).cloned().collect();
            for name in foreign {
                headers.remove(name);
            }
        }
        match self.style {
            ForwardedStyle::XForwarded => tell_x(peer, headers),
            ForwardedStyle::Forwarded => tell_forwarded(peer, headers),
            ForwardedStyle::Off => {}
        }
    }
}

fn tell_x(peer: &Peer, headers: &mut HeaderMap) {
    let all = joined(headers, &FOR, &peer.plain).unwrap_or_else(|| peer.plain.clone());
    headers.insert(&FOR, all);
    // A list of several would say different things to different readers.
    if headers.get_all(&PROTO).iter().count() != 1 {
        headers.insert(&PROTO, HeaderValue::from_static(peer.proto()));
    }
    if headers.get_all(&FORWARDED_HOST).iter().count() != 1 {
        match headers.get(HOST).cloned() {
            Some(host) => headers.insert(&FORWARDED_HOST, host),
            None => headers.remove(&FORWARDED_HOST),
        };
    }
}

fn tell_forwarded(peer: &Peer, headers: &mut HeaderMap) {
    let mut element = match peer.address.ip().to_canonical() {
        IpAddr::V4(ip) => format!("for={ip}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
    };
    // A host that was let pass has neither quotes nor backslashes.
    if let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) {
        element.push_str(&format!(";host=\"{host}\""));
    }
    element.push_str(";proto=");
    element.push_str(peer.proto());
    let Ok(element) = HeaderValue::try_from(element) else { return };
    let all = joined(headers, &FORWARDED, &element).unwrap_or(element);
    headers.insert(FORWARDED, all);
}

/// All lines of a field and one member more, in one line, because some servers read only one; nothing where there are no
/// lines yet.
fn joined(headers: &HeaderMap, name: &HeaderName, last: &HeaderValue) -> Option<HeaderValue> {
    if !headers.contains_key(name) {
        return None;
    }
    let mut all = Vec::new();
    for line in
        headers.get_all(name).iter().chain([last]).filter(|line| !line.as_bytes().trim_ascii().is_empty())
    {
        if !all.is_empty() {
            all.extend_from_slice(b", ");
        }
        all.extend_from_slice(line.as_bytes().trim_ascii());
    }
    HeaderValue::try_from(all).ok()
}
