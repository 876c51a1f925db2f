use super::super::kinds::{Header, Network};
use crate::{Source, TrustedProxies};
use schemars::JsonSchema;
use serde::Deserialize;

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct IdentitySection {
    /// Where to look for the client, in order; the first that finds somebody counts. Nobody found is one shared client, unless
    /// `refuse` is set. A credential that is malformed or sent twice is rejected.
    #[serde(default = "by_address")]
    #[schemars(length(min = 1))]
    sources: Vec<SourceStep>,
    /// Rejects requests that nothing identifies, with 401 for credentials and 400 for addresses and headers; false unless set.
    #[serde(default)]
    refuse: bool,
    /// Clients are looked up in the registry, by their id in a header or by an API key that was issued for them; false unless
    /// set.
    #[serde(default)]
    registered: bool,
    /// IPv4 addresses count by their first so many bits, from 1 to 32; 32 unless set.
    #[schemars(range(min = 1, max = 32))]
    ipv4_prefix: Option<u8>,
    /// IPv6 addresses count by their first so many bits, from 1 to 128; 64 unless set. More than 64 lets a client have as
    /// many quotas as its network has addresses.
    #[schemars(range(min = 1, max = 128))]
    ipv6_prefix: Option<u8>,
}

fn by_address() -> Vec<SourceStep> {
    vec![SourceStep::Address]
}

/// One place to look for a client.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum SourceStep {
    /// The client's address: the peer's, or the one that trusted proxies forward for.
    Address,
    /// The address of the TCP peer, even where that is a proxy.
    Peer,
    /// The token in `Authorization: Bearer`.
    Bearer,
    /// An API key in this header.
    ApiKeyHeader(Header),
    /// An API key in this query parameter. Mind that URLs end up in logs.
    ApiKeyQuery(#[schemars(length(min = 1))] String),
    /// An API key in this cookie.
    ApiKeyCookie(Header),
    /// A header that names the client and is no secret, such as a tenant's id. Clients choose it freely unless something
    /// before checks it.
    Header(Header),
}

impl SourceStep {
    fn build(&self) -> Source {
        match self {
            Self::Address => Source::address(),
            Self::Peer => Source::peer(),
            Self::Bearer => Source::bearer(),
            Self::ApiKeyHeader(name) => Source::api_key_header(name),
            Self::ApiKeyQuery(name) => Source::api_key_query(name),
            Self::ApiKeyCookie(name) => Source::api_key_cookie(name),
            Self::Header(name) => Source::header(name),
        }
    }
}

impl IdentitySection {
    pub(super) fn source(&self) -> Source {
        let chain = self.sources.iter().map(SourceStep::build).reduce(Source::or);
        let source = chain.unwrap_or_else(Source::address);
        let source = self.ipv4_prefix.into_iter().fold(source, Source::ipv4_prefix);
        let source = self.ipv6_prefix.into_iter().fold(source, Source::ipv6_prefix);
        let source = if self.refuse { source.or_refuse() } else { source };
        if self.registered { source.registered() } else { source }
    }
}

/// The proxies in front of the server.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct ProxiesSection {
    /// The one header in which they say whom they forward for; they must append to it or replace it.
    #[serde(default)]
    header: ForwardingHeader,
    /// Their addresses and networks.
    networks: Vec<Network>,
    /// Exactly so many of them stand in a row before the server, from 1 to 64. This alone permits networks that hold
    /// everybody, and is safe only while the server cannot be reached but through all of them.
    #[schemars(range(min = 1, max = 64))]
    hops: Option<u8>,
}

/// A header by which proxies say whom they forward for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum ForwardingHeader {
    /// `X-Forwarded-For`, unless set.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239); its `for` counts.
    Forwarded,
}

impl ProxiesSection {
    pub(super) fn build(&self) -> TrustedProxies {
        let networks = self.networks.iter().map(|network| network.as_str());
        let proxies = match self.header {
            ForwardingHeader::XForwardedFor => TrustedProxies::x_forwarded_for(networks),
            ForwardingHeader::Forwarded => TrustedProxies::forwarded(networks),
        };
        self.hops.into_iter().fold(proxies, TrustedProxies::hops)
    }
}
