//! Help texts of the node's metrics.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Describes each metric of this crate. Call it after the exporter is installed.
pub fn describe() {
    describe_histogram!("souk_queue_wait_seconds", Unit::Seconds, "Time that jobs waited in the queue for a node.");
    describe_tiers();
    describe_disk();
}

fn describe_tiers() {
    describe_counter!("souk_adapter_requests_total", "Requests for an adapter, by the tier in which it was found.");
    describe_counter!("souk_adapter_loads_total", "Loads of adapters that were begun.");
    describe_counter!("souk_adapter_load_failures_total", "Loads of adapters that failed.");
    describe_histogram!(
        "souk_adapter_load_seconds",
        Unit::Seconds,
        "Time of a load of an adapter, waiting for room included, by where it came from."
    );
    describe_counter!("souk_adapter_prefetches_total", "Adapters brought nearer ahead of their requests.");
    describe_counter!("souk_adapter_prefetch_hits_total", "Requests whose adapter had been brought nearer.");
    describe_counter!("souk_adapter_evictions_total", "Adapters that lost their place to another, by tier.");
    describe_counter!("souk_adapter_left_idle_total", "Adapters that left memory since nobody asked for them.");
    describe_gauge!("souk_adapter_bytes", Unit::Bytes, "Bytes of adapters, by tier.");
    describe_gauge!(
        "souk_adapter_in_use_bytes",
        Unit::Bytes,
        "Bytes of adapters that requests run with, or wait with in host memory, by tier; shared between tenants."
    );
    describe_gauge!("souk_adapter_loads_running", "Loads of adapters that have a slot; shared between tenants.");
    describe_gauge!("souk_adapter_pinned_bytes", Unit::Bytes, "Bytes of adapters that are kept on the device.");
}

fn describe_disk() {
    describe_counter!("souk_adapter_disk_reads_total", "Packed adapters looked for on disk, by where they were found.");
    describe_counter!("souk_adapter_disk_writes_total", "Packed adapters written to disk.");
    describe_counter!("souk_adapter_disk_write_failures_total", "Packed adapters that could not be written to disk.");
    describe_counter!("souk_adapter_disk_corrupt_total", "Packed adapters on disk that were damaged and are gone.");
}
