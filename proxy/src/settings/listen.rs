//! Where the server listens.

use super::TextError;
use serde::Deserialize;
use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
};

/// An address to listen at.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
#[non_exhaustive]
pub enum Listen {
    /// `127.0.0.1:8080`, or `[::1]:8080`; port 0 takes a free one.
    Tcp(SocketAddr),
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
        text.parse().map(Self::Tcp).map_err(|_| {
            TextError(format!(
                "`{text}` is no address to listen at; write it like 127.0.0.1:8080 or [::]:8080"
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
        }
    }
}
