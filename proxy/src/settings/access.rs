//! Who gets through at all.

use serde::Deserialize;

/// Who gets through at all, and what upstreams learn of them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessSettings {
    /// Who gets through; everybody within the limits, unless set.
    pub require: Option<Require>,
    /// The field in which upstreams get the id of a registered client, such as `X-Client`. Callers' own are removed.
    pub client_field: Option<String>,
    /// Whether the credentials that clients are known by end here. Upstreams that check them too still need them.
    pub strip_credentials: bool,
}

/// Who gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Require {
    /// Clients whom an admin has registered and not disabled, by their id or an API key. Others get a 401.
    Client,
}
