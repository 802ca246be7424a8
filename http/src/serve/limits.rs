//! How many connections there may be, in all and of one address.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use souk_protocol::gate::{Cause, Gate, Pass, Refusal, Rules};

use super::metrics;
use super::settings::ServerSettings;

/// The gates of a connection.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    all: Gate<Origin>,
    per_address: u64,
}

/// A place among the connections, until it is dropped.
pub(super) struct Place {
    _pass: Pass<Origin>,
    _open: metrics::Open,
}

/// What counts as one place where clients come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An IPv4 address, or an IPv6 network of 64 bits: a home has one of these, and all addresses in it.
    Address(IpAddr),
    /// A proxy that is trusted, which stands for many clients.
    Proxy,
}

impl Connections {
    /// Gates for what the settings grant, of which at most `descriptors` can be had.
    pub(super) fn new(settings: &ServerSettings, descriptors: u64) -> Self {
        let total = settings.max_connections.min(descriptors).max(8);
        let most = settings.max_connections_per_address;
        // An eighth is for addresses that have next to nothing, as with all gates.
        Self { all: Gate::new(Rules::with_an_eighth_kept(total, 2, total)), per_address: most }
    }

    /// Takes a place. The number for one address does not bound trusted proxies.
    pub(super) fn enter(&self, origin: Origin) -> Result<Place, Refusal> {
        let most = if origin == Origin::Proxy { u64::MAX } else { self.per_address };
        let pass = self.all.enter_up_to(&origin, 1, most, Instant::now()).inspect_err(|refusal| {
            metrics::refused(if refusal.cause == Cause::Full { "total" } else { "address" });
        })?;
        Ok(Place { _pass: pass, _open: metrics::Open::new() })
    }

    /// Connections that are open.
    pub(super) fn open(&self) -> u64 {
        self.all.used()
    }
}

impl Origin {
    /// Where a client of this address comes from.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from(network))
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_of_64_bits_is_one_origin_and_a_mapped_address_is_the_ipv4_one() {
        let of = |text: &str| Origin::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.2"), of("10.0.0.1"));
    }
}
