//! What the keys in Redis are called.

use crate::Place;

/// Names keys: a prefix, and then letters and digits alone, whatever clients call themselves.
///
/// What is counted for a client is `prefix{crowd}clientlimit`, and for all of them `prefix{limit}`. The braces are Redis
/// Cluster's hash tag: all limits of a client, on all routes, lie on one node. With the default prefix a name has 29 bytes,
/// which take 32 of Redis's memory; with one letter more it would be 40.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

/// The digits that six bits are written in.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Digits of a client: 96 bits, of which two live clients out of a billion share all with odds of 2^-37. The first ones are
/// its crowd.
const CROWD: u32 = 4;
const CLIENT: u32 = 12;
/// Digits of a limit: 48 bits, because a policy has few.
const LIMIT: u32 = 8;

impl Names {
    pub(super) const fn new(prefix: String) -> Self {
        Self { prefix }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where a limit is counted at a place.
    pub(super) fn at(&self, place: Place, limit: u64) -> Vec<u8> {
        let mut name = Vec::with_capacity(self.prefix.len() + (CROWD + CLIENT + LIMIT) as usize + 2);
        name.extend_from_slice(self.prefix.as_bytes());
        name.push(b'{');
        let limit = u128::from(limit) << 64;
        match place {
            Place::Client(key) => {
                spell(&mut name, u128::from(key.crowd()) << 104, CROWD);
                name.push(b'}');
                // What is not in the crowd: 40 bits, and of the other half the first 32.
                spell(&mut name, u128::from(key.hi >> 24) << 88 | u128::from(key.lo) << 24, CLIENT);
                spell(&mut name, limit, LIMIT);
            }
            Place::Shared(_) => {
                spell(&mut name, limit, LIMIT);
                name.push(b'}');
            }
        }
        name
    }

    /// Where the fingerprint of the secret is.
    pub(super) fn secret(&self) -> String {
        format!("{}secret", self.prefix)
    }

    /// Where the fingerprint of the former secret is, while it is still counted by.
    pub(super) fn former_secret(&self) -> String {
        format!("{0}former{{{0}secret}}", self.prefix)
    }

    /// Where instances say that they live. The hash tag lays it beside the fingerprint.
    pub(super) fn instances(&self) -> String {
        format!("{0}instances{{{0}secret}}", self.prefix)
    }
}

/// Writes the highest bits of a number, six for each digit.
fn spell(name: &mut Vec<u8>, bits: u128, digits: u32) {
    // Six bits are a digit's number.
    name.extend((1..=digits).map(|digit| DIGITS[(bits >> (128 - 6 * digit) & 63) as usize]));
}
