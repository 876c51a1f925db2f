//! Credentials in queries, which no log may have.

use percent_encoding::percent_decode;
use std::borrow::Cow;
use tidegate::Limiter;

/// Parameters that usually are credentials, in lower case.
const USUAL: [&str; 28] = [
    "access_key",
    "access_token",
    "api-key",
    "api_key",
    "apikey",
    "assertion",
    "auth",
    "authorization",
    "client_secret",
    "code",
    "code_verifier",
    "credential",
    "id_token",
    "jwt",
    "key",
    "passwd",
    "password",
    "private_token",
    "pwd",
    "refresh_token",
    "secret",
    "session",
    "sig",
    "signature",
    "token",
    "x-amz-credential",
    "x-amz-security-token",
    "x-amz-signature",
];

/// What stands for a value that is not written.
const HIDDEN: &[u8] = b"***";

/// Which query parameters are not written.
#[derive(Debug)]
pub(super) struct Redact {
    more: Vec<String>,
    is_all: bool,
    /// Its policy takes keys from parameters, and another policy may from others.
    limiter: Option<Limiter>,
}

impl Redact {
    /// The usual ones and these; `*` is all of them.
    pub(super) fn new(more: impl IntoIterator<Item = impl AsRef<str>>, limiter: Option<Limiter>) -> Self {
        let more: Vec<_> = more.into_iter().map(|name| name.as_ref().to_lowercase()).collect();
        Self { is_all: more.iter().any(|name| name == "*"), more, limiter }
    }

    /// A target, or an address with a query, as it may be written.
    pub(super) fn apply<'a>(&self, target: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(query) = target.iter().position(|byte| *byte == b'?').map(|mark| mark + 1) else {
            return target.into();
        };
        let (before, query) = target.split_at(query);
        if !query.split(is_separator).any(|pair| self.hides(pair)) {
            return target.into();
        }
        let mut told = before.to_vec();
        for pair in query.split_inclusive(is_separator) {
            let end = pair.last().filter(|last| is_separator(last)).map_or(pair.len(), |_| pair.len() - 1);
            let (pair, separator) = pair.split_at(end);
            if self.hides(pair) {
                told.extend(pair.split_inclusive(|byte| *byte == b'=').next().unwrap_or_default());
                told.extend(HIDDEN);
            } else {
                told.extend(pair);
            }
            told.extend(separator);
        }
        told.into()
    }

    /// Whether a pair has a value that is not written.
    fn hides(&self, pair: &[u8]) -> bool {
        let Some(end) = pair.iter().position(|byte| *byte == b'=') else { return false };
        let name = pair.get(..end).unwrap_or_default();
        // Another server may decode twice; nobody needs a name that has to be.
        let once: Cow<'_, [u8]> = percent_decode(name).into();
        let twice = percent_decode(&once).decode_utf8_lossy();
        let name = twice.trim().to_lowercase();
        // `user[token]` and `user.token` are tokens too.
        let is_secret = |part: &str| USUAL.contains(&part) || self.more.iter().any(|more| more == part);
        let keys = self.limiter.as_ref().map(Limiter::key_parameters).unwrap_or_default();
        let is_key = |key: &String| key.to_lowercase() == name;
        self.is_all
            || keys.iter().any(is_key)
            || is_secret(&name)
            || name.split(['[', ']', '.']).any(is_secret)
    }
}

/// Some servers split at `;` too, and a value may be an address with a query of its own.
fn is_separator(byte: &u8) -> bool {
    matches!(byte, b'&' | b';' | b'?' | b'#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_credentials_are_hidden_however_they_are_written() {
        let redact = Redact::new(["Tenant-Secret"], None);
        for (target, told) in [
            ("/a", "/a"),
            ("/a?b=c", "/a?b=c"),
            ("/a?token=t", "/a?token=***"),
            ("/a?b=c&TOKEN=t=u&d=e", "/a?b=c&TOKEN=***&d=e"),
            ("/a?b=c;token=t;d", "/a?b=c;token=***;d"),
            ("/a?%74oken=t", "/a?%74oken=***"),
            ("/a?%2574oken=t", "/a?%2574oken=***"),
            ("/a?user[token]=t&x.api_key=u", "/a?user[token]=***&x.api_key=***"),
            ("/a?tenant-secret=t", "/a?tenant-secret=***"),
            ("/a?b=/c?token=t#d", "/a?b=/c?token=***#d"),
            ("/a??token=t", "/a??token=***"),
            ("/a?token", "/a?token"),
            ("/a?token=", "/a?token=***"),
            ("/token=t", "/token=t"),
        ] {
            assert_eq!(redact.apply(target.as_bytes()), told.as_bytes(), "{target}");
        }
        assert_eq!(&*Redact::new(["*"], None).apply(b"/a?b=c&d=e"), b"/a?b=***&d=***");
    }
}
