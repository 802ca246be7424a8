//! Which addresses a delivery may go to: public ones, and those that the operator allows. Asked after a name was resolved and
//! as the connection is made, so a name that means something else a moment later leads nowhere else.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use souk_http::serve::Networks;

/// An address that is not public and that nobody allowed. It does not say which: who may not reach it is not to learn what a
/// name means inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the endpoint is at no public address")]
pub(super) struct AddressRefused;

/// What may be connected to.
#[derive(Clone, Debug, Default)]
pub(super) struct Reachable {
    allowed: Networks,
}

impl Reachable {
    pub(super) fn new(allowed: Networks) -> Self {
        Self { allowed }
    }

    pub(super) fn may(&self, address: IpAddr) -> bool {
        is_public(address) || self.allowed.contain(address)
    }

    /// Refuses a host that is an address, for which nothing is resolved.
    pub(super) fn check_host(&self, host: &str) -> Result<(), AddressRefused> {
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if literal.is_ok_and(|address| !self.may(address)) { Err(AddressRefused) } else { Ok(()) }
    }
}

impl Resolve for Reachable {
    fn resolve(&self, name: Name) -> Resolving {
        let reachable = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let may_be: Vec<SocketAddr> = found.filter(|address| reachable.may(address.ip())).collect();
            if may_be.is_empty() {
                return Err(Box::new(AddressRefused) as Box<dyn Error + Send + Sync>);
            }
            Ok(Box::new(may_be.into_iter()) as Addrs)
        })
    }
}

/// What of IPv4 is not reached over the public Internet, or is several hosts (RFC 6890 and what it was extended by), each with
/// the length of its prefix.
const NOT_PUBLIC_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The same of what is global unicast in IPv6 (2000::/3); nothing else of IPv6 is public: 2001::/23 with Teredo, 6to4, and
/// documentation. What translates to IPv4 elsewhere (64:ff9b::/96) is not in there.
const NOT_PUBLIC_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

fn is_public(address: IpAddr) -> bool {
    // An address of IPv4 that is written as one of IPv6 is what it stands for.
    match address.to_canonical() {
        IpAddr::V4(address) => !NOT_PUBLIC_V4
            .iter()
            .any(|(network, prefix)| (address.to_bits() ^ network.to_bits()).leading_zeros() >= *prefix),
        IpAddr::V6(address) => {
            let is_in = |network: Ipv6Addr, prefix| (address.to_bits() ^ network.to_bits()).leading_zeros() >= prefix;
            is_in(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3)
                && !NOT_PUBLIC_V6.iter().any(|(network, prefix)| is_in(*network, *prefix))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reachable(allowed: &[&str]) -> Reachable {
        let texts: Vec<_> = allowed.iter().map(|text| (*text).to_owned()).collect();
        Reachable::new(Networks::parse(&texts).unwrap())
    }

    #[test]
    fn what_is_inside_somewhere_or_is_many_is_not_reached() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2001:10::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
        ] {
            assert!(!reachable(&[]).may(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "2003::1",
        ] {
            assert!(reachable(&[]).may(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_the_operator_allows_is_reached_and_nothing_beside_it() {
        let reachable = reachable(&["127.0.0.1", "10.1.0.0/16", "fd00::/8"]);
        for (text, may) in [
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("127.0.0.2", false),
            ("10.1.2.3", true),
            ("10.2.0.1", false),
            ("fd00::1", true),
            ("::1", false),
        ] {
            assert_eq!(reachable.may(text.parse().unwrap()), may, "{text}");
        }
    }

    #[test]
    fn a_host_that_is_an_address_is_looked_at_as_it_stands() {
        let reachable = reachable(&[]);
        for url in
            ["http://127.1/", "http://2130706433/", "http://0x7f.0.0.1/", "http://[::ffff:7f00:1]/", "http://[::1]/"]
        {
            let url = reqwest::Url::parse(url).unwrap();
            assert_eq!(reachable.check_host(url.host_str().unwrap()), Err(AddressRefused), "{url}");
        }
        assert_eq!(reachable.check_host("localhost"), Ok(()), "a name is looked at when it is resolved");
    }

    #[tokio::test]
    async fn a_name_that_means_only_what_is_not_public_is_not_resolved() {
        let refused = reachable(&[]).resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert!(refused.downcast_ref::<AddressRefused>().is_some(), "{refused}");
        let found = reachable(&["127.0.0.1", "::1"]).resolve("localhost".parse().unwrap()).await;
        assert!(found.is_ok_and(|mut found| found.next().is_some()));
    }

    proptest! {
        #[test]
        fn an_address_is_the_same_in_both_ways_of_writing_it(bits in any::<u32>()) {
            let address = Ipv4Addr::from_bits(bits);
            prop_assert_eq!(is_public(address.into()), is_public(address.to_ipv6_mapped().into()));
            // What the standard library calls so is never public.
            let is_special = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_multicast() || address.is_broadcast() || address.is_documentation()
                || address.is_unspecified();
            prop_assert!(!(is_special && is_public(address.into())));
        }

        #[test]
        fn no_local_or_multicast_address_of_ipv6_is_public(bits in any::<u128>()) {
            let address = Ipv6Addr::from_bits(bits);
            let is_special = address.is_unique_local() || address.is_unicast_link_local() || address.is_multicast()
                || address.is_loopback() || address.is_unspecified();
            prop_assert!(!(is_special && is_public(address.into())));
        }
    }
}
