//! How to reach Redis, and how long to wait for it.

use super::{
    RedisRegistry, RedisStore, access::Access, link::Link, names::Names, servers::Servers, timing::Timing,
};
use crate::{BuildError, ManualClock, Mistake, Tiers};
use std::{fmt, ops::RangeInclusive, time::Duration};
use tokio::runtime::Handle;

/// Settings of a [`RedisStore`] before it is built.
#[must_use]
pub struct RedisBuilder {
    address: Address,
    access: Access,
    prefix: String,
    pub(super) timing: Timing,
    connections: usize,
    clock: Option<ManualClock>,
}

/// Where Redis is, as it was told.
#[derive(Clone)]
pub(super) enum Address {
    Url(String),
    Sentinels { name: String, urls: Vec<String> },
    Cluster { urls: Vec<String> },
}

const LONGEST: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST_KNOWN: Duration = Duration::from_secs(10);
const PERMIT_LIFE: RangeInclusive<Duration> = Duration::from_secs(3)..=Duration::from_secs(600);
const KEEP: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
const MOST_CONNECTIONS: usize = 64;
const LONGEST_PREFIX: usize = 64;

impl RedisBuilder {
    pub(super) fn new(address: Address) -> Self {
        let timing = Timing::default();
        Self {
            address,
            access: Access::default(),
            prefix: "tg:".to_owned(),
            timing,
            connections: 1,
            clock: None,
        }
    }

    /// The user of the server, so that it need not stand in the URL; the server's default one unless set.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.access.username = Some(username.into());
        self
    }

    /// The password of the server, so that it need not stand in the URL; none unless set. Sentinels have those of their
    /// URLs.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.access.password = Some(password.into());
        self
    }

    /// Whom to trust instead of the system's certificates, in PEM; for URLs that begin with `rediss://`, of sentinels too.
    #[cfg(feature = "redis-tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis-tls")))]
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.access.certificates.roots = Some(pem.into());
        self
    }

    /// What to show to servers that ask for a certificate, and its key, in PEM; none unless set.
    #[cfg(feature = "redis-tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis-tls")))]
    pub fn client_certificate(mut self, pem: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.access.certificates.own = Some((pem.into(), key.into()));
        self
    }

    /// What the names of all keys begin with, up to 64 printable ASCII characters without braces; `tg:` unless set.
    ///
    /// Limiters whose prefixes differ share nothing. Each character takes a byte of Redis's memory for every client and
    /// limit, and the fourth takes eight.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long a request waits for an answer, from 1 ms to 60 s; 20 ms unless set. After that it is what the limits say
    /// for a [store that is down](crate::StoreDown), and counts as charged.
    pub fn deadline(mut self, time: Duration) -> Self {
        self.timing.deadline = time;
        self
    }

    /// How long one try to connect may take, from 1 ms to 60 s; 1 s unless set. No request waits for it.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.timing.connect = time;
        self
    }

    /// The pause after the first try to connect that fails and the longest one, each from 1 ms to 60 s; 50 ms and 2 s
    /// unless set. Pauses double from one to the other, and each is cut short by up to half at random.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.timing.backoff = (first, longest);
        self
    }

    /// So many calls in a row that fail, from 1 on, open the breaker; 5 unless set. While it is open no request asks
    /// Redis or waits for it, until a probe is answered within the deadline.
    pub fn failures(mut self, calls: u32) -> Self {
        self.timing.failures = calls;
        self
    }

    /// How long a client that was refused may be refused again without asking Redis, up to 10 s, and not at all with zero;
    /// 1 s unless set, and never more than 50 ms at limits that are given back to.
    ///
    /// Nobody is refused who would not be by Redis, as long as it is this instance that gives back, resets and changes
    /// quotas. What others do is seen after this time at the latest.
    pub fn known_refusals(mut self, time: Duration) -> Self {
        self.timing.refusals = time;
        self
    }

    /// How long what is known of a registry's clients is good for while Redis is away, from 1 s to a day; 10 min unless set. After
    /// that they cannot be looked up either, which is a 503.
    pub fn keep_clients(mut self, time: Duration) -> Self {
        self.timing.keep = time;
        self
    }

    /// How long the permits of an instance that has died stay taken, from 3 s to 10 min; 10 s unless set. An instance that is
    /// cut off for longer may find that others were given its permits: see [`RedisStatus`](crate::RedisStatus). All instances
    /// need the same.
    pub fn permit_life(mut self, time: Duration) -> Self {
        self.timing.permit_life = time;
        self
    }

    /// How many connections requests are spread over, from 1 to 64; 1 unless set. One carried 75,000 to 115,000 calls a
    /// second where that was measured, by `scripts/bench redis`.
    pub fn connections(mut self, number: usize) -> Self {
        self.connections = number;
        self
    }

    /// Counts by a clock that only moves when it is told to, instead of Redis's: for tests alone. All who count under one
    /// prefix need clones of one clock.
    pub fn clock(mut self, clock: ManualClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Checks the settings. Connecting begins with the limiter that counts in the store, and does not hold it up.
    ///
    /// # Errors
    ///
    /// If a setting has a mistake; the error names all of them.
    pub fn build(self) -> Result<RedisStore, BuildError> {
        let (servers, Self { address, access, prefix, timing, connections, clock, .. }) = self.checked()?;
        let herald = address.servers(Access { hears: true, ..access });
        let herald = herald.map_err(|reason| BuildError::one(Mistake::Setting { setting: "url", reason }))?;
        let link = Link::new(servers, Names::new(prefix), timing, connections, clock);
        Ok(RedisStore::of(link, herald))
    }

    /// A registry of clients, under the same prefix unless another one is set, and begins to connect. `tiers` are in force as
    /// long as none were set. It is kept by one server, or by those that sentinels know, and not by a cluster.
    ///
    /// Of the settings it goes by those of how the server is reached and named: URL, login and certificates, `prefix`,
    /// `deadline`, `connect_timeout`, `backoff`, `failures` and `keep_clients`.
    ///
    /// # Errors
    ///
    /// If a setting has a mistake, or there is no tokio runtime; the error names all mistakes.
    pub fn registry(mut self, tiers: Tiers) -> Result<RedisRegistry, BuildError> {
        self.access.hears = true;
        let (servers, Self { prefix, timing, .. }) = self.checked()?;
        if servers.are_cluster() {
            let reason = "a registry is kept by one server; name one, or sentinels".to_owned();
            return Err(BuildError::one(Mistake::Setting { setting: "url", reason }));
        }
        let Ok(runtime) = Handle::try_current() else {
            let reason = "Redis is reached by tokio; build the registry within its runtime".to_owned();
            return Err(BuildError::one(Mistake::Setting { setting: "registry", reason }));
        };
        Ok(RedisRegistry::new(servers, &prefix, timing, tiers, runtime))
    }

    /// The servers, if no setting has a mistake.
    fn checked(self) -> Result<(Servers, Self), BuildError> {
        let mut mistakes = Vec::new();
        let mut wrong = |setting, reason: String| mistakes.push(Mistake::Setting { setting, reason });
        let Timing { deadline, connect, backoff, failures, refusals, keep, permit_life } = self.timing;
        let times = [
            ("deadline", deadline),
            ("connect_timeout", connect),
            ("backoff", backoff.0),
            ("backoff", backoff.1),
        ];
        for (setting, time) in times {
            if !(SHORTEST..=LONGEST).contains(&time) {
                wrong(setting, format!("{time:?} is out of range; 1 ms to 60 s is accepted"));
            }
        }
        if backoff.0 > backoff.1 {
            wrong(
                "backoff",
                format!("the first pause, {:?}, is longer than the longest, {:?}", backoff.0, backoff.1),
            );
        }
        if refusals > LONGEST_KNOWN {
            wrong("known_refusals", format!("{refusals:?} is out of range; up to 10 s is accepted"));
        }
        if !PERMIT_LIFE.contains(&permit_life) {
            wrong("permit_life", format!("{permit_life:?} is out of range; 3 s to 10 min is accepted"));
        }
        if !KEEP.contains(&keep) {
            wrong("keep_clients", format!("{keep:?} is out of range; 1 s to 1 d is accepted"));
        }
        if failures == 0 {
            wrong("failures", "no call could fail; set 1 at least".to_owned());
        }
        in_range("connections", self.connections, 1..=MOST_CONNECTIONS, &mut wrong);
        let printable = |byte: u8| byte.is_ascii_graphic() && byte != b'{' && byte != b'}';
        if self.prefix.len() > LONGEST_PREFIX || !self.prefix.bytes().all(printable) {
            wrong(
                "prefix",
                format!(
                    "{:?} cannot begin a key; use up to 64 printable ASCII characters without braces",
                    self.prefix
                ),
            );
        }
        let servers = self.address.clone().servers(self.access.clone());
        match servers.map_err(|reason| wrong("url", reason)) {
            Ok(servers) if mistakes.is_empty() => Ok((servers, self)),
            _ => Err(BuildError::new(mistakes)),
        }
    }
}

