//! Addresses and networks. An IPv4-mapped IPv6 address is the IPv4 address in it, everywhere.

use crate::{
    Mistake,
    key::{Key, Keys},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An address, and how many of its bits count. IPv4-mapped addresses have become IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    is_ipv4: bool,
    prefix: u8,
    /// All bits of the address.
    bits: u128,
}

impl Network {
    /// The network of `ip`'s first `prefix` bits, or `ip` alone where it has no more bits than that.
    #[inline(always)]
    pub(crate) fn new(ip: IpAddr, prefix: u8) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self { is_ipv4: true, prefix: prefix.min(32), bits: v4.to_bits().into() },
            IpAddr::V6(v6) => Self { is_ipv4: false, prefix: prefix.min(128), bits: v6.to_bits() },
        }
    }

    /// The address itself.
    pub(crate) const fn ip(self) -> IpAddr {
        address(self.is_ipv4, self.bits)
    }

    /// The address with all bits behind the prefix 0.
    fn base(self) -> IpAddr {
        address(self.is_ipv4, self.base_bits())
    }

    #[inline(always)]
    fn base_bits(self) -> u128 {
        let prefix = u32::from(self.prefix);
        if self.is_ipv4 {
            u128::from(self.bits as u32 & u32::MAX.checked_shl(32 - prefix).unwrap_or(0))
        } else {
            self.bits & u128::MAX.checked_shl(128 - prefix).unwrap_or(0)
        }
    }

    /// The addresses that it stands for.
    pub(crate) fn net(self) -> Option<IpNet> {
        IpNet::new(self.base(), self.prefix).ok()
    }

    #[inline(always)]
    pub(crate) fn key(self, keys: &Keys) -> Key {
        let family: u16 = if self.is_ipv4 { 4 } else { 6 };
        keys.address(family << 8 | u16::from(self.prefix), self.base_bits())
    }
}

const fn address(is_ipv4: bool, bits: u128) -> IpAddr {
    if is_ipv4 {
        IpAddr::V4(Ipv4Addr::from_bits(bits as u32)) // an IPv4 address has no more
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(bits))
    }
}

