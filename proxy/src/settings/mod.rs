//! What the proxy can be told. Plain descriptions: mistakes in them are found when the server starts.

mod access;
mod listen;
mod log;
mod target;
mod text;

pub use access::{AccessSettings, Require};
use ipnet::IpNet;
pub use listen::Listen;
pub use log::{LogFormat, LogSettings, LogTarget};
use serde::Deserialize;
use std::{num::NonZeroUsize, path::PathBuf};
pub use target::{Scheme, Target};
pub use text::{Size, Span, TextError};

/// All settings of a proxy.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How clients are served.
    #[serde(default)]
    pub server: ServerSettings,
    /// Where requests go: to the first whose host is named and whose path begins longest like theirs.
    #[serde(rename = "upstream")]
    pub upstreams: Vec<UpstreamSettings>,
    /// Who gets through at all.
    #[serde(default)]
    pub access: AccessSettings,
    /// What is written of each request.
    #[serde(default)]
    pub log: LogSettings,
}

impl Settings {
    /// A proxy in front of one upstream, all else as by default.
    pub fn new(target: Target) -> Self {
        Self {
            server: ServerSettings::default(),
            upstreams: vec![UpstreamSettings::new(target)],
            access: AccessSettings::default(),
            log: LogSettings::default(),
        }
    }
}

/// How clients are served.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// Where to listen: `127.0.0.1:8080`, `tls:[::]:8443`, `unix:/run/tidegate.sock`.
    pub listen: Vec<Listen>,
    /// How many threads serve; as many as there are processors, unless set.
    pub threads: Option<NonZeroUsize>,
    /// Our name in `Via`, by which loops are found. No two proxies in a row may share it; a random one, unless set.
    pub name: Option<String>,
    /// The proxies whose `X-Forwarded-*` or `Forwarded` fields are passed on; all others' are replaced.
    pub trusted_proxies: Vec<IpNet>,
    /// Who begins each connection with a header of the PROXY protocol, version 1 or 2, that says whose it is.
    pub proxy_protocol_from: Vec<IpNet>,
    /// The certificate for addresses that begin with `tls:`.
    pub tls: Option<TlsSettings>,
    /// The fields that tell upstreams whom a request comes from.
    pub forwarded: ForwardedStyle,
    /// Protocols that a connection may be upgraded to.
    pub upgrades: Vec<String>,
    /// Header fields that no `Connection` field may remove, besides those that identify and frame requests.
    pub protected_fields: Vec<String>,
    /// The most connections of clients at a time; more wait to be accepted.
    pub max_connections: NonZeroUsize,
    /// The most bytes that the head of a request or response may have.
    pub max_head: Size,
    /// The most fields that a head may have.
    pub max_fields: usize,
    /// The most bytes that the body of a request may have.
    pub max_body: Size,
    /// How long the server waits, and for what.
    pub timeouts: ServerTimeouts,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: vec![Listen::default()],
            threads: None,
            name: None,
            trusted_proxies: Vec::new(),
            proxy_protocol_from: Vec::new(),
            tls: None,
            forwarded: ForwardedStyle::default(),
            upgrades: vec!["websocket".to_owned()],
            protected_fields: Vec::new(),
            max_connections: const { NonZeroUsize::new(16_384).unwrap() },
            max_head: Size::new(32 << 10),
            max_fields: 100,
            max_body: Size::new(1 << 30),
            timeouts: ServerTimeouts::default(),
        }
    }
}

/// What the server proves with who it is. Both files are in PEM, and read anew when they change.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate, and those that lead to a root behind it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The fields that tell upstreams whom a request comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedStyle {
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// None, and clients' own are removed.
    Off,
}

