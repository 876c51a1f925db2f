//! Where an identity comes from.

use super::{
    Claim, Identity, Proxies, Rejection, RequestHead,
    credential::{self, Malformed},
    network::Network,
    peer, value,
};
use crate::{
    Mistake,
    key::{Key, Keys},
};
use http::HeaderName;
use std::{fmt, net::IpAddr, sync::Arc};

/// Where to look for a client's identity, in order.
///
/// Nobody identified is one shared client, [`Identity::anonymous`], unless [`or_refuse`](Self::or_refuse) is set.
/// Names are checked when the limiter is built.
///
/// ```
/// use tidegate::{Identity, Source};
///
/// # #[derive(Clone)] struct User { id: u64 }
/// // An API key, else the address.
/// let source = Source::api_key_header("x-api-key").or(Source::address().ipv6_prefix(56));
/// // The user whom an authentication layer left in the request's extensions.
/// let source = Source::extension(|user: &User| Identity::name(user.id.to_string())).or_refuse();
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Source {
    identify: Identify,
    mistakes: Vec<Mistake>,
}

impl Source {
    /// The client's address: the peer's, or behind the policy's [`TrustedProxies`](crate::TrustedProxies) the one
    /// that they forward for.
    ///
    /// IPv4 addresses count singly, IPv6 addresses by their first 64 bits.
    pub fn address() -> Self {
        Self::new(Step::Address(Prefixes::default()))
    }

    /// The address of the TCP peer, even where that is a proxy.
    pub fn peer() -> Self {
        Self::new(Step::Peer(Prefixes::default()))
    }

    /// The token in `Authorization: Bearer`; other schemes are absent.
    pub fn bearer() -> Self {
        Self::new(Step::Bearer)
    }

    /// An API key in a header.
    pub fn api_key_header(name: &str) -> Self {
        Self::named(name, header_name(name).map(Step::ApiKeyHeader))
    }

    /// An API key in a query parameter, form-decoded. Mind that URLs end up in logs.
    pub fn api_key_query(name: &str) -> Self {
        let step = if name.is_empty() { Err("a parameter's name is not empty") } else { Ok(()) };
        Self::named(name, step.map(|()| Step::ApiKeyQuery(name.into())))
    }

    /// An API key in a cookie, whose name is case-sensitive.
    pub fn api_key_cookie(name: &str) -> Self {
        let sound = !name.is_empty() && name.bytes().all(credential::is_token_byte);
        let step = if sound { Ok(()) } else { Err("a cookie's name is letters, digits and !#$%&'*+-.^_`|~") };
        Self::named(name, step.map(|()| Step::ApiKeyCookie(name.into())))
    }

    /// A header that names the client and is no secret, such as a tenant's id.
    ///
    /// Clients choose it freely, and with it a fresh quota, unless something before the limiter checks it. Give what
    /// comes before that check a limit by address. For addresses in `X-Forwarded-For` or `Forwarded` use
    /// [`address`](Self::address).
    pub fn header(name: &str) -> Self {
        let step = header_name(name).and_then(|header| match header.as_str() {
            "x-forwarded-for" | "forwarded" => {
                Err("any client can write an address there; use Source::address() and trusted proxies")
            }
            _ => Ok(Step::Header(header)),
        });
        Self::named(name, step)
    }

