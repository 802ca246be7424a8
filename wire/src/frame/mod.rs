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
mod words;

pub use self::from_gateway::{FlowEnd, FromGateway, GatewayHello};
pub use self::from_node::{FromNode, NodeHello, Said, Saying, put_saying, step_frame};
pub use self::reader::Malformed;
pub use self::split::Splitter;
pub use self::words::{
    FlowId, MAX_EVENT_TOKENS, MAX_FAILURE_BYTES, MAX_FRAME_BYTES, MAX_ID_BYTES, MAX_SAYINGS, OLDEST_VERSION,
    STEP_FRAME_BYTES, VERSION,
};

#[cfg(test)]
mod tests;
