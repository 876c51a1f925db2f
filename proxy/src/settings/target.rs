//! Where an upstream is.

use super::TextError;
use http::uri::{Authority, Uri};
use serde::Deserialize;
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// The URL of an upstream: `http://127.0.0.1:8265`, `https://api.example.com` or `unix:/run/app.sock`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Target {
    scheme: Scheme,
    authority: Authority,
    path: Option<PathBuf>,
}

/// How an upstream is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// Over TCP.
    Http,
    /// Over TCP through TLS.
    Https,
    /// Over a unix socket.
    Unix,
}

impl Target {
    /// How it is reached.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host and port, as requests name them that have no host of their own; `localhost` for a unix socket.
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(match self.scheme {
            Scheme::Https => 443,
            Scheme::Http | Scheme::Unix => 80,
        })
    }

    /// The path of a unix socket.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl FromStr for Target {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let error = |why: &str| TextError(format!("`{text}` is no upstream: {why}"));
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err(error("write the socket's whole path, like unix:/run/app.sock"));
            }
            let authority = Authority::from_static("localhost");
            return Ok(Self { scheme: Scheme::Unix, authority, path: Some(path.into()) });
        }
        let uri: Uri = text.parse().map_err(|_| error("write it like http://127.0.0.1:8265"))?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(error("begin it with http://, https:// or unix:/")),
        };
        let parts = uri.into_parts();
        let authority = parts.authority.ok_or_else(|| error("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(error("leave out user and password"));
        }
        // What stands behind the host is a port.
        let has_port = authority.as_str().len() > authority.host().len();
        if has_port && authority.port_u16().is_none_or(|port| port == 0) {
            return Err(error("the port is from 1 to 65535"));
        }
        if parts.path_and_query.is_some_and(|path| path != "/") {
            return Err(error("leave out the path; requests keep theirs"));
        }
        Ok(Self { scheme, authority, path: None })
    }
}

impl TryFrom<String> for Target {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        text.parse()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.scheme, &self.path) {
            (Scheme::Https, _) => write!(f, "https://{}", self.authority),
            (_, Some(path)) => write!(f, "unix:{}", path.display()),
            (_, None) => write!(f, "http://{}", self.authority),
        }
    }
}
