//! An identity, before it is a key.

use super::network::Network;
use crate::key::{Key, Keys, Material};
use http::HeaderName;
use std::{borrow::Cow, fmt, net::IpAddr};

/// Who is asking.
///
/// Identities of different kinds are different clients, whatever their values: no API key can be made to collide with
/// an address. Only a keyed hash of an identity is kept, and its value is never printed.
#[derive(Clone)]
pub struct Identity<'a>(Kind<'a>);

#[derive(Clone)]
enum Kind<'a> {
    Address(Network),
    ApiKey(Cow<'a, [u8]>),
    Header(Cow<'a, HeaderName>, Cow<'a, [u8]>),
    Name(Cow<'a, str>),
    Anonymous,
}

impl<'a> Identity<'a> {
    /// A client known by its address: one IPv4 address, or one IPv6 network of 64 bits, because a host can take any
    /// address in its /64.
    ///
    /// An IPv4-mapped IPv6 address (`::ffff:192.0.2.7`) is the IPv4 address in it.
    pub fn address(ip: IpAddr) -> Self {
        Self::network(ip, if ip.to_canonical().is_ipv4() { 32 } else { 64 })
    }

    /// A client known by the first `prefix` bits of its address, after an IPv4-mapped one became IPv4.
    ///
    /// More bits than the address has (32 or 128) mean all of them; 0 makes all addresses of the family one client.
    pub fn network(ip: IpAddr, prefix: u8) -> Self {
        Self(Kind::Address(Network::new(ip, prefix)))
    }

    /// A client known by a secret that it holds.
    ///
    /// It is the same client whichever way the secret came: as bearer token, in a header, query or cookie.
    pub fn api_key(key: impl Into<Cow<'a, str>>) -> Self {
        Self::secret(bytes(key.into()))
    }

    /// A client by the name that the application has for it, such as a user id.
    ///
    /// All names are one namespace. Where sorts of clients could share a name, tell them apart: `user/7`, `tenant/7`.
    pub fn name(name: impl Into<Cow<'a, str>>) -> Self {
        Self(Kind::Name(name.into()))
    }

    /// A client by what a header says, as [`Source::header`](crate::Source::header) finds it, without spaces around it.
    pub fn header(name: HeaderName, value: impl Into<Cow<'a, str>>) -> Self {
        Self(Kind::Header(Cow::Owned(name), bytes(value.into())))
    }

    /// Everybody whom nothing identifies, as one client.
    pub const fn anonymous() -> Self {
        Self(Kind::Anonymous)
    }

    pub(crate) const fn secret(key: Cow<'a, [u8]>) -> Self {
        Self(Kind::ApiKey(key))
    }

    pub(crate) const fn header_value(name: &'a HeaderName, value: Cow<'a, [u8]>) -> Self {
        Self(Kind::Header(Cow::Borrowed(name), value))
    }

    pub(crate) const fn is_anonymous(&self) -> bool {
        matches!(self.0, Kind::Anonymous)
    }

    /// The name, where that is what the client is known by.
    pub(crate) fn as_name(&self) -> Option<&str> {
        match &self.0 {
            Kind::Name(name) => Some(name),
            _ => None,
        }
    }

    /// What it says, for those who look for the client by it.
    pub(crate) fn claim(&self) -> Claim<'_> {
        match &self.0 {
            Kind::Address(_) => Claim::Address,
            Kind::ApiKey(key) => Claim::Secret(key),
            Kind::Header(_, value) => Claim::Name(value),
            Kind::Name(name) => Claim::Name(name.as_bytes()),
            Kind::Anonymous => Claim::Nobody,
        }
    }

    pub(crate) fn key(&self, keys: &Keys) -> Key {
        match &self.0 {
            Kind::Address(network) => network.key(keys),
            Kind::ApiKey(key) => secret_key(key, keys),
            Kind::Header(name, value) => keys.key(Material::Header, &[name.as_str().as_bytes(), value]),
            Kind::Name(name) => keys.key(Material::Name, &[name.as_bytes()]),
            Kind::Anonymous => keys.key(Material::Anonymous, &[]),
        }
    }

    /// The key that it has where registered clients are looked for: an id's, wherever that stands.
    pub(crate) fn registered_key(&self, keys: &Keys) -> Key {
        match &self.0 {
            Kind::Header(_, id) => keys.key(Material::Name, &[id]),
            _ => self.key(keys),
        }
    }

    /// What logs may say of the client whose key is `key`.
    pub(crate) const fn label(&self, key: Key) -> ClientLabel {
        let address = match self.0 {
            Kind::Address(net) => Some(net),
            _ => None,
        };
        ClientLabel { kind: self.kind(), address, fingerprint: key.fingerprint() }
    }

    const fn kind(&self) -> &'static str {
        match self.0 {
            Kind::Address(_) => "address",
            Kind::ApiKey(_) => "api_key",
            Kind::Header(..) => "header",
            Kind::Name(_) => "name",
            Kind::Anonymous => ANONYMOUS,
        }
    }
}

/// The key of whoever knows a secret.
pub(super) fn secret_key(secret: &[u8], keys: &Keys) -> Key {
    keys.key(Material::Secret, &[secret])
}

/// What an identity says, whatever it was found in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Claim<'a> {
    Address,
    Secret(&'a [u8]),
    Name(&'a [u8]),
    Nobody,
}

fn bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

const ANONYMOUS: &str = "anonymous";

impl From<Network> for Identity<'_> {
    fn from(network: Network) -> Self {
        Self(Kind::Address(network))
    }
}

/// A client by its [name](Identity::name).
impl<'a> From<&'a str> for Identity<'a> {
    fn from(name: &'a str) -> Self {
        Self::name(name)
    }
}

/// A client by its [name](Identity::name).
impl From<String> for Identity<'_> {
    fn from(name: String) -> Self {
        Self::name(name)
    }
}

/// A client by its [address](Identity::address).
impl From<IpAddr> for Identity<'_> {
    fn from(ip: IpAddr) -> Self {
        Self::address(ip)
    }
}

impl<'a> From<&Identity<'a>> for Identity<'a> {
    fn from(identity: &Identity<'a>) -> Self {
        identity.clone()
    }
}

/// Prints the kind alone.
impl fmt::Display for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// Prints the kind alone.
impl fmt::Debug for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({self})")
    }
}

/// A client as logs may name it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientLabel {
    pub(crate) kind: &'static str,
    /// The address or network, where that is what the client is known by.
    pub(crate) address: Option<Network>,
    pub(crate) fingerprint: u32,
}

impl ClientLabel {
    pub(crate) fn is_anonymous(&self) -> bool {
        self.kind == ANONYMOUS
    }

    /// `api_key#1a2b3c4d`, or, with `plain`, an address as it is: `192.0.2.7`, `2001:db8::/64`.
    pub(crate) fn display(self, plain: bool) -> impl fmt::Display {
        Printed { label: self, plain }
    }
}

/// Without the address, because whoever prints a whole event or client has not asked for it.
impl fmt::Debug for ClientLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.display(false), f)
    }
}

struct Printed {
    label: ClientLabel,
    plain: bool,
}

impl fmt::Display for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClientLabel { kind, address, fingerprint } = self.label;
        match address {
            Some(network) if self.plain => network.fmt(f),
            _ if self.label.is_anonymous() => f.write_str(kind),
            _ => write!(f, "{kind}#{fingerprint:08x}"),
        }
    }
}
