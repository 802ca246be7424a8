//! What all frames have in common: versions, bounds, kinds, and how one is written.

/// The version of the frames that this program speaks.
pub const VERSION: u16 = 1;
/// The oldest that it understands.
pub const OLDEST_VERSION: u16 = 1;

/// Longest frame, its kind included: a step frame that is full up to one event, and that event with all logprobs that can be
/// asked for.
pub const MAX_FRAME_BYTES: usize = 1 << 20;
/// Bytes after which a step frame is ended and another begun, between two events.
pub const STEP_FRAME_BYTES: usize = 64 << 10;
/// Most that a step frame says; each takes two bytes at least, and far more in memory.
pub const MAX_SAYINGS: usize = 64 << 10;
/// Longest id of a request, a node or a gateway.
pub const MAX_ID_BYTES: usize = 128;
/// Most tokens of an event on the wire; of more, several are made.
pub const MAX_EVENT_TOKENS: usize = 256;
/// Longest failure in words, as JSON; what is longer is cut.
pub const MAX_FAILURE_BYTES: usize = 16 << 10;

/// The number of a flow on its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub u32);

/// The kinds of frames. What a node sends and what a gateway sends are told apart by direction alone.
pub(super) mod kind {
    pub(in crate::frame) const HELLO: u8 = 1;
    pub(in crate::frame) const ALIVE: u8 = 2;
    pub(in crate::frame) const STEP: u8 = 3;
    pub(in crate::frame) const ENDS: u8 = 4;
}

/// Writes a frame whose content `put` appends.
pub(super) fn framed(kind: u8, put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 0, kind];
    put(&mut frame);
    let length = u32::try_from(frame.len() - 4).expect("a frame is far below 4 GiB");
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame
}
