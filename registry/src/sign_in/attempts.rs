//! How often an address may try something that a secret decides: to sign in, to use a link, to use an invitation.
//!
//! Guessing 256 bits is hopeless at any rate; this bounds what trying costs others: rows, questions to providers of
//! identities, the log. It counts in windows of a minute, in this process.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use souk_http::serve::Origin;

const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are counted apart at a time; past it, further ones are one.
const MAX_ADDRESSES: usize = 65_536;

/// Counts attempts by address.
pub(crate) struct Attempts {
    most: u32,
    counted: Mutex<Counted>,
}

struct Counted {
    since: Instant,
    by_address: HashMap<Option<Origin>, u32>,
}

impl Attempts {
    /// Lets `most` of one address through in a window.
    pub(crate) fn new(most: u32, now: Instant) -> Self {
        Self { most, counted: Mutex::new(Counted { since: now, by_address: HashMap::new() }) }
    }

    /// Counts one; answers whether it may go on. Who is not known by an address is one with others of that kind.
    pub(crate) fn one_more(&self, address: Option<IpAddr>, now: Instant) -> bool {
        // Each change is made in one go.
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(counted.since) >= WINDOW {
            *counted = Counted { since: now, by_address: HashMap::new() };
        }
        let mut key = address.map(Origin::of);
        if counted.by_address.len() >= MAX_ADDRESSES && !counted.by_address.contains_key(&key) {
            key = None;
        }
        let count = counted.by_address.entry(key).or_default();
        *count = count.saturating_add(1);
        *count <= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(number: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(number.into()))
    }

    #[test]
    fn an_address_has_its_number_a_window_and_another_its_own() {
        let start = Instant::now();
        let attempts = Attempts::new(2, start);
        let tries = |address, at| attempts.one_more(address, at);
        assert_eq!([tries(v4(1), start), tries(v4(1), start), tries(v4(1), start)], [true, true, false]);
        assert!(tries(v4(2), start) && tries(None, start));
        assert!(!tries(v4(1), start + WINDOW - Duration::from_millis(1)));
        assert!(tries(v4(1), start + WINDOW));
    }

    #[test]
    fn addresses_of_one_network_are_one_and_so_are_two_ways_to_write_one() {
        let start = Instant::now();
        let attempts = Attempts::new(1, start);
        let tries = |text: &str| attempts.one_more(Some(text.parse().unwrap()), start);
        assert!(tries("2001:db8::1") && !tries("2001:db8::ffff:1") && tries("2001:db8:0:1::1"));
        assert!(tries("192.0.2.1") && !tries("::ffff:192.0.2.1"));
    }

    #[test]
    fn however_many_addresses_come_the_room_is_bounded_and_known_ones_count_on() {
        let start = Instant::now();
        let attempts = Attempts::new(1, start);
        for number in 0..MAX_ADDRESSES as u32 + 10 {
            attempts.one_more(v4(number), start);
        }
        let counted = attempts.counted.lock().unwrap();
        assert_eq!(counted.by_address.len(), MAX_ADDRESSES + 1, "the last is for all others");
        assert_eq!(counted.by_address[&None], 10);
        assert_eq!(counted.by_address[&v4(3).map(Origin::of)], 1);
    }
}
