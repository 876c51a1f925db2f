//! Fixed-size names: what a store counts by.

use siphasher::sip128::{Hash128, Hasher128, SipHasher13};
use std::{
    fmt,
    hash::{Hash, Hasher},
};

/// The fixed-size form of an identity, made with the limiter's secret.
///
/// Two identities share a key with odds of 2^-128, and nobody without the secret can aim at a key.
#[derive(Clone, Copy, Default)]
pub struct Key {
    pub(crate) hi: u64,
    pub(crate) lo: u64,
    /// Both halves by the former secret, while a shared store changes to another one; else nought.
    #[cfg(feature = "redis")]
    former: [u64; 2],
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.hi == other.hi && self.lo == other.lo
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hi.hash(state);
        self.lo.hash(state);
    }
}

/// Neither the bits by which the table in memory chooses a place, nor those of `lo`, which it tells keys apart by.
const CROWD: u64 = 0x00FF_FFFF;

impl Key {
    /// The key of a pair, such as a client and a route.
    ///
    /// Both halves come from one keyed hash, so pairs collide no oftener than keys do. The [crowd](Self::crowd) stays the
    /// first one's.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            hi: self.hi ^ (other.hi & !CROWD),
            lo: self.lo ^ other.lo,
            #[cfg(feature = "redis")]
            former: [self.former[0] ^ (other.former[0] & !CROWD), self.former[1] ^ other.former[1]],
        }
    }

    pub(crate) const fn new(hi: u64, lo: u64) -> Self {
        Self {
            hi,
            lo,
            #[cfg(feature = "redis")]
            former: [0; 2],
        }
    }

    /// The key by the former secret, if there is one.
    #[cfg(feature = "redis")]
    pub(crate) const fn former(self) -> Option<Self> {
        match self.former {
            [0, 0] => None,
            [hi, lo] => Some(Self::new(hi, lo)),
        }
    }

    /// What all keys of one client have in common, whatever they were paired with: 24 bits, by which its counts can be laid
    /// together.
    pub const fn crowd(self) -> u32 {
        (self.hi & CROWD) as u32
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
    Secret = 1,
    Header = 2,
    Name = 3,
    Anonymous = 4,
    Route = 5,
    Limit = 6,
    Mix = 7,
    Permit = 8,
    /// The one client that all unknown ones share.
    Unknown = 9,
}

/// The limiter's secret, and the two ways in which it makes keys.
#[derive(Clone)]
pub(crate) struct Keys {
    hasher: SipHasher13,
    mix: [u64; 4],
    #[cfg(feature = "redis")]
    former: Option<Box<Keys>>,
}

impl Keys {
    pub(crate) fn new(secret: [u8; 16]) -> Self {
        let hasher = SipHasher13::new_with_key(&secret);
        let [a, b] = [0, 1].map(|number| hash(&hasher, Material::Mix, &[&[number]]));
        Self {
            hasher,
            mix: [a.hi, a.lo, b.hi, b.lo],
            #[cfg(feature = "redis")]
            former: None,
        }
    }

    /// Makes all keys by a former secret too.
    #[cfg(feature = "redis")]
    pub(crate) fn with_former(self, former: Option<Self>) -> Self {
        Self { former: former.map(Box::new), ..self }
    }

    #[cfg(feature = "redis")]
    fn both(&self, key: Key, former: impl FnOnce(&Self) -> Key) -> Key {
        match &self.former {
            None => key,
            Some(keys) => {
                let Key { hi, lo, .. } = former(keys);
                Key { former: [hi, lo], ..key }
            }
        }
    }

    #[cfg(not(feature = "redis"))]
    #[inline(always)]
    fn both(&self, key: Key, _: impl FnOnce(&Self) -> Key) -> Key {
        key
    }

    /// The key of typed, length-prefixed parts, by SipHash-1-3 with 128 bits: no two lists of parts read alike.
    pub(crate) fn key(&self, material: Material, parts: &[&[u8]]) -> Key {
        self.both(hash(&self.hasher, material, parts), |former| former.key(material, parts))
    }

