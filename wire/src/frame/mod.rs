//! What a node and a gateway say to each other on their stream, as bytes.
//!
//! Either direction is a sequence of frames: four bytes of length (little endian, of what follows), a byte for the kind,
//! and the frame's own content. Numbers are little endian, or of seven bits a byte with the lowest first where they are
//! mostly small (*varints*); texts and lists have their length before them. Both sides begin with a hello. Afterwards a
//! node sends a step frame for each step of its engine, and a gateway says which flows are over; both say now and then that
//! they live.
//!
//! A **flow** is the events of one attempt on one stream. The node numbers its flows from 1, upwards and never twice, and
//! opens each before it says anything in it, so that an event costs a number and not a job's id.
//!
//! Whatever the bytes are, a reader answers with frames or with [`Malformed`], and never holds more than
//! [`MAX_FRAME_BYTES`] of them.

mod event;
mod from_gateway;
mod from_node;
mod reader;
mod split;

pub use self::from_gateway::{FlowEnd, FromGateway, GatewayHello};
pub use self::from_node::{FromNode, NodeHello, Said, Saying, put_saying, step_frame};
pub use self::reader::Malformed;
pub use self::split::Splitter;

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
mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const ALIVE: u8 = 2;
    pub(super) const STEP: u8 = 3;
    pub(super) const ENDS: u8 = 4;
}

/// Writes a frame whose content `put` appends.
fn framed(kind: u8, put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 0, kind];
    put(&mut frame);
    let length = u32::try_from(frame.len() - 4).expect("a frame is far below 4 GiB");
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame
}

#[cfg(test)]
mod tests;
