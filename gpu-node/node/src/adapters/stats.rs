//! What a store says of itself.

use std::time::Duration;

use souk_protocol::Digest;
use souk_queue::AdapterTier;

use super::disk::DiskStats;
use super::error::Tier;

/// A snapshot of an adapter store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterStats {
    /// Adapters in either tier, by digest. The gateway sends requests where their adapter is.
    pub resident: Vec<ResidentAdapter>,
    /// Sums and counts.
    pub totals: AdapterTotals,
    /// The disk tier, if there is one.
    pub disk: Option<DiskStats>,
}

/// Sums over a store, and counts since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdapterTotals {
    /// Bytes in use or reserved in the host tier, those on the device included.
    pub host_bytes: usize,
    /// Bytes in use in the device tier.
    pub device_bytes: usize,
    /// Bytes of the host tier that are in use: nobody else can have them.
    pub host_in_use_bytes: usize,
    /// Bytes of the device tier that are in use.
    pub device_in_use_bytes: usize,
    /// Loads that have a slot.
    pub running_loads: usize,
    /// Requests that found their adapter on the device.
    pub device_hits: u64,
    /// Requests that found it in host memory only.
    pub host_hits: u64,
    /// Requests that had to wait for a load, their own or another's.
    pub misses: u64,
    /// Loads that were begun.
    pub loads: u64,
    /// Loads that failed, for whatever reason.
    pub load_failures: u64,
    /// Work of all loads that did not fail, without the waiting for others and for room.
    pub load_time: Duration,
    /// Adapters that were brought nearer ahead of a request.
    pub prefetches: u64,
    /// Requests whose adapter had been brought nearer, or was on its way.
    pub prefetch_hits: u64,
    /// Adapters that lost their place on the device to another.
    pub device_evictions: u64,
    /// Adapters that lost their place in host memory to another.
    pub host_evictions: u64,
    /// Adapters that left memory since nobody had asked for them for long.
    pub left_idle: u64,
}

/// One adapter of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResidentAdapter {
    /// Digest of the version's manifest.
    pub digest: Digest,
    /// Its size in each tier that it is in.
    pub size_bytes: usize,
    /// The highest tier that it is in.
    pub tier: Tier,
    /// Leases, and requests that wait for one.
    pub users: usize,
    /// Time since a request came or went.
    pub idle_ms: u64,
}

impl ResidentAdapter {
    /// As gateways are told of it.
    #[must_use]
    pub const fn announced(&self) -> souk_queue::ResidentAdapter {
        let tier = match self.tier {
            Tier::Host => AdapterTier::Host,
            Tier::Device => AdapterTier::Device,
        };
        souk_queue::ResidentAdapter { digest: self.digest, tier }
    }
}

impl AdapterTotals {
    /// Publishes the numbers to the process's metrics.
    pub(super) fn publish(&self) {
        for (found, count) in [("device", self.device_hits), ("host", self.host_hits), ("nowhere", self.misses)] {
            metrics::counter!("souk_adapter_requests_total", "found" => found).absolute(count);
        }
        metrics::counter!("souk_adapter_loads_total").absolute(self.loads);
        metrics::counter!("souk_adapter_load_failures_total").absolute(self.load_failures);
        metrics::counter!("souk_adapter_prefetches_total").absolute(self.prefetches);
        metrics::counter!("souk_adapter_prefetch_hits_total").absolute(self.prefetch_hits);
        metrics::counter!("souk_adapter_left_idle_total").absolute(self.left_idle);
        metrics::gauge!("souk_adapter_loads_running").set(self.running_loads as f64);
        for (tier, evictions, bytes, in_use) in [
            (Tier::Device, self.device_evictions, self.device_bytes, self.device_in_use_bytes),
            (Tier::Host, self.host_evictions, self.host_bytes, self.host_in_use_bytes),
        ] {
            metrics::gauge!("souk_adapter_in_use_bytes", "tier" => tier.as_str()).set(in_use as f64);
            metrics::counter!("souk_adapter_evictions_total", "tier" => tier.as_str()).absolute(evictions);
            metrics::gauge!("souk_adapter_bytes", "tier" => tier.as_str()).set(bytes as f64);
        }
    }
}

impl DiskStats {
    /// Publishes the numbers to the process's metrics.
    pub(super) fn publish(&self) {
        for (found, count) in [("disk", self.hits), ("nowhere", self.misses)] {
            metrics::counter!("souk_adapter_disk_reads_total", "found" => found).absolute(count);
        }
        metrics::counter!("souk_adapter_disk_writes_total").absolute(self.writes);
        metrics::counter!("souk_adapter_disk_write_failures_total").absolute(self.write_failures);
        metrics::counter!("souk_adapter_disk_corrupt_total").absolute(self.corrupt);
        metrics::counter!("souk_adapter_evictions_total", "tier" => "disk").absolute(self.evictions);
        metrics::gauge!("souk_adapter_bytes", "tier" => "disk").set(self.bytes as f64);
    }
}
