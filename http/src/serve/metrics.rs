//! Figures of the listener. Labels are bounded: reasons, never addresses.

use metrics::{counter, describe_counter, describe_gauge, gauge};

const OPEN: &str = "souk_http_connections";
const REFUSED: &str = "souk_http_connections_refused_total";
const CUT_OFF: &str = "souk_http_connections_cut_off_total";
const STREAMS_CUT_OFF: &str = "souk_http_streams_cut_off_total";
const SLOW_BODIES: &str = "souk_http_slow_bodies_total";
const ACCEPT_ERRORS: &str = "souk_http_accept_errors_total";

/// Says what each figure means. Call it after the exporter is installed.
pub fn describe() {
    describe_gauge!(OPEN, "Open connections, over all listeners.");
    describe_counter!(REFUSED, "Connections closed at once, by reason: total, address, proxy, certificate.");
    describe_counter!(
        CUT_OFF,
        "Connections ended for waiting too long, by reason: handshake, headers, idle, stalled, drain."
    );
    describe_counter!(STREAMS_CUT_OFF, "HTTP/2 streams reset because their client took nothing of an answer.");
    describe_counter!(SLOW_BODIES, "Requests refused because their body came more slowly than the least rate.");
    describe_counter!(ACCEPT_ERRORS, "Times that no connection could be accepted, by reason: descriptors, other.");
}

pub(super) fn refused(reason: &'static str) {
    counter!(REFUSED, "reason" => reason).increment(1);
}

pub(super) fn cut_off(reason: &'static str) {
    counter!(CUT_OFF, "reason" => reason).increment(1);
}

pub(super) fn stream_cut_off() {
    counter!(STREAMS_CUT_OFF).increment(1);
}

pub(super) fn slow_body() {
    counter!(SLOW_BODIES).increment(1);
}

pub(super) fn accept_error(reason: &'static str) {
    counter!(ACCEPT_ERRORS, "reason" => reason).increment(1);
}

/// Counts a connection as open until it is dropped.
pub(super) struct Open(());

impl Open {
    pub(super) fn new() -> Self {
        gauge!(OPEN).increment(1.0);
        Self(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!(OPEN).decrement(1.0);
    }
}
