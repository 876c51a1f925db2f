//! Names of requests, by which logs of several servers are joined.

use super::Peer;
use http::{HeaderMap, HeaderName, HeaderValue};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A longer one is none.
const LONGEST: usize = 128;

/// Gives a request its id: a trusted peer's own, else a new one. What anybody else says of it is replaced.
pub(crate) fn identify(peer: &Peer, headers: &mut HeaderMap) -> HeaderValue {
    if peer.is_trusted {
        let mut named = headers.get_all(&REQUEST_ID).iter();
        if let (Some(id), None) = (named.next(), named.next()) {
            if is_sound(id.as_bytes()) {
                return id.clone();
            }
        }
    }
    let id = HeaderValue::try_from(format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)));
    // Digits are a value.
    let id = id.unwrap_or_else(|_| HeaderValue::from_static("-"));
    headers.insert(&REQUEST_ID, id.clone());
    id
}

/// Tells the client the id of its request.
pub(crate) fn tell_id(id: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(&REQUEST_ID, id);
}

fn is_sound(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+/=@~".contains(byte))
}