    /// What a value in the request's extensions says, such as the user whom an authentication layer left there.
    pub fn extension<T: Send + Sync + 'static>(
        f: impl for<'a> Fn(&'a T) -> Identity<'a> + Send + Sync + 'static,
    ) -> Self {
        Self::with(move |head| head.extensions().get::<T>().map(&f))
    }

    /// What `f` makes of the request's head; `None` where it does not know.
    ///
    /// For the client's address use [`address`](Self::address), which heeds the policy's trusted proxies; an address that
    /// `f` finds is taken as it is.
    pub fn with(f: impl for<'a> Fn(RequestHead<'a>) -> Option<Identity<'a>> + Send + Sync + 'static) -> Self {
        Self::new(Step::Dyn(Closure(Arc::new(f))))
    }

    /// Looks further in `next` where this source finds nothing.
    ///
    /// A malformed or repeated credential is not nothing: the request is rejected. The whole chain refuses if either
    /// part does.
    pub fn or(mut self, next: Self) -> Self {
        self.identify.steps.extend(next.identify.steps);
        self.identify.refuse |= next.identify.refuse;
        self.identify.registered |= next.identify.registered;
        self.mistakes.extend(next.mistakes);
        self
    }

    /// Counts the IPv4 addresses of this source by their first `bits` bits (1 to 32).
    pub fn ipv4_prefix(self, bits: u8) -> Self {
        self.prefix("ipv4_prefix", bits, 32, |prefixes| prefixes.ipv4 = bits)
    }

    /// Counts the IPv6 addresses of this source by their first `bits` bits (1 to 128).
    ///
    /// More than 64 lets a client have as many quotas as its network has addresses.
    pub fn ipv6_prefix(self, bits: u8) -> Self {
        self.prefix("ipv6_prefix", bits, 128, |prefixes| prefixes.ipv6 = bits)
    }

    /// Rejects requests that nothing identifies, with what the first source of the chain calls for: 401 for
    /// credentials, 400 for addresses and headers. Rules with other sources charge them all the same.
    pub fn or_refuse(mut self) -> Self {
        self.identify.refuse = true;
        self
    }

    /// Whom this source finds is a client of the limiter's [`Clients`](crate::Clients): by its id in a header or a name,
    /// or by an API key that was issued for it. However it is found, it is one client, and the same as
    /// [`Identity::name`] with its id.
    ///
    /// Addresses in the chain are not looked up. A request of a client that is disabled, or of one that is unknown where
    /// that is refused, gets a 401, and one with a malformed id a 400. Other rules charge it all the same: put one by
    /// [address](Self::address) before, and whoever guesses is refused. Where memory counts, it is not even looked up
    /// then, but for bans and for lists with names: while there are any, API keys are looked up before all rules.
    pub fn registered(mut self) -> Self {
        self.identify.registered = true;
        self
    }

    pub(crate) fn compile(&self, mistakes: &mut Vec<Mistake>) -> Identify {
        mistakes.extend_from_slice(&self.mistakes);
        self.identify.clone()
    }

    fn new(step: Step) -> Self {
        Self {
            identify: Identify { steps: vec![step], refuse: false, registered: false },
            mistakes: Vec::new(),
        }
    }

    fn named(name: &str, step: Result<Step, &str>) -> Self {
        step.map_or_else(
            |reason| Self {
                identify: Identify { steps: Vec::new(), refuse: false, registered: false },
                mistakes: vec![Mistake::Source { name: name.into(), reason: reason.into() }],
            },
            Self::new,
        )
    }

    fn prefix(mut self, setting: &'static str, bits: u8, most: u8, set: impl Fn(&mut Prefixes)) -> Self {
        let mut addresses = 0;
        for step in &mut self.identify.steps {
            if let Step::Address(prefixes) | Step::Peer(prefixes) = step {
                set(prefixes);
                addresses += 1;
            }
        }
        let reason = match bits {
            _ if addresses == 0 => "this source has no address; set it on Source::address()".into(),
            bits if bits == 0 || bits > most => format!("{bits} bits; 1 to {most} are accepted"),
            _ => return self,
        };
        self.mistakes.push(Mistake::Setting { setting, reason });
        self
    }
}

fn header_name(name: &str) -> Result<HeaderName, &'static str> {
    name.parse().map_err(|_| "a header's name is letters, digits and !#$%&'*+-.^_`|~")
}

/// A source whose names are checked.
#[derive(Debug, Clone)]
pub(crate) struct Identify {
    pub(super) steps: Vec<Step>,
    refuse: bool,
    /// Whether whom it finds is looked up in the registry.
    pub(crate) registered: bool,
}

/// By what a source knows somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Nothing,
    /// What would be a registered client's id.
    Id,
    Other,
}

impl Identify {
    /// The key of whom the source finds, and by what it finds anybody at all.
    #[inline(always)]
    pub(crate) fn key(
        &self,
        head: &RequestHead<'_>,
        proxies: Option<&Proxies>,
        keys: &Keys,
    ) -> Result<(Key, By), Rejection> {
        // Most requests are counted by their peer's address or an API key, and those take no detour.
        match (&*self.steps, proxies) {
            ([Step::Address(prefixes), ..], None) => {
                if let Some(ip) = peer(head) {
                    return Ok((prefixes.key(ip, keys), By::Other));
                }
            }
            ([Step::ApiKeyHeader(name), ..], _) => {
                if let Ok(Some(secret)) = credential::line(head.headers(), name) {
                    return Ok((value::secret_key(secret, keys), By::Other));
                }
            }
            _ => {}
        }
        self.key_of_identity(head, proxies, keys)
    }

