//! What gateways say of the adapters that are asked for.

use std::collections::HashMap;

use souk_protocol::{Fetchable, GatewayId};
use tokio::time::Instant;

use crate::popular::{MOST_POPULAR_NAMED, POPULAR_FOR, Popular, most_popular};

#[derive(Debug, Default)]
pub(super) struct Popularity {
    /// With until when it is believed.
    said: HashMap<GatewayId, (Instant, Vec<Popular>)>,
}

impl Popularity {
    pub(super) fn say(&mut self, gateway: &GatewayId, mut adapters: Vec<Popular>, now: Instant) {
        self.forget(now);
        adapters.truncate(MOST_POPULAR_NAMED);
        self.said.insert(gateway.clone(), (now + POPULAR_FOR, adapters));
    }

    pub(super) fn most(&mut self, most: usize, now: Instant) -> Vec<Fetchable> {
        self.forget(now);
        most_popular(self.said.values().flat_map(|(_, adapters)| adapters.iter().cloned()), most)
    }

    fn forget(&mut self, now: Instant) {
        self.said.retain(|_, (until, _)| *until > now);
    }
}
