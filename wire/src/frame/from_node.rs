//! What a node sends.

use souk_protocol::{Digest, JobEvent, JobId, NodeId, PoolId, RequestId};

use super::event::{NO_EVENT, in_parts, put_event, read_event};
use super::reader::{Malformed, Reader, put_number, put_text};
use super::words::{FlowId, MAX_ID_BYTES, MAX_SAYINGS, framed, kind};

const OPEN: u8 = NO_EVENT;
const HAND_OVER: u8 = NO_EVENT + 1;
const LEAVE: u8 = NO_EVENT + 2;

/// A frame of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum FromNode {
    /// Who it is; the first frame, and only that.
    Hello(NodeHello),
    /// It lives.
    Alive,
    /// What a step of its engine brought, of all flows of this stream in their order.
    Step(Vec<Said>),
}

/// Who dials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeHello {
    /// The version of the frames that it speaks.
    pub version: u16,
    /// The node, as it is known in the queue.
    pub node: NodeId,
    /// Its base model.
    pub pool: PoolId,
    /// Which of its streams this is. Grows with each, so that one which comes late cannot take the place of a newer one.
    pub stream: u64,
}

/// Something in a flow.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// The flow.
    pub flow: FlowId,
    /// What is said in it.
    pub saying: Saying,
}

/// See [`Said`].
#[derive(Clone, Debug, PartialEq)]
pub enum Saying {
    /// The flow begins: the node holds this attempt.
    Open {
        /// The job.
        job: JobId,
        /// Which delivery of it, from 1.
        attempt: u32,
    },
    /// An event of the attempt.
    Event(JobEvent),
    /// The node lets go of the attempt, which has not ended: the gateway is to have another node go on.
    HandOver,
    /// The node says no more of the attempt; the queue will hear from it what becomes of the job.
    Leave,
}

impl FromNode {
    /// The whole frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello(hello) => framed(kind::HELLO, |to| {
                to.extend_from_slice(&hello.version.to_le_bytes());
                put_text(to, hello.node.as_str(), MAX_ID_BYTES);
                to.extend_from_slice(hello.pool.0.as_bytes());
                to.extend_from_slice(&hello.stream.to_le_bytes());
            }),
            Self::Alive => framed(kind::ALIVE, |_| {}),
            Self::Step(said) => step_frame(|to| said.iter().for_each(|said| put_saying(to, said.flow, &said.saying))),
        }
    }

    /// Reads what [`Splitter`](super::Splitter) has cut out: a kind and its content.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(frame: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(frame);
        let frame = match from.byte("a frame's kind")? {
            kind::HELLO => Self::Hello(NodeHello {
                version: u16::from_le_bytes(from.array("a version")?),
                node: NodeId::from_stored(from.text("a node's id", MAX_ID_BYTES)?),
                pool: PoolId(Digest::from_bytes(from.array("a base model's digest")?)),
                stream: u64::from_le_bytes(from.array("a stream's number")?),
            }),
            kind::ALIVE => Self::Alive,
            kind::STEP => {
                let mut said = Vec::new();
                while !from.is_empty() {
                    if said.len() == MAX_SAYINGS {
                        let (what, given) = ("a step frame", MAX_SAYINGS as u64 + 1);
                        return Err(Malformed::TooLong { what, given, limit: MAX_SAYINGS });
                    }
                    said.push(read_said(&mut from)?);
                }
                Self::Step(said)
            }
            given => return Err(Malformed::Value { what: "the kind of a node's frame", given: given.into() }),
        };
        from.end().map(|()| frame)
    }
}

/// A step frame of what `put` appends with [`put_saying`].
pub fn step_frame(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    framed(kind::STEP, put)
}

/// Appends what is said in a flow to the content of a step frame.
pub fn put_saying(to: &mut Vec<u8>, flow: FlowId, saying: &Saying) {
    match saying {
        Saying::Open { job, attempt } => {
            put_number(to, flow.0);
            to.push(OPEN);
            put_text(to, job.request.as_str(), MAX_ID_BYTES);
            put_number(to, job.index);
            put_number(to, *attempt);
        }
        Saying::Event(event) => in_parts(event, |event| {
            put_number(to, flow.0);
            put_event(to, event);
        }),
        Saying::HandOver | Saying::Leave => {
            put_number(to, flow.0);
            to.push(if *saying == Saying::HandOver { HAND_OVER } else { LEAVE });
        }
    }
}

fn read_said(from: &mut Reader<'_>) -> Result<Said, Malformed> {
    let flow = FlowId(from.number("a flow's number")?);
    let saying = match from.byte("the kind of an event")? {
        OPEN => {
            let request = RequestId::from_stored(from.text("a request's id", MAX_ID_BYTES)?);
            let job = JobId { request, index: from.number("the index of a job")? };
            Saying::Open { job, attempt: from.number("the number of an attempt")? }
        }
        HAND_OVER => Saying::HandOver,
        LEAVE => Saying::Leave,
        kind => Saying::Event(read_event(kind, from)?),
    };
    Ok(Said { flow, saying })
}