    /// The query parameters that it takes API keys from.
    pub(crate) fn key_parameters(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match step {
            Step::ApiKeyQuery(name) => Some(&**name),
            _ => None,
        })
    }

    #[inline(never)]
    fn key_of_identity(
        &self,
        head: &RequestHead<'_>,
        proxies: Option<&Proxies>,
        keys: &Keys,
    ) -> Result<(Key, By), Rejection> {
        let identity = self.identify(*head, proxies)?;
        let by = match identity.claim() {
            Claim::Nobody => By::Nothing,
            Claim::Name(_) => By::Id,
            Claim::Address | Claim::Secret(_) => By::Other,
        };
        Ok((self.key_of(&identity, keys), by))
    }

    /// The key that somebody whom the source has found comes by.
    #[inline]
    pub(crate) fn key_of(&self, identity: &Identity<'_>, keys: &Keys) -> Key {
        if self.registered { identity.registered_key(keys) } else { identity.key(keys) }
    }

    pub(crate) fn identify<'a>(
        &'a self,
        head: RequestHead<'a>,
        proxies: Option<&Proxies>,
    ) -> Result<Identity<'a>, Rejection> {
        for step in &self.steps {
            if let Some(identity) = step.identify(head, proxies)? {
                return Ok(identity);
            }
        }
        match self.steps.first() {
            Some(first) if self.refuse => Err(first.missing()),
            _ => Ok(Identity::anonymous()),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Address(Prefixes),
    Peer(Prefixes),
    Bearer,
    ApiKeyHeader(HeaderName),
    ApiKeyQuery(Arc<str>),
    ApiKeyCookie(Arc<str>),
    Header(HeaderName),
    Dyn(Closure),
}

impl Step {
    fn identify<'a>(
        &'a self,
        head: RequestHead<'a>,
        proxies: Option<&Proxies>,
    ) -> Result<Option<Identity<'a>>, Rejection> {
        let (uri, headers) = (head.uri(), head.headers());
        let (extracted, malformed) = match self {
            Self::Address(prefixes) => {
                let client = client_address(&head, proxies)?;
                return Ok(client.map(|ip| Identity::from(prefixes.network(ip))));
            }
            Self::Peer(prefixes) => return Ok(peer(&head).map(|ip| Identity::from(prefixes.network(ip)))),
            Self::Dyn(Closure(f)) => return Ok(f(head)),
            Self::Header(name) => {
                let value =
                    credential::header(headers, name).map_err(|Malformed| Rejection::MalformedHeader)?;
                return Ok(value.map(|value| Identity::header_value(name, value)));
            }
            Self::Bearer => (credential::bearer(headers), Rejection::MalformedToken),
            Self::ApiKeyHeader(name) => (credential::header(headers, name), Rejection::MalformedApiKey),
            Self::ApiKeyQuery(name) => (credential::query(uri, name), Rejection::MalformedApiKey),
            Self::ApiKeyCookie(name) => (credential::cookie(headers, name), Rejection::MalformedApiKey),
        };
        Ok(extracted.map_err(|Malformed| malformed)?.map(Identity::secret))
    }

    const fn missing(&self) -> Rejection {
        match self {
            Self::Address(_) | Self::Peer(_) => Rejection::MissingAddress,
            Self::Bearer => Rejection::MissingToken,
            Self::ApiKeyHeader(_) | Self::ApiKeyQuery(_) | Self::ApiKeyCookie(_) => Rejection::MissingApiKey,
            Self::Header(_) => Rejection::MissingHeader,
            Self::Dyn(_) => Rejection::MissingLogin,
        }
    }
}

/// The client's address: behind the proxies if there are any, unmapped.
pub(crate) fn client_address(
    head: &RequestHead<'_>,
    proxies: Option<&Proxies>,
) -> Result<Option<IpAddr>, Rejection> {
    let peer = peer(head);
    proxies.map_or(Ok(peer), |proxies| proxies.client_address(peer, head.headers()))
}

/// How many bits of an address are one client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prefixes {
    ipv4: u8,
    ipv6: u8,
}

impl Default for Prefixes {
    fn default() -> Self {
        Self { ipv4: 32, ipv6: 64 }
    }
}

impl Prefixes {
    /// `ip` is unmapped already.
    #[inline(always)]
    fn network(self, ip: IpAddr) -> Network {
        match ip {
            IpAddr::V4(_) => Network::new(ip, self.ipv4),
            IpAddr::V6(_) => Network::new(ip, self.ipv6),
        }
    }

    #[inline(always)]
    fn key(self, ip: IpAddr, keys: &Keys) -> Key {
        match ip {
            IpAddr::V4(_) => Network::new(ip, self.ipv4).key(keys),
            IpAddr::V6(_) => Network::new(ip, self.ipv6).key(keys),
        }
    }
}

#[derive(Clone)]
pub(super) struct Closure(Arc<dyn for<'a> Fn(RequestHead<'a>) -> Option<Identity<'a>> + Send + Sync>);

impl fmt::Debug for Closure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}