/// `192.0.2.7`, or `2001:db8::/64` where it is more than one address.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.base().fmt(f)?;
        let is_one = self.prefix == if self.is_ipv4 { 32 } else { 128 };
        if is_one { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

fn mask(ip: IpAddr, prefix: u8) -> Option<IpNet> {
    Network::new(ip, prefix).net()
}

/// Reads `192.0.2.7`, `192.0.2.0/24` or `2001:db8::/32`; bits behind the prefix are dropped.
fn parse(text: &str) -> Option<IpNet> {
    let (ip, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
    let ip: IpAddr = ip.parse().ok()?;
    let prefix = match prefix {
        None => return mask(ip, u8::MAX),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse::<u8>().ok()?,
        Some(_) => return None,
    };
    let net = IpNet::new(ip, prefix).ok()?;
    match ip {
        // A mapped network wider than the mapped space would be neither family's.
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => mask(ip, prefix.checked_sub(96)?),
        _ => Some(net.trunc()),
    }
}

/// The network that a text says; what cannot be parsed becomes a mistake, found in `place`.
pub(crate) fn parse_network(text: &str, place: &'static str, mistakes: &mut Vec<Mistake>) -> Option<IpNet> {
    let net = parse(text);
    if net.is_none() {
        mistakes.push(Mistake::Network { text: text.to_owned(), place });
    }
    net
}

/// Whether a text is an address or a network.
#[cfg(feature = "config")]
pub(crate) fn is_network(text: &str) -> bool {
    parse(text).is_some()
}

/// A set of addresses.
#[derive(Debug, Clone, Default)]
pub(crate) struct Networks {
    /// First and last address of each stretch, in order, none touching the next.
    ranges: Box<[(Point, Point)]>,
}

/// Family (4 or 6) and address, in the order of addresses within a family.
type Point = (u8, u128);

const fn point(ip: IpAddr) -> Point {
    match ip {
        IpAddr::V4(v4) => (4, v4.to_bits() as u128),
        IpAddr::V6(v6) => (6, v6.to_bits()),
    }
}

impl Networks {
    /// The addresses of all networks in `texts`; those that cannot be parsed become mistakes, found in `place`.
    pub(crate) fn compile(texts: &[String], place: &'static str, mistakes: &mut Vec<Mistake>) -> Self {
        texts.iter().filter_map(|text| parse_network(text, place, mistakes)).collect()
    }

    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        let point = point(ip.to_canonical());
        let after = self.ranges.partition_point(|(first, _)| *first <= point);
        after.checked_sub(1).and_then(|i| self.ranges.get(i)).is_some_and(|(_, last)| point <= *last)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether all addresses of a family are in the set.
    pub(crate) fn contains_everybody(&self) -> bool {
        [IpNet::from(Ipv4Net::default()), Ipv6Net::default().into()]
            .iter()
            .any(|all| self.ranges.contains(&(point(all.network()), point(all.broadcast()))))
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        let mut ranges: Vec<_> =
            nets.into_iter().map(|net| (point(net.network()), point(net.broadcast()))).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(Point, Point)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first.0 == end.0 && first.1 <= end.1.saturating_add(1) => {
                    *end = last.max(*end)
                }
                _ => merged.push((first, last)),
            }
        }
        Self { ranges: merged.into() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn networks(texts: &[&str]) -> Networks {
        let texts: Vec<_> = texts.iter().map(ToString::to_string).collect();
        let mut mistakes = Vec::new();
        let networks = Networks::compile(&texts, "test", &mut mistakes);
        assert_eq!(mistakes, []);
        networks
    }

    #[test]
    fn text_is_parsed_strictly() {
        for (text, net) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(parse(text).map(|net| net.to_string()).as_deref(), Some(net), "{text}");
        }
        for text in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "::/129",
            "010.0.0.0/8",
            "10.0.0/8",
            " ::1",
            "localhost",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("::ffff:10.0.0.0/90"), None, "wider than the mapped space");
    }

    #[test]
    fn a_mistake_names_text_and_place() {
        let mut mistakes = Vec::new();
        Networks::compile(&["10.0.0.0/8".into(), "10.0.0.0/99".into()], "trusted proxies", &mut mistakes);
        assert_eq!(mistakes, [Mistake::Network { text: "10.0.0.0/99".into(), place: "trusted proxies" }]);
    }

    #[test]
    fn families_are_apart_and_mapped_addresses_are_ipv4() {
        let v6 = networks(&["::/0"]);
        assert!(v6.contains("2001:db8::1".parse().unwrap()));
        assert!(!v6.contains("::ffff:10.0.0.1".parse().unwrap()));
        let v4 = networks(&["10.0.0.0/8"]);
        assert!(v4.contains("::ffff:10.0.0.1".parse().unwrap()));
        assert!(!v4.contains("::10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn everybody_may_come_in_halves() {
        assert!(networks(&["128.0.0.0/1", "0.0.0.0/1", "::1"]).contains_everybody());
        assert!(networks(&["::/0"]).contains_everybody());
        assert!(!networks(&["0.0.0.0/1", "8000::/1"]).contains_everybody());
    }

    proptest! {
        #[test]
        fn a_set_holds_what_one_of_its_networks_holds(
            nets in prop::collection::vec((any::<u32>(), any::<bool>(), 0u8..=32), 0..12),
            probe in any::<u32>(), at in any::<prop::sample::Index>(), step in -1i64..=1,
        ) {
            let nets: Vec<_> = nets.into_iter().map(|(bits, low, prefix)| {
                Ipv4Net::new(if low { bits & 0xff } else { bits }.into(), prefix).unwrap().trunc()
            }).collect();
            let set = networks(&nets.iter().map(ToString::to_string).collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>());
            let edge = nets.get(at.index(nets.len().max(1))).map_or(probe, |net| net.broadcast().to_bits());
            for probe in [probe, probe & 0x1ff, edge.wrapping_add_signed(step as i32)] {
                let ip = probe.into();
                prop_assert_eq!(set.contains(IpAddr::V4(ip)), nets.iter().any(|net| net.contains(&ip)));
            }
        }
    }
}
