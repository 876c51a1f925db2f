use super::super::kinds::{HashKey, Period, Secret, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{borrow::Cow, fmt};

/// Where and how requests are counted.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct StoreSection {
    /// How many bytes counting may take; 4 MiB unless set. They are taken at the start, 32 for each limit of each client.
    pub(in super::super) memory: Option<Size>,
    /// The secret of the keyed hash that clients become: 32 hexadecimal digits, the same on all instances that share a store;
    /// random unless set, which is right for counting in memory.
    pub(in super::super) secret: Option<HashSecret>,
    /// How many clients and limits on concurrency may have requests running or waiting at the same time, up to 16,777,216;
    /// 16,384 unless set. Each takes about 50 bytes where a rule has such limits.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub(in super::super) max_in_flight: Option<u32>,
    /// How many requests may wait for permits at the same time, of all clients, up to 16,777,216; 1,024 unless set.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub(in super::super) max_waiting: Option<u32>,
    /// Writes client addresses into logs and events as they are, instead of fingerprints; false unless set.
    pub(in super::super) plain_addresses: bool,
    /// Counts in Redis (6 or newer) or Valkey (7 or newer), together with all other instances that count there.
    pub(in super::super) redis: Option<RedisSection>,
}

/// How to reach Redis, and how long to wait for it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct RedisSection {
    /// The server: `redis://host:6379/0`, `rediss://host` through TLS, or `redis+unix:///path/to/socket`. Either this or `sentinels` is needed.
    pub(in super::super) url: Option<Secret>,
    /// The sentinels that know the primary.
    pub(in super::super) sentinels: Option<SentinelsSection>,
    /// The user of the server; the server's default one unless set.
    pub(in super::super) username: Option<String>,
    /// The password of the server; none unless set.
    pub(in super::super) password: Option<Secret>,
    /// What the names of all keys begin with, up to 64 printable ASCII characters without braces; `tg:` unless set.
    pub(in super::super) prefix: Option<String>,
    /// How long a request waits for an answer, from 1 ms to 60 s; 20 ms unless set.
    pub(in super::super) deadline: Option<Period>,
    /// How long one try to connect may take, from 1 ms to 60 s; 1 s unless set.
    pub(in super::super) connect_timeout: Option<Period>,
    /// The pause after the first try to connect that fails, from 1 ms to 60 s; 50 ms unless set. Pauses double.
    pub(in super::super) first_pause: Option<Period>,
    /// The longest pause between tries to connect, from 1 ms to 60 s; 2 s unless set.
    pub(in super::super) longest_pause: Option<Period>,
    /// So many calls in a row that fail open the breaker, at least 1; 5 unless set.
    #[schemars(range(min = 1))]
    pub(in super::super) failures: Option<u32>,
    /// How long a client that was refused may be refused again without asking Redis, up to 10 s; 1 s unless set.
    pub(in super::super) known_refusals: Option<Period>,
    /// How long the permits of an instance that has died stay taken, from 3 s to 10 min, the same on all instances; 10 s unless
    /// set.
    pub(in super::super) permit_life: Option<Period>,
    /// A file with the certificates to trust instead of the system's, in PEM; for URLs that begin with `rediss://`.
    pub(in super::super) root_certificates: Option<String>,
    /// A file with what to show to servers that ask for a certificate, in PEM; none unless set.
    pub(in super::super) client_certificate: Option<String>,
    /// The file with its key, in PEM.
    pub(in super::super) client_key: Option<String>,
    /// How many connections requests are spread over, from 1 to 64; 1 unless set.
    #[schemars(range(min = 1, max = 64))]
    pub(in super::super) connections: Option<u32>,
}

/// The sentinels that know the primary of a name.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct SentinelsSection {
    /// The name of the primary.
    pub(in super::super) name: String,
    /// The sentinels: `redis://host:26379` each.
    #[schemars(length(min = 1))]
    pub(in super::super) urls: Vec<Secret>,
}

/// The secret of a hash, which is not shown.
#[derive(Clone, PartialEq)]
pub(in super::super) struct HashSecret(pub(in super::super) HashKey);

impl fmt::Debug for HashSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<'de> Deserialize<'de> for HashSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        HashKey::deserialize(deserializer).map(Self).map_err(D::Error::custom)
    }
}

impl JsonSchema for HashSecret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "HashSecret".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut schema = HashKey::json_schema(generator);
        schema.insert("writeOnly".into(), true.into());
        schema
    }
}

#[cfg(feature = "redis")]
impl RedisSection {
    pub(in super::super) fn build(&self) -> Result<crate::RedisStore, crate::BuildError> {
        use crate::RedisStore;
        use std::time::Duration;

        let mut builder = match (&self.sentinels, &self.url) {
            (Some(sentinels), _) => {
                RedisStore::sentinels(&sentinels.name, sentinels.urls.iter().map(Secret::expose))
            }
            (None, url) => RedisStore::builder(url.as_ref().map(Secret::expose).unwrap_or_default()),
        };
        if let Some(username) = &self.username {
            builder = builder.username(username);
        }
        if let Some(password) = &self.password {
            builder = builder.password(password.expose());
        }
        if let Some(prefix) = &self.prefix {
            builder = builder.prefix(prefix);
        }
        if let Some(Period(time)) = self.deadline {
            builder = builder.deadline(time);
        }
        if let Some(Period(time)) = self.connect_timeout {
            builder = builder.connect_timeout(time);
        }
        if self.first_pause.is_some() || self.longest_pause.is_some() {
            let pause = |period: Option<Period>, usual| {
                period.map_or(Duration::from_millis(usual), |period| period.0)
            };
            builder = builder.backoff(pause(self.first_pause, 50), pause(self.longest_pause, 2_000));
        }
        if let Some(calls) = self.failures {
            builder = builder.failures(calls);
        }
        if let Some(Period(time)) = self.known_refusals {
            builder = builder.known_refusals(time);
        }
        if let Some(Period(time)) = self.permit_life {
            builder = builder.permit_life(time);
        }
        if let Some(number) = self.connections {
            builder = builder.connections(number as usize);
        }
        self.certified(builder)?.build()
    }

    #[cfg(feature = "redis-tls")]
    fn certified(&self, mut builder: crate::RedisBuilder) -> Result<crate::RedisBuilder, crate::BuildError> {
        let read = |setting, path: &String| {
            std::fs::read(path).map_err(|error| wrong(setting, format!("{path:?} cannot be read ({error})")))
        };
        if let Some(roots) = &self.root_certificates {
            builder = builder.root_certificates(read("root_certificates", roots)?);
        }
        match (&self.client_certificate, &self.client_key) {
            (Some(certificate), Some(key)) => Ok(builder
                .client_certificate(read("client_certificate", certificate)?, read("client_key", key)?)),
            (None, None) => Ok(builder),
            _ => {
                Err(wrong("client_certificate", "a certificate and its key go together; set both".to_owned()))
            }
        }
    }

    #[cfg(not(feature = "redis-tls"))]
    fn certified(&self, builder: crate::RedisBuilder) -> Result<crate::RedisBuilder, crate::BuildError> {
        let files = [&self.root_certificates, &self.client_certificate, &self.client_key];
        if files.iter().all(|file| file.is_none()) {
            return Ok(builder);
        }
        let reason = "this program was built without TLS to Redis; turn on tidegate's feature `redis-tls`";
        Err(wrong("root_certificates", reason.to_owned()))
    }
}

#[cfg(feature = "redis")]
fn wrong(setting: &'static str, reason: String) -> crate::BuildError {
    crate::BuildError::one(crate::Mistake::Setting { setting, reason })
}