impl Address {
    fn servers(self, access: Access) -> Result<Servers, String> {
        match self {
            Self::Url(url) => access.client(&url).map(Servers::One),
            Self::Sentinels { urls, .. } if urls.is_empty() => {
                Err("no sentinel is named; name one at least".to_owned())
            }
            Self::Sentinels { name, urls } => {
                let apart = Access { certificates: access.certificates.clone(), ..Access::default() };
                let sentinels: Vec<_> = urls.iter().map(|url| apart.client(url)).collect::<Result<_, _>>()?;
                Ok(Servers::Named { name, sentinels, access })
            }
            Self::Cluster { urls } if urls.is_empty() => {
                Err("no node of the cluster is named; name one at least".to_owned())
            }
            Self::Cluster { urls } => {
                let seeds: Vec<_> = urls.iter().map(|url| access.client(url)).collect::<Result<_, _>>()?;
                let info = seeds.first().map(|seed| seed.get_connection_info().redis_settings());
                if info.is_some_and(|info| info.db() != 0) {
                    return Err("a cluster has one database; leave the number out".to_owned());
                }
                // The others are entered as the first one is.
                let access = info.map_or_else(Access::default, |info| access.like(info));
                Ok(Servers::Cluster { seeds, access })
            }
        }
    }
}

fn in_range(
    setting: &'static str,
    number: usize,
    range: RangeInclusive<usize>,
    wrong: &mut impl FnMut(&'static str, String),
) {
    if !range.contains(&number) {
        wrong(setting, format!("{number} is out of range; {} to {} is accepted", range.start(), range.end()));
    }
}

impl fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBuilder")
            .field("prefix", &self.prefix)
            .field("timing", &self.timing)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
