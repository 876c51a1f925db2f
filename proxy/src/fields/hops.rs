//! Fields for one connection only (RFC 9110, section 7.6.1).

use super::members;
use http::{
    HeaderMap, HeaderName,
    header::{
        AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, FORWARDED, HOST,
        ORIGIN, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RETRY_AFTER, SET_COOKIE, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE, VIA,
    },
};

/// Fields that end here, whether `Connection` names them or not.
static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Fields that say who asks whom for what, and how much of it there is. Whoever could have them removed on the way would
/// be somebody else behind us.
static PROTECTED: [HeaderName; 18] = [
    HOST,
    FORWARDED,
    AUTHORIZATION,
    COOKIE,
    SET_COOKIE,
    ORIGIN,
    VIA,
    CACHE_CONTROL,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    TRAILER,
    RETRY_AFTER,
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("max-forwards"),
];

/// A `Connection` field names a field that it may not remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nomination;

/// Removes what is for one connection only.
#[derive(Debug)]
pub(crate) struct Hops {
    protected: Vec<HeaderName>,
}

impl Hops {
    /// Protects these fields too.
    pub(crate) fn new(protected: Vec<HeaderName>) -> Self {
        Self { protected }
    }

    pub(crate) fn is_protected(&self, name: &HeaderName) -> bool {
        PROTECTED.contains(name) || self.protected.contains(name) || is_forwarding(name.as_str())
    }

    /// Removes them from a request's head, unless it names what is protected.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) -> Result<(), Nomination> {
        if self.strip_all(headers) { Ok(()) } else { Err(Nomination) }
    }

    /// Removes them from a response's head; what is protected stays.
    pub(crate) fn strip_answer(&self, headers: &mut HeaderMap) {
        self.strip_all(headers);
    }

    fn strip_all(&self, headers: &mut HeaderMap) -> bool {
        let mut is_sound = true;
        if headers.contains_key(CONNECTION) {
            let named: Vec<_> =
                members(headers, &CONNECTION).filter_map(|name| HeaderName::from_bytes(name).ok()).collect();
            for name in named {
                if self.is_protected(&name) {
                    is_sound = false;
                } else {
                    headers.remove(name);
                }
            }
        }
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
        is_sound
    }

    /// Removes fields that some server reads as protected ones: CGI and its kin take `X_Forwarded_For` for
    /// `X-Forwarded-For`.
    pub(crate) fn strip_lookalikes(&self, headers: &mut HeaderMap) {
        let is_lookalike = |name: &&HeaderName| {
            name.as_str().contains('_')
                && HeaderName::try_from(name.as_str().replace('_', "-"))
                    .is_ok_and(|name| self.is_protected(&name) || HOP_BY_HOP.contains(&name))
        };
        let found: Vec<_> = headers.keys().filter(is_lookalike).cloned().collect();
        for name in found {
            headers.remove(name);
        }
    }
}

/// Whether a field is of those by which proxies say whom they forward for.
pub(super) fn is_forwarding(name: &str) -> bool {
    name.starts_with("x-forwarded-") || name == "forwarded"
}