/// How long the server waits for clients.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerTimeouts {
    /// For all of a request's head, from its first byte on.
    pub head: Span,
    /// For the next request on a connection.
    pub idle: Span,
    /// For the next bytes of a request's body.
    pub body: Span,
    /// For a client to take more of a response.
    pub write: Span,
    /// For the next bytes in either direction of an upgraded connection.
    pub upgraded: Span,
    /// For requests to end when the server stops.
    pub drain: Span,
}

impl Default for ServerTimeouts {
    fn default() -> Self {
        Self {
            head: Span::secs(15),
            idle: Span::secs(75),
            body: Span::secs(30),
            write: Span::secs(30),
            upgraded: Span::secs(600),
            drain: Span::secs(30),
        }
    }
}

/// Where requests go.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSettings {
    /// `http://127.0.0.1:8265`, `https://api.example.com` or `unix:/run/app.sock`.
    pub url: Target,
    /// The certificates that it may prove itself by, in PEM; those that the system trusts, unless set.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// The hosts that it is for, without ports: `api.example.com`. Without any, all that no other upstream names.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// What the paths that it is for begin with, whole segments: `/api` is for `/api` and `/api/jobs`, not for `/apis`.
    #[serde(default = "default_paths")]
    pub paths: Vec<String>,
    /// Which version of HTTP it speaks.
    #[serde(default)]
    pub http: HttpVersion,
    /// How to find out whether it is well; nobody asks, unless set.
    #[serde(default)]
    pub health: Option<HealthSettings>,
    /// A client that it answers with 429 or 503 and `Retry-After` is not sent on for as long, but no longer than this; it
    /// gets that answer from here. Unless set, it is sent on.
    #[serde(default)]
    pub obey_retry_after: Option<Span>,
    /// The most connections at a time, of all threads together.
    #[serde(default = "default_connections")]
    pub max_connections: NonZeroUsize,
    /// How long the proxy waits, and for what.
    #[serde(default)]
    pub timeouts: UpstreamTimeouts,
}

impl UpstreamSettings {
    /// An upstream, all else as by default.
    pub fn new(url: Target) -> Self {
        Self {
            url,
            ca: None,
            hosts: Vec::new(),
            paths: default_paths(),
            health: None,
            obey_retry_after: None,
            http: HttpVersion::default(),
            max_connections: default_connections(),
            timeouts: UpstreamTimeouts::default(),
        }
    }
}

/// Which version of HTTP an upstream speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum HttpVersion {
    /// HTTP/1.1.
    #[default]
    #[serde(rename = "1.1")]
    One,
    /// HTTP/2, as both sides know beforehand; gRPC needs it. There are no upgrades.
    #[serde(rename = "2")]
    Two,
}

/// How to find out whether an upstream is well.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthSettings {
    /// What is asked for with GET; an answer below 400 says that it is well.
    pub path: String,
    /// How often.
    #[serde(default = "default_interval")]
    pub interval: Span,
    /// How long it may take to answer.
    #[serde(default = "default_patience")]
    pub timeout: Span,
    /// After so many failures in a row it gets no more requests, until it is well again.
    #[serde(default = "default_failures")]
    pub failures: NonZeroUsize,
}

fn default_interval() -> Span {
    Span::secs(5)
}

fn default_patience() -> Span {
    Span::secs(2)
}

fn default_failures() -> NonZeroUsize {
    const { NonZeroUsize::new(3).unwrap() }
}

fn default_paths() -> Vec<String> {
    vec!["/".to_owned()]
}

fn default_connections() -> NonZeroUsize {
    const { NonZeroUsize::new(1024).unwrap() }
}

/// How long the proxy waits for an upstream.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTimeouts {
    /// For a connection, a place among the most that there may be included.
    pub connect: Span,
    /// For the head of a response, once the request is sent.
    pub response: Span,
    /// For the next bytes of a response's body.
    pub body: Span,
    /// How long a connection is kept that nobody uses.
    pub idle: Span,
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self { connect: Span::secs(5), response: Span::secs(60), body: Span::secs(60), idle: Span::secs(30) }
    }
}
