//! Figures of what a gateway asks registries. No registry is named in them: the log does.

use metrics::{counter, describe_counter, describe_gauge, gauge};

const ASKED: &str = "souk_gateway_registry_asks_total";
const STALE: &str = "souk_gateway_rights_stale_total";
const HEARS: &str = "souk_gateway_hears_withdrawals";

/// Says what the figures mean. Call it once the exporter is installed.
pub fn describe() {
    describe_counter!(ASKED, "Questions to registries, by outcome: answered, answered_by_another, failed");
    describe_counter!(
        STALE,
        "Callers and references that were let in by what was known before, since no registry answered"
    );
    describe_gauge!(HEARS, "1 while a registry tells this gateway what is withdrawn");
}

pub(crate) fn asked(outcome: &'static str) {
    counter!(ASKED, "outcome" => outcome).increment(1);
}

pub(crate) fn served_stale() {
    counter!(STALE).increment(1);
}

pub(crate) fn hears(hears: bool) {
    gauge!(HEARS).set(f64::from(u8::from(hears)));
}
