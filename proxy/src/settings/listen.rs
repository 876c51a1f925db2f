//! Where the server listens.

use super::TextError;
use serde::Deserialize;
use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

/// An address to listen at.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
#[non_exhaustive]
pub enum Listen {
    /// `127.0.0.1:8080`, or `[::1]:8080`; port 0 takes a free one.
    Tcp(SocketAddr),
    /// `tls:0.0.0.0:8443`: the same through TLS.
    Tls(SocketAddr),
    /// `unix:/run/tidegate.sock`. Who comes over it counts as `127.0.0.1`.
    Unix(PathBuf),
}

impl Default for Listen {
    /// `127.0.0.1:8080`: nobody from outside reaches a proxy that was not told to let them.
    fn default() -> Self {
        Self::Tcp((Ipv4Addr::LOCALHOST, 8080).into())
    }
}

impl FromStr for Listen {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let error = || {
                TextError(format!("`{text}`: write the socket's whole path, like unix:/run/tidegate.sock"))
            };
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(error()) };
        }
        let (kind, address): (fn(SocketAddr) -> Self, _) = match text.strip_prefix("tls:") {
            Some(address) => (Self::Tls, address),
            None => (Self::Tcp, text),
        };
        address.parse().map(kind).map_err(|_| {
            TextError(format!(
                "`{text}` is no address to listen at; write it like 127.0.0.1:8080, tls:[::]:8443 or unix:/run/tidegate.sock"
            ))
        })
    }
}

impl TryFrom<String> for Listen {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        text.parse()
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Tls(address) => write!(f, "tls:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
