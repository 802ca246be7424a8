//! Figures of the streams between nodes and gateways. No node and no gateway is named in them: the log does.

use metrics::{counter, describe_counter, describe_gauge, gauge};

const STREAMS: &str = "souk_wire_streams";
const ENDED: &str = "souk_wire_streams_ended_total";
const DIALS: &str = "souk_wire_dials_total";
const REFUSED: &str = "souk_wire_refused_total";
const DROPPED: &str = "souk_wire_events_dropped_total";
const LOST: &str = "souk_wire_attempts_lost_total";
const FRAMES: &str = "souk_wire_frames_total";
const EVENTS: &str = "souk_wire_events_total";

/// Says what the figures mean. Call it once the exporter is installed.
pub fn describe() {
    describe_gauge!(STREAMS, "Streams of tokens that are open, by side: node (dialled) or gateway (taken).");
    describe_counter!(
        ENDED,
        "Streams that ended, by side and cause: closed, idle, broken, silent, malformed, slow, replaced."
    );
    describe_counter!(DIALS, "Tries of a node to reach a gateway, by outcome: open, away, refused, another.");
    describe_counter!(REFUSED, "Nodes that were refused, by reason: token, hello, version, base, stale, closing.");
    describe_counter!(
        DROPPED,
        "Events of nodes that were dropped, by reason: unknown flow, late, job that nobody waits for, foreign attempt."
    );
    describe_counter!(LOST, "Attempts that were lost with their stream or handed over, by side.");
    describe_counter!(FRAMES, "Step frames that gateways took from nodes.");
    describe_counter!(EVENTS, "Events that gateways took from nodes, in those frames.");
}

/// Which end of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Node,
    Gateway,
}

impl Side {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Gateway => "gateway",
        }
    }
}

/// Counts a stream as open until it is dropped.
pub(crate) struct OpenStream(Side);

impl OpenStream {
    pub(crate) fn new(side: Side) -> Self {
        gauge!(STREAMS, "side" => side.as_str()).increment(1.0);
        Self(side)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        gauge!(STREAMS, "side" => self.0.as_str()).decrement(1.0);
    }
}

pub(crate) fn ended(side: Side, cause: &'static str) {
    counter!(ENDED, "side" => side.as_str(), "cause" => cause).increment(1);
}

pub(crate) fn dialled(outcome: &'static str) {
    counter!(DIALS, "outcome" => outcome).increment(1);
}

pub(crate) fn refused(reason: &'static str) {
    counter!(REFUSED, "reason" => reason).increment(1);
}

pub(crate) fn dropped(reason: &'static str) {
    counter!(DROPPED, "reason" => reason).increment(1);
}

pub(crate) fn lost(side: Side, num_attempts: usize) {
    counter!(LOST, "side" => side.as_str()).increment(num_attempts as u64);
}

pub(crate) fn step(num_events: usize) {
    counter!(FRAMES).increment(1);
    counter!(EVENTS).increment(num_events as u64);
}
