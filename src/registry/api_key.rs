//! Secrets that name a client. Of a secret only its hash is kept.

use super::{RegistryError, time::serde_rfc3339};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use sha2::{Digest, Sha256};
use std::{fmt, time::SystemTime};

/// The SHA-256 of an API key. Keys have 256 random bits, so that nothing slower is needed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a secret.
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    #[cfg(feature = "admin")]
    pub(crate) const fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash as bytes, to find a client by.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        from_hex(&text).map(Self).ok_or_else(|| D::Error::custom("a hash has 64 hexadecimal digits"))
    }
}

/// The bytes of 64 hexadecimal digits.
pub(crate) fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (number, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * number..2 * number + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// An API key as a record keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredKey {
    pub(super) prefix: String,
    pub(super) hash: KeyHash,
    #[serde(with = "serde_rfc3339")]
    pub(super) created_at: SystemTime,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "serde_rfc3339::option")]
    pub(super) expires_at: Option<SystemTime>,
}

impl StoredKey {
    pub(crate) fn is_live(&self, now: SystemTime) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    pub(super) fn shown(&self) -> ApiKey {
        ApiKey { prefix: self.prefix.clone(), created_at: self.created_at, expires_at: self.expires_at }
    }
}

/// An API key as it is listed: by its first characters, which are no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    prefix: String,
    created_at: SystemTime,
    expires_at: Option<SystemTime>,
}

impl ApiKey {
    /// The first characters, which stand for the key: `tg_1a2b3c4d`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// When it was issued.
    pub const fn created_at(&self) -> SystemTime {
        self.created_at
    }

    /// When it ends; keys that were rotated do.
    pub const fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }
}

/// A key that was just issued. This is the only time that it can be seen.
#[derive(Clone)]
pub struct IssuedKey {
    secret: String,
    stored: StoredKey,
}

impl IssuedKey {
    /// A key of 256 random bits.
    pub(super) fn new(now: SystemTime) -> Result<Self, RegistryError> {
        let mut bytes = [0; 36];
        getrandom::fill(&mut bytes).map_err(|error| {
            RegistryError::unavailable(format!("the system gave no random bytes ({error})"))
        })?;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let (name, rest) = hex.split_at(8);
        let prefix = format!("tg_{name}");
        let secret = format!("{prefix}_{rest}");
        let hash = KeyHash::of(secret.as_bytes());
        Ok(Self { secret, stored: StoredKey { prefix, hash, created_at: now, expires_at: None } })
    }

    /// The whole key, to be handed to the client.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// How it is listed.
    pub fn key(&self) -> ApiKey {
        self.stored.shown()
    }

    pub(super) fn stored(&self) -> StoredKey {
        self.stored.clone()
    }
}

/// Without the secret.
impl fmt::Debug for IssuedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedKey").field("prefix", &self.stored.prefix).finish_non_exhaustive()
    }
}
