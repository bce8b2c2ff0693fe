//! Which addresses may be called.
//!
//! What is checked is the address that a name has led to, just before it is connected to, so that no name (and no answer of a name
//! server that changes between two look-ups) leads to the worker itself or to a cloud's metadata service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Classes of addresses that are called only when they are allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// The worker's own machine: 127.0.0.0/8, ::1, and the unspecified addresses, which lead there as well.
    pub loopback: bool,
    /// 169.254.0.0/16 and fe80::/10, and the other addresses at which clouds answer with credentials.
    pub link_local: bool,
}

/// Where clouds answer the machines that run on them, besides link-local addresses: Alibaba, Azure.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
/// The same by IPv6: AWS (metadata, and credentials of pods), Google, Oracle.
const METADATA_V6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
];

/// Why an address is refused; `None`: it may be called.
pub(crate) fn refusal(address: IpAddr, allowed: Allowed) -> Option<&'static str> {
    const LOOPBACK: &str = "a loopback address; set addresses.allowed=loopback if that is meant";
    const LINK_LOCAL: &str = "a link-local address; set addresses.allowed=link-local if that is meant";
    const MANY: &str = "a multicast or broadcast address";
    if let Some(refused) = local_translations(address).find_map(|meant| refusal(meant, allowed)) {
        return Some(refused);
    }
    match canonical(address) {
        IpAddr::V4(v4) => match v4 {
            _ if v4.is_loopback() || v4.octets()[0] == 0 => (!allowed.loopback).then_some(LOOPBACK),
            _ if v4.is_link_local() || METADATA_V4.contains(&v4) => (!allowed.link_local).then_some(LINK_LOCAL),
            _ if v4.is_multicast() || v4.is_broadcast() => Some(MANY),
            _ => None,
        },
        IpAddr::V6(v6) => match v6 {
            _ if v6.is_loopback() || v6.is_unspecified() => (!allowed.loopback).then_some(LOOPBACK),
            _ if v6.segments()[0] & 0xffc0 == 0xfe80 || METADATA_V6.contains(&v6) => {
                (!allowed.link_local).then_some(LINK_LOCAL)
            }
            _ if v6.is_multicast() => Some(MANY),
            _ => None,
        },
    }
}

/// The address that is meant where an IPv6 address has one of IPv4 inside: mapped, compatible, translated (NAT64, SIIT) or 6to4.
fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let segments = v6.segments();
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

/// The addresses that one of 64:ff9b:1::/48 may mean: each network chooses how long its prefix is, and so where within it (RFC 6052)
/// the address of IPv4 stands.
fn local_translations(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let octets = match address {
        IpAddr::V6(v6) if v6.segments()[..3] == [0x64, 0xff9b, 1] => Some(v6.octets()),
        _ => None,
    };
    octets.into_iter().flat_map(|o| {
        let places = [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]];
        // Where nothing stands, 0.0.0.0 is not meant.
        let meant = places.map(|place| place.map(|at| o[at])).into_iter().filter(|[first, ..]| *first != 0);
        meant.map(|[a, b, c, d]| IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_the_machine_itself_or_to_its_cloud_is_refused() {
        let refused = |text: &str, allowed| refusal(text.parse().unwrap(), allowed).is_some();
        let loopback = [
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "0.1.2.3",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::7f00:1",
        ];
        let link_local = [
            "169.254.169.254",
            "fe80::1",
            "febf::1",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "64:ff9b::a9fe:a9fe",
            "fd00:ec2::254",
            "100.100.100.200",
            "168.63.129.16",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "::ffff:0:169.254.169.254",
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1:2:a9:fea9:fe00:0",
            "64:ff9b:1::a9fe:a9fe",
            "64:ff9b:1:fffe::a9fe:a9fe",
        ];
        for text in loopback {
            assert!(refused(text, Allowed { link_local: true, ..Allowed::default() }), "{text}");
            assert!(!refused(text, Allowed { loopback: true, ..Allowed::default() }), "{text}");
        }
        for text in link_local {
            assert!(refused(text, Allowed { loopback: true, ..Allowed::default() }), "{text}");
            assert!(!refused(text, Allowed { link_local: true, ..Allowed::default() }), "{text}");
        }
        for text in ["224.0.0.1", "255.255.255.255", "ff02::1"] {
            assert!(refused(text, Allowed { loopback: true, link_local: true }), "{text}");
        }
        for text in [
            "10.0.0.1",
            "192.168.1.1",
            "93.184.216.34",
            "2606:2800::1",
            "fd12::1",
            "::ffff:10.0.0.1",
            "64:ff9b:1::a00:1",
        ] {
            assert!(!refused(text, Allowed::default()), "{text}");
        }
    }
}
