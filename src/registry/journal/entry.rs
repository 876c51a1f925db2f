//! Changes as bytes, and back.

use super::super::{ClientRecord, Tiers};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use std::{borrow::Cow, hash::Hasher as _};

/// What a journal begins with.
pub(super) const MAGIC: &[u8; 16] = b"tidegate journa1";

/// Magic, the number of the first change, and a sum over both.
pub(super) const START: usize = 16 + 8 + 8;

pub(super) fn start(number: u64) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &number.to_le_bytes()].concat();
    let sum = sum(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// The number of the first change, if the start is whole.
pub(super) fn read_start(bytes: &[u8]) -> Option<u64> {
    let field =
        |at: usize| bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let whole = bytes.starts_with(MAGIC) && field(24)? == sum(&bytes[..24]);
    field(16).filter(|_| whole)
}

/// A change that is kept, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "most are of the largest kind")]
pub(in super::super) enum Entry<'a> {
    Client(Cow<'a, ClientRecord>),
    Deleted(Cow<'a, str>),
    Tiers(Cow<'a, Tiers>),
}

/// Length and number of an entry, and a sum over both: without it a damaged length would look like an entry that was not
/// written to its end.
const HEAD: usize = 4 + 8 + 8;
const SUM: usize = 8;

/// Adds an entry: head, text, and a sum over all of it.
pub(super) fn push(out: &mut Vec<u8>, number: u64, entry: &Entry<'_>) -> Result<(), serde_json::Error> {
    let start = out.len();
    out.resize(start + HEAD, 0);
    if let Err(error) = serde_json::to_writer(&mut *out, entry) {
        out.truncate(start);
        return Err(error);
    }
    // Records are far smaller than 4 GiB.
    let length = u32::try_from(out.len() - start - HEAD).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 12].copy_from_slice(&number.to_le_bytes());
    let head = sum(&out[start..start + 12]);
    out[start + 12..start + HEAD].copy_from_slice(&head.to_le_bytes());
    let whole = sum(&out[start..]);
    out.extend_from_slice(&whole.to_le_bytes());
    Ok(())
}

/// What stands at the beginning of some bytes.
#[allow(clippy::large_enum_variant, reason = "all but the last are of the largest kind")]
pub(super) enum Read<'a> {
    Entry {
        entry: Entry<'a>,
        length: usize,
    },
    /// They end within an entry, which nobody was told is kept.
    Torn,
    Damaged,
}

pub(super) fn read(bytes: &[u8], number: u64) -> Read<'_> {
    // Where a machine went down while it wrote, a file may end in zeros.
    if bytes.len() < HEAD || bytes.iter().all(|byte| *byte == 0) {
        return Read::Torn;
    }
    let field =
        |at: usize| bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let length = bytes.get(..4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let (Some(length), true, true) = (length, field(4) == Some(number), field(12) == Some(sum(&bytes[..12])))
    else {
        return Read::Damaged;
    };
    let end = HEAD + length as usize;
    let Some(whole) = field(end) else { return Read::Torn };
    match serde_json::from_slice(&bytes[HEAD..end]) {
        Ok(entry) if whole == sum(&bytes[..end]) => Read::Entry { entry, length: end + SUM },
        _ => Read::Damaged,
    }
}

/// Finds any damage that comes by chance; it is no protection against forgery.
fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}
