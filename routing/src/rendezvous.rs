//! In which order an adapter likes the nodes: rendezvous hashing, weighted by their places.

use souk_protocol::{Digest, NodeId};

/// A node as orders see it. The same on every gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rendezvous(u64);

impl Rendezvous {
    /// That of a node.
    #[must_use]
    pub fn of(node: &NodeId) -> Self {
        Self(first_bytes(&Digest::of(node.as_str().as_bytes())))
    }

    /// How late the node comes in an adapter's order; the lowest is the first. Each node draws a time for each adapter from the
    /// exponential law whose rate is its `places`: so it is the first of as many adapters as its part of all places says,
    /// and one that comes or goes moves only adapters that it is the first of.
    #[must_use]
    pub fn place(self, adapter: &Digest, places: u32) -> f64 {
        let drawn = mixed(self.0 ^ first_bytes(adapter));
        // In the middle of one of 2^53 equal parts of (0, 1): never 0, never 1.
        let uniform = ((drawn >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -uniform.ln() / f64::from(places.max(1))
    }
}

fn first_bytes(digest: &Digest) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The last step of SplitMix64 (Steele, Lea and Flood, 2014): each bit of the result depends on each of `bits`. A SHA-256 for each
/// of 1,000 nodes would take a request longer than all the rest of its way.
fn mixed(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firsts(places: &[u32]) -> Vec<usize> {
        let nodes: Vec<_> =
            (0..places.len()).map(|at| Rendezvous::of(&NodeId::from_stored(format!("node_{at}")))).collect();
        let mut firsts = vec![0; places.len()];
        for name in 0..20_000u32 {
            let adapter = Digest::of(&name.to_le_bytes());
            let place = |at: &usize| nodes[*at].place(&adapter, places[*at]);
            let first = (0..places.len()).min_by(|a, b| place(a).total_cmp(&place(b))).unwrap();
            firsts[first] += 1;
        }
        firsts
    }

    #[test]
    fn nodes_are_first_of_as_many_adapters_as_their_places_say() {
        for first in firsts(&[8; 10]) {
            assert!((1800..2200).contains(&first), "{first} of 2000");
        }
        let uneven = firsts(&[30, 10]);
        assert!((14_700..15_300).contains(&uneven[0]), "{uneven:?}");
    }

    #[test]
    fn the_order_is_the_same_on_every_gateway_and_in_every_release() {
        let place = Rendezvous::of(&NodeId::from_stored("node_1")).place(&Digest::of(b"adapter"), 8);
        assert!((place - PLACE_OF_ALL_RELEASES).abs() < 1e-12, "{place}");
    }

    /// Two gateways of different releases run side by side during a roll-out.
    const PLACE_OF_ALL_RELEASES: f64 = 0.08549691187121768;
}
