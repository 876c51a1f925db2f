use super::super::kinds::{Network, Secret};
use schemars::JsonSchema;
use serde::Deserialize;
use std::net::SocketAddr;

/// The admin API.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct AdminSection {
    /// The address and port that it is served on, such as `127.0.0.1:9090`. Keep it off the public network.
    pub(in super::super) listen: Option<SocketAddr>,
    /// Keys that admins send in `X-Admin-Key`. Take at least 128 random bits: `openssl rand -hex 32`.
    pub(in super::super) keys: Vec<Secret>,
    /// The same by their SHA-256 in 64 hexadecimal digits, so that the keys need not stand here.
    pub(in super::super) key_hashes: Vec<String>,
    /// The networks that admins must come from; all unless set.
    pub(in super::super) networks: Vec<Network>,
    /// Needs no key from this machine, for development; false unless set.
    pub(in super::super) open_without_key_on_loopback: bool,
}

#[cfg(feature = "admin")]
impl AdminSection {
    pub(in super::super) fn build(
        &self,
        limiter: &crate::Limiter,
    ) -> Result<crate::Admin, crate::BuildError> {
        let mut builder = crate::Admin::builder(limiter);
        builder = self.keys.iter().fold(builder, |builder, key| builder.key(key.expose()));
        builder = self.key_hashes.iter().fold(builder, |builder, hash| builder.key_hash(hash));
        builder = builder.allow_networks(self.networks.iter().map(|network| network.as_str()));
        if self.open_without_key_on_loopback {
            builder = builder.open_without_key_on_loopback();
        }
        builder.build()
    }
}
