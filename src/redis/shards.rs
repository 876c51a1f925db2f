//! Which node of a cluster has which keys.

use redis::{Cmd, Value};

/// The hash slots of Redis Cluster, and the number of the node that has each.
pub(super) struct Shards(Box<[u16]>);

/// So many hash slots has every cluster.
const SLOTS: usize = 16_384;
/// The number of no node.
const NOBODY: u16 = u16::MAX;

/// The nodes of a cluster, each a host and a port, and the ranges of hash slots that they have.
pub(super) struct Map {
    pub(super) nodes: Vec<(String, u16)>,
    ranges: Vec<(usize, usize, u16)>,
}

impl Shards {
    pub(super) fn new(map: &Map) -> Self {
        let mut slots = vec![NOBODY; SLOTS];
        for (first, last, node) in &map.ranges {
            slots.iter_mut().take(last + 1).skip(*first).for_each(|slot| *slot = *node);
        }
        Self(slots.into())
    }

    pub(super) fn node(&self, key: &[u8]) -> Option<usize> {
        self.0.get(usize::from(slot(key))).filter(|node| **node != NOBODY).map(|node| usize::from(*node))
    }
}

/// The hash slot of a key: a sum over what stands in its first braces, or over all of it.
pub(super) fn slot(key: &[u8]) -> u16 {
    let open = key.iter().position(|byte| *byte == b'{').map(|open| &key[open + 1..]);
    let tag = open.and_then(|rest| Some(&rest[..rest.iter().position(|byte| *byte == b'}')?]));
    crc16(tag.filter(|tag| !tag.is_empty()).unwrap_or(key)) % SLOTS as u16
}

/// CRC-16/XMODEM, as the cluster's specification has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << 8, |sum, _| sum << 1 ^ if sum >> 15 == 1 { 0x1021 } else { 0 })
    })
}

/// What asks for the map.
pub(super) fn question() -> Cmd {
    let mut command = Cmd::new();
    command.arg("CLUSTER").arg("SLOTS");
    command
}

impl Map {
    /// What a node answers. It may not know its own host, which is then the one that it was asked at.
    pub(super) fn read(answer: &Value, asked: &str) -> Option<Self> {
        let Value::Array(ranges) = answer else { return None };
        let mut map = Self { nodes: Vec::new(), ranges: Vec::new() };
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &range[..] else {
                return None;
            };
            let [host, Value::Int(port), ..] = &primary[..] else { return None };
            let host = match host {
                Value::BulkString(host) if !host.is_empty() => String::from_utf8_lossy(host).into_owned(),
                _ => asked.to_owned(),
            };
            let node = map.number((host, u16::try_from(*port).ok()?))?;
            map.ranges.push((usize::try_from(*first).ok()?, usize::try_from(*last).ok()?, node));
        }
        (!map.nodes.is_empty()).then_some(map)
    }

    fn number(&mut self, node: (String, u16)) -> Option<u16> {
        let known = self.nodes.iter().position(|known| *known == node);
        let number = known.unwrap_or_else(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        });
        u16::try_from(number).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first is the sum that the specification gives, the others are what `CLUSTER KEYSLOT` answers.
    #[test]
    fn keys_have_the_slots_that_the_server_says() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        for (key, expected) in [("foo", 12_182), ("tg:{foo}bar", 12_182), ("{}foo", 9_500), ("a{b", 13_340)] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
    }
}