    /// The key of an address or network: `kind` is its family and prefix length.
    ///
    /// Most requests are counted by address, so this is made to be faster than SipHash: four Feistel rounds of folded
    /// multiplication with secret words. Rounds can be undone, so no two addresses of a kind share a key. It is no
    /// cryptographic hash, and need not be one: keys are not shown to clients, and aiming at a place in the table would
    /// only evict those in it that owe least.
    #[inline(always)]
    pub(crate) fn address(&self, kind: u16, bits: u128) -> Key {
        let [a, b, c, d] = self.mix;
        let (mut hi, mut lo) = ((bits >> 64) as u64, bits as u64);
        lo ^= fold(hi ^ u64::from(kind) ^ a, b);
        hi ^= fold(lo ^ c, d ^ u64::from(kind) << 32);
        lo ^= fold(hi ^ b, c);
        hi ^= fold(lo ^ d, a);
        self.both(Key::new(hi, lo), |former| former.address(kind, bits))
    }
}

fn hash(hasher: &SipHasher13, material: Material, parts: &[&[u8]]) -> Key {
    // Nearly all material is short, and hashed in one piece that takes half the time.
    let (mut space, mut len, mut fits) = ([0; 128], 0, true);
    spell(material, parts, |piece| match space.get_mut(len..len + piece.len()) {
        Some(place) => {
            place.copy_from_slice(piece);
            len += piece.len();
        }
        None => fits = false,
    });
    let hash = match space.get(..len) {
        Some(whole) if fits => hasher.hash(whole),
        _ => in_pieces(*hasher, material, parts),
    };
    Key::new(hash.h1, hash.h2)
}

fn in_pieces(mut hasher: SipHasher13, material: Material, parts: &[&[u8]]) -> Hash128 {
    spell(material, parts, |piece| hasher.write(piece));
    hasher.finish128()
}

/// The bytes that are hashed.
fn spell(material: Material, parts: &[&[u8]], mut put: impl FnMut(&[u8])) {
    put(&[material as u8]);
    for part in parts {
        put(&(part.len() as u64).to_le_bytes());
        put(part);
    }
}

/// Both halves of a product, one laid over the other.
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn material_is_hashed_alike_in_one_piece_and_in_several() {
        let hasher = SipHasher13::new_with_key(&[7; 16]);
        for len in 0..300 {
            let long: Vec<u8> = (0..len).map(|n| n as u8).collect();
            for parts in [&[&*long][..], &[&long, b"x"], &[b"", &long]] {
                let Hash128 { h1, h2 } = in_pieces(hasher, Material::Secret, parts);
                assert_eq!(hash(&hasher, Material::Secret, parts), Key::new(h1, h2));
            }
        }
    }

    /// Neighbouring addresses must not lie together: each output bit flips with each input bit about every other time.
    #[test]
    fn address_keys_are_spread() {
        let keys = Keys::new(*b"0123456789abcdef");
        let mut flips = [[0u32; 128]; 128];
        let bits_of = |key: Key| (u128::from(key.hi) << 64) | u128::from(key.lo);
        for n in 0..1_000u128 {
            // Half of them as IPv4 addresses are, one after the other.
            let address =
                if n % 2 == 0 { n } else { n.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835) };
            let key = bits_of(keys.address(0x0640, address));
            for (input, flips) in flips.iter_mut().enumerate() {
                let flipped = key ^ bits_of(keys.address(0x0640, address ^ 1 << input));
                for (output, count) in flips.iter_mut().enumerate() {
                    *count += (flipped >> output & 1) as u32;
                }
            }
        }
        for count in flips.iter().flatten() {
            assert!((350..650).contains(count), "{count} of 1000");
        }
    }

    #[test]
    fn kinds_and_secrets_make_other_keys() {
        let mut seen = HashSet::new();
        for secret in [[0; 16], [1; 16]] {
            let keys = Keys::new(secret);
            for kind in [0x0420, 0x0418, 0x0640] {
                for address in 0..1_000u128 {
                    assert!(seen.insert(keys.address(kind, address)), "{secret:?} {kind:x} {address}");
                    assert!(seen.insert(keys.address(kind, address << 96)) || address == 0);
                }
            }
        }
    }
}
