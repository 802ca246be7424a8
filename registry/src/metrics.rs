//! What the registry counts. Names and meanings are in [`describe`].

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use souk_protocol::gate::Cause;
use souk_protocol::limits::{Mode, Policy};

const UPLOADS: &str = "souk_registry_uploads_total";
const RUNNING: &str = "souk_registry_uploads_running";
const COLLECTED: &str = "souk_registry_collected_total";
const MISSING: &str = "souk_registry_missing_objects";
const UNDER_WAY: &str = "souk_registry_requests_under_way";
const REFUSED: &str = "souk_registry_refused_total";
const WEBHOOKS: &str = "souk_registry_webhook_tries_total";
const LIMITS: &str = "souk_registry_limits_reached_total";
/// As in a gateway apart, whose registries are elsewhere.
const STALE: &str = "souk_gateway_rights_stale_total";
const ORPHANS: &str = "souk_registry_orphaned_objects_total";

/// Describes every metric of the registry to the installed recorder.
pub fn describe() {
    describe_counter!(
        UPLOADS,
        Unit::Count,
        "Uploads that ended, by kind and by outcome: published, rejected (the artefact cannot be used), failed (the \
         request or the storage), abandoned (the client went away)"
    );
    describe_gauge!(RUNNING, Unit::Count, "Uploads that run now, by kind");
    describe_gauge!(UNDER_WAY, Unit::Count, "Requests of tenants to the registry that are under way, without uploads");
    describe_counter!(
        REFUSED,
        Unit::Count,
        "Requests to the registry that a gate did not let in, by what there was no more of and by cause: share (the \
         caller has its own, and others wait), full"
    );
    describe_counter!(
        COLLECTED,
        Unit::Count,
        "What the collector ended or removed because nobody works on it any more or it is kept no longer, by what: upload, \
         claim, staged, blob, orphan, event, audit_entry, usage, tenant"
    );
    describe_counter!(
        WEBHOOKS,
        Unit::Count,
        "Tries of deliveries to webhooks, by what came of them: delivered, or why they failed (docs/webhooks.md)"
    );
    describe_counter!(
        LIMITS,
        Unit::Count,
        "Versions that a limit had no more for, by policy, level and mode: enforce (it was refused), shadow (it was let in)"
    );
    describe_counter!(
        STALE,
        Unit::Count,
        "Callers, references and limits that were let in by what was known before, since the database could not be asked"
    );
    describe_counter!(
        ORPHANS,
        Unit::Count,
        "Objects that were found with nothing that refers to them, and are kept for a while"
    );
    describe_gauge!(
        MISSING,
        Unit::Count,
        "Objects that versions refer to and that are not there, by the latest look at the whole store"
    );
}

/// Says how many objects that versions refer to are not there.
pub(crate) fn missing(number: usize) {
    gauge!(MISSING).set(number as f64);
}

/// Counts a request that began or ended.
pub(crate) fn requests_under_way(change: f64) {
    gauge!(UNDER_WAY).increment(change);
}

/// Counts a request that was not let in.
pub(crate) fn refused(what: &'static str, cause: Cause) {
    let cause = if cause == Cause::Share { "share" } else { "full" };
    counter!(REFUSED, "what" => what, "cause" => cause).increment(1);
}

/// Counts one upload from its begin to its end.
pub(crate) struct UploadRuns {
    kind: &'static str,
    outcome: &'static str,
}

impl UploadRuns {
    pub(crate) fn begin(kind: &'static str) -> Self {
        gauge!(RUNNING, "kind" => kind).increment(1.0);
        Self { kind, outcome: "abandoned" }
    }

    /// How it ended, to be counted when this is dropped.
    pub(crate) fn end(&mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for UploadRuns {
    fn drop(&mut self) {
        gauge!(RUNNING, "kind" => self.kind).decrement(1.0);
        counter!(UPLOADS, "kind" => self.kind, "outcome" => self.outcome).increment(1);
    }
}

/// Counts what the collector did.
pub(crate) fn collected(what: &'static str, number: usize) {
    counter!(COLLECTED, "what" => what).increment(number as u64);
}

/// Counts what a limit has refused, or would have in shadow mode.
pub(crate) fn limit_reached(policy: Policy, level: &'static str, mode: Mode) {
    let mode = if mode == Mode::Shadow { "shadow" } else { "enforce" };
    counter!(LIMITS, "policy" => policy.as_str(), "level" => level, "mode" => mode).increment(1);
}

/// Counts a try of a delivery.
pub(crate) fn webhook_tried(outcome: &'static str) {
    counter!(WEBHOOKS, "outcome" => outcome).increment(1);
}

/// Counts an object that was found with nothing that refers to it.
pub(crate) fn found_orphan() {
    counter!(ORPHANS).increment(1);
}

pub(crate) fn believed() {
    counter!(STALE).increment(1);
}
