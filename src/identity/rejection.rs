//! Why nobody was identified.

use http::{HeaderValue, StatusCode};
use std::{error::Error, fmt};

/// Why a request has no identity under a rule and is turned away. That rule charges nothing; the limits of the other rules
/// that match are charged as ever, and if one of them refuses, the answer is its 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// No bearer token came.
    MissingToken,
    /// The `Authorization` header came twice, or its bearer token is empty or no token (RFC 6750, section 2.1).
    MalformedToken,
    /// No API key came.
    MissingApiKey,
    /// The API key is empty or came twice.
    MalformedApiKey,
    /// The application did not say who is asking.
    MissingLogin,
    /// The header that names the client did not come.
    MissingHeader,
    /// The header that names the client is empty or came twice.
    MalformedHeader,
    /// The client's address is unknown.
    MissingAddress,
    /// Fewer trusted proxies than configured vouch for the client's address.
    ShortChain,
    /// The client's id cannot be one.
    MalformedClientId,
    /// The registry has no such client or API key.
    UnknownClient,
    /// The client is disabled.
    DisabledClient,
}

impl Rejection {
    /// 401 where a credential is missing or malformed or a client is unknown or disabled, 400 for addresses, headers and ids.
    pub const fn status(self) -> StatusCode {
        if self.scheme().is_some() { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST }
    }

    /// The `WWW-Authenticate` that belongs to a 401.
    ///
    /// `Bearer` as in RFC 6750, section 3; `ApiKey`, which no standard names, for API keys. The scheme of what the
    /// application identifies is not known here, so a missing login is answered with `Bearer` too.
    pub fn challenge(self) -> Option<HeaderValue> {
        self.scheme().map(HeaderValue::from_static)
    }

    /// Whether something came that cannot be read, rather than nothing.
    pub(crate) const fn is_malformed(self) -> bool {
        matches!(
            self,
            Self::MalformedToken
                | Self::MalformedApiKey
                | Self::MalformedHeader
                | Self::ShortChain
                | Self::MalformedClientId
        )
    }

    const fn scheme(self) -> Option<&'static str> {
        match self {
            Self::MissingToken | Self::MissingLogin => Some("Bearer"),
            Self::MalformedToken => Some("Bearer error=\"invalid_token\""),
            Self::MissingApiKey | Self::MalformedApiKey => Some("ApiKey"),
            Self::UnknownClient | Self::DisabledClient => Some("ApiKey"),
            Self::MissingHeader
            | Self::MalformedHeader
            | Self::MissingAddress
            | Self::ShortChain
            | Self::MalformedClientId => None,
        }
    }

    /// What was wrong and how to mend it, for the caller to read.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::MissingToken => "a bearer token is required; send `Authorization: Bearer <token>`",
            Self::MalformedToken => {
                "the bearer token is empty, malformed or repeated; send one `Authorization: Bearer <token>`"
            }
            Self::MissingApiKey => "an API key is required; send it with the request",
            Self::MalformedApiKey => "the API key is empty or repeated; send it exactly once",
            Self::MissingLogin => "authentication is required; log in and send the request again",
            Self::MissingHeader => "the header that names the client is missing; send it with the request",
            Self::MalformedHeader => {
                "the header that names the client is empty or repeated; send it exactly once"
            }
            Self::MissingAddress => "the client's address is unknown to the server",
            Self::ShortChain => {
                "the request came past fewer proxies than this server expects; send it to the public address"
            }
            Self::MalformedClientId => {
                "the client id has characters or a length that are not accepted; send the one that was given to you"
            }
            Self::UnknownClient => "no client of that name or API key is known; ask for one to be set up",
            Self::DisabledClient => "the client is disabled; ask for it to be enabled",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail())
    }
}

impl Error for Rejection {}
