//! Which requests can be forwarded without two servers reading them differently.

use crate::{
    fields::{Forwarding, Hops, Peer, has_member, members},
    problem::Problem,
};
use http::{
    HeaderMap, HeaderValue, Method, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    request::Parts,
    uri::PathAndQuery,
};

/// What makes requests fit to be forwarded.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) hops: Hops,
    pub(crate) forwarding: Forwarding,
    /// Protocols that may be upgraded to, in lower case.
    pub(crate) upgrades: Vec<String>,
}

impl Check {
    /// Makes a request's head the one that an upstream gets; its target keeps only path and query. Answers with the
    /// protocol that it may be upgraded to, if it asks for one.
    pub(crate) fn admit(
        &self,
        peer: &Peer,
        parts: &mut Parts,
        can_upgrade: bool,
    ) -> Result<Option<HeaderValue>, Problem> {
        if matches!(parts.method, Method::CONNECT | Method::TRACE) {
            return Err(Problem::Method);
        }
        if let Some(host) = host(parts)? {
            parts.headers.insert(HOST, host);
        }
        parts.uri = target(&parts.method, &parts.uri)?;
        let headers = &mut parts.headers;
        framing(headers)?;
        join_cookies(headers);
        if self.forwarding.is_loop(headers) {
            return Err(Problem::Loop);
        }
        let upgrade = self.upgrade(parts.version, headers, can_upgrade);
        let takes_trailers = headers.contains_key(TE)
            && members(headers, &TE).any(|coding| coding.to_ascii_lowercase().starts_with(b"trailers"));
        self.hops.strip(headers).map_err(|_| {
            Problem::Malformed(
                "A Connection field names a field that may not be removed; leave it out there.",
            )
        })?;
        self.hops.strip_lookalikes(headers);
        self.forwarding.tell(peer, headers);
        self.forwarding.add_via(parts.version, headers);
        // We answer with 100 ourselves, once the body is wanted.
        if headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
            headers.remove(EXPECT);
        }
        match (&upgrade, takes_trailers) {
            (Some(protocol), _) => {
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(UPGRADE, protocol.clone());
            }
            (None, true) => {
                headers.insert(CONNECTION, HeaderValue::from_static("te"));
                headers.insert(TE, HeaderValue::from_static("trailers"));
            }
            (None, false) => {}
        }
        parts.version = Version::HTTP_11;
        Ok(upgrade)
    }

    /// The one protocol that the request asks to go on with, if it may.
    fn upgrade(&self, version: Version, headers: &HeaderMap, can_upgrade: bool) -> Option<HeaderValue> {
        if !can_upgrade || version != Version::HTTP_11 || !has_member(headers, &CONNECTION, "upgrade") {
            return None;
        }
        let mut asked = members(headers, &UPGRADE);
        let protocol = asked
            .find(|asked| self.upgrades.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(asked)))?;
        HeaderValue::from_bytes(protocol).ok()
    }
}

/// The host that the request names outside its `Host` field, checked against that.
fn host(parts: &Parts) -> Result<Option<HeaderValue>, Problem> {
    let mut lines = parts.headers.get_all(HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(Problem::Malformed("There is more than one Host field; send one."));
    }
    if line.is_some_and(|host| !is_host(host.as_bytes())) {
        return Err(Problem::Malformed(
            "The Host field is no host and port; write it like example.com:8080.",
        ));
    }
    let Some(authority) = parts.uri.authority() else {
        return match line {
            None if parts.version != Version::HTTP_10 => {
                Err(Problem::Malformed("There is no Host field; send one."))
            }
            _ => Ok(None),
        };
    };
    if !is_host(authority.as_str().as_bytes()) {
        return Err(Problem::Malformed(
            "The target's host is no host and port; write it like example.com:8080.",
        ));
    }
    match line {
        Some(line) if line.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => Ok(None),
        Some(_) => {
            Err(Problem::Malformed("The Host field and the target name different hosts; send one of them."))
        }
        None => Ok(HeaderValue::from_str(authority.as_str()).ok()),
    }
}

/// Whether it is a host with or without port, in the characters that all servers agree about.
pub(crate) fn is_host(text: &[u8]) -> bool {
    let (host, port) = match text.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
            let (ip, port) = rest.split_at(end);
            let is_ipv6 = std::str::from_utf8(ip).is_ok_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
            if !is_ipv6 {
                return false;
            }
            (None, port.get(1..).unwrap_or_default())
        }
        None => {
            let end = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
            let (name, port) = text.split_at(end);
            (Some(name), port)
        }
    };
    let is_name = |name: &[u8]| {
        !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte))
    };
    host.is_none_or(is_name) && (port.is_empty() || port.strip_prefix(b":").is_some_and(is_port))
}

fn is_port(text: &[u8]) -> bool {
    let digits = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.is_some_and(|digits| digits.parse::<u16>().is_ok())
}

/// Path and query, or `*`.
fn target(method: &Method, uri: &Uri) -> Result<Uri, Problem> {
    let is_absolute = uri.scheme().is_some();
    if is_absolute && !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(Problem::Malformed("The target's scheme is neither http nor https."));
    }
    match uri.path_and_query() {
        Some(path) if path.as_str().starts_with('/') => Ok(path.clone().into()),
        Some(path) if path == "*" && method == Method::OPTIONS && !is_absolute => Ok(path.clone().into()),
        Some(path) if is_absolute => {
            let path = PathAndQuery::try_from(path.to_string()); // which begins with a slash
            path.map(Uri::from).map_err(|_| Problem::Malformed("The request's target is no URL."))
        }
        _ => Err(Problem::Malformed("The request's target is no path; begin it with a slash.")),
    }
}

/// HTTP/2 splits cookies into lines, which HTTP/1.1 has in one (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_some() {
        let all: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(all) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
            headers.insert(COOKIE, all);
        }
    }
}

/// HTTP/1's framing is taken off by hyper and put on anew; a coding that it does not take off would go unsaid. A length is
/// written as all read it: what begins with a zero is octal to some.
fn framing(headers: &mut HeaderMap) -> Result<(), Problem> {
    if let Some(length) = headers.get(CONTENT_LENGTH).filter(|length| length.as_bytes().starts_with(b"0")) {
        let length = length.to_str().ok().and_then(|length| length.parse::<u64>().ok());
        let length = length.ok_or(Problem::Malformed("The Content-Length is no number."))?;
        headers.insert(CONTENT_LENGTH, length.into());
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => {
            Err(Problem::Malformed("The request's Transfer-Encoding is other than chunked; use that alone."))
        }
    }
}
