//! Fixed-size names: what a store counts by.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::{fmt, hash::Hasher as _};

/// The fixed-size form of an identity, made with the limiter's secret.
///
/// Two identities share a key with odds of 2^-128, and nobody without the secret can aim at a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub(crate) hi: u64,
    pub(crate) lo: u64,
}

impl Key {
    /// The key of a pair, such as a client and a route.
    ///
    /// Both halves come from one keyed hash, so pairs collide no oftener than keys do.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self { hi: self.hi ^ other.hi, lo: self.lo ^ other.lo }
    }

    /// The key as bytes, for stores that name it.
    pub const fn to_bytes(self) -> [u8; 16] {
        ((self.hi as u128) << 64 | self.lo as u128).to_be_bytes()
    }

    /// Eight hexadecimal digits by which logs can tell clients apart and nobody can find out who they are.
    pub(crate) const fn fingerprint(self) -> u32 {
        (self.lo >> 32) as u32
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:08x}..)", self.fingerprint())
    }
}

/// What a key is made from; kinds never share a key, whatever their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Material {
    Address = 1,
    Secret = 2,
    Header = 3,
    Name = 4,
    Anonymous = 5,
    Route = 6,
    Limit = 7,
}

/// The limiter's secret and the keyed hash (SipHash-1-3, 128 bits) that makes keys with it.
#[derive(Clone)]
pub(crate) struct Keys {
    hasher: SipHasher13,
}

impl Keys {
    pub(crate) fn new(secret: [u8; 16]) -> Self {
        Self { hasher: SipHasher13::new_with_key(&secret) }
    }

    /// The key of typed, length-prefixed parts: no two lists of parts read alike.
    pub(crate) fn key(&self, material: Material, parts: &[&[u8]]) -> Key {
        let mut hasher = self.hasher;
        hasher.write_u8(material as u8);
        for part in parts {
            hasher.write_u64(part.len() as u64);
            hasher.write(part);
        }
        let hash = hasher.finish128();
        Key { hi: hash.h1, lo: hash.h2 }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}
