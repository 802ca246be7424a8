//! Adapters that stay on the device whether they are used or not.

use std::collections::HashMap;

use souk_protocol::Digest;

use super::error::AdapterError;
use super::store::{AdapterLease, AdapterStore};

/// Pinned adapters: a lease on each, that is, so they are loaded ahead and never evicted. Together they take at most
/// half of what adapters can ever have on the device, so that the others keep the rest.
#[derive(Debug)]
pub struct Pins {
    store: AdapterStore,
    leases: HashMap<Digest, AdapterLease>,
}

/// Why an adapter is not pinned.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PinError {
    /// It cannot be leased.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The pinned adapters would take too much.
    #[error(
        "it takes {needed_bytes} bytes, and of the {limit_bytes} bytes that pinned adapters may have (half of the \
         device's room for adapters) {pinned_bytes} are taken; pin fewer, or raise memory.device_mb"
    )]
    TooMany {
        /// Size of the adapter.
        needed_bytes: usize,
        /// What is pinned already.
        pinned_bytes: usize,
        /// The most that may be.
        limit_bytes: usize,
    },
}

impl Pins {
    /// No pins yet.
    #[must_use]
    pub fn new(store: AdapterStore) -> Self {
        Self { store, leases: HashMap::new() }
    }

    /// Pins these adapters and no others. Those that were pinned before and are not named go first, which makes room;
    /// then each is loaded in turn. Returns what could not be pinned, which concerns no other.
    pub async fn set(&mut self, digests: &[Digest]) -> Vec<(Digest, PinError)> {
        self.leases.retain(|digest, _| digests.contains(digest));
        let mut refused = Vec::new();
        for digest in digests {
            if let Err(error) = self.pin(digest).await {
                refused.push((*digest, error));
            }
        }
        metrics::gauge!("souk_adapter_pinned_bytes").set(self.bytes() as f64);
        refused
    }

    /// Bytes of all pinned adapters.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.leases.values().map(|lease| lease.size_bytes).sum()
    }

    /// Waits until a pinned adapter is taken down, and lets go of it.
    pub async fn drop_taken_down(&mut self) {
        self.store.wait_for_take_down(self.leases.keys().copied().collect()).await;
        self.leases.retain(|digest, _| !self.store.is_taken_down(digest));
    }

    /// Leases an adapter. What is taken down meanwhile does not wait for it.
    async fn acquire(&mut self, digest: &Digest) -> Result<AdapterLease, AdapterError> {
        let store = self.store.clone();
        let lease = store.acquire(digest);
        tokio::pin!(lease);
        loop {
            tokio::select! {
                lease = &mut lease => return lease,
                () = self.drop_taken_down() => {}
            }
        }
    }

    async fn pin(&mut self, digest: &Digest) -> Result<(), PinError> {
        if self.leases.contains_key(digest) {
            return Ok(());
        }
        let lease = self.acquire(digest).await?;
        let (needed_bytes, pinned_bytes) = (lease.size_bytes, self.bytes());
        let limit_bytes = self.store.most_device_bytes() / 2;
        if pinned_bytes + needed_bytes > limit_bytes {
            return Err(PinError::TooMany { needed_bytes, pinned_bytes, limit_bytes });
        }
        self.leases.insert(*digest, lease);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::adapters::samples::{GatedSource, SIZE_PER_RANK, adapter_files, ample_memory, base, weights};
    use crate::adapters::{AdapterLimits, Tier, Tiers};

    fn pins(device_bytes: usize, ranks: &[usize]) -> (Pins, AdapterStore, Vec<Digest>) {
        let (source, digests) = GatedSource::new(ranks.iter().map(|rank| adapter_files(*rank, &json!({}))), 100);
        let limits = AdapterLimits { device_bytes, host_bytes: device_bytes, ..AdapterLimits::default() };
        let tiers = Tiers { memory: ample_memory(), disk: None };
        let store = AdapterStore::new(source, Arc::new(base()), Arc::new(weights()), limits, tiers).unwrap();
        (Pins::new(store.clone()), store, digests)
    }

    fn on_device(store: &AdapterStore) -> Vec<Digest> {
        let resident = store.stats().resident;
        resident.iter().filter(|adapter| adapter.tier == Tier::Device).map(|adapter| adapter.digest).collect()
    }

    #[tokio::test]
    async fn a_pinned_adapter_stays_when_others_come_and_goes_when_it_is_pinned_no_more() {
        let (mut pins, store, digests) = pins(5 * SIZE_PER_RANK, &[1, 2, 3]);
        assert!(pins.set(&digests[..1]).await.is_empty());
        for _ in 0..10 {
            drop(store.acquire(&digests[1]).await.unwrap());
            drop(store.acquire(&digests[2]).await.unwrap());
        }
        assert!(on_device(&store).contains(&digests[0]));
        assert!(pins.set(&digests[1..2]).await.is_empty());
        assert_eq!(pins.bytes(), 2 * SIZE_PER_RANK);
        drop(store.acquire(&digests[2]).await.unwrap());
        assert!(on_device(&store).contains(&digests[1]) && !on_device(&store).contains(&digests[0]));
    }

    #[tokio::test]
    async fn pins_take_at_most_half_and_a_refusal_names_the_numbers_and_spares_the_others() {
        let (mut pins, _, digests) = pins(8 * SIZE_PER_RANK, &[3, 2, 1]);
        let missing = Digest::of(b"missing");
        let refused = pins.set(&[digests[0], digests[1], missing, digests[2]]).await;
        let refused: Vec<_> = refused.iter().map(|(digest, error)| (*digest, error.to_string())).collect();
        assert_eq!((refused.len(), refused[0].0, refused[1].0), (2, digests[1], missing));
        assert!(refused[0].1.starts_with("it takes 256 bytes, and of the 512 bytes"), "{}", refused[0].1);
        assert_eq!(pins.bytes(), 4 * SIZE_PER_RANK);
    }
}
