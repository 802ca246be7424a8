//! What a gateway sends.

use std::time::Duration;

use souk_protocol::GatewayId;

use super::reader::{Malformed, Reader, put_number, put_text};
use super::words::{FlowId, MAX_ID_BYTES, framed, kind};

/// A frame of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromGateway {
    /// Who it is; the first frame, and only that.
    Hello(GatewayHello),
    /// It lives.
    Alive,
    /// Flows that are over.
    Ends(Vec<(FlowId, FlowEnd)>),
}

/// Who is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayHello {
    /// The version of the frames that both will speak.
    pub version: u16,
    /// The gateway, as it is known in the queue.
    pub gateway: GatewayId,
    /// Of a node that is silent for so long the gateway takes its jobs back; whole milliseconds.
    pub silence: Duration,
}

/// How a flow ended at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEnd {
    /// All of it was taken, the last event too.
    Complete,
    /// Nobody reads it: the client left, a later attempt took over, or nobody knows the job.
    Unwanted,
    /// The gateway has the job delivered anew.
    TakenBack,
}

impl FlowEnd {
    const ALL: [Self; 3] = [Self::Complete, Self::Unwanted, Self::TakenBack];
}

impl FromGateway {
    /// The whole frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello(hello) => framed(kind::HELLO, |to| {
                to.extend_from_slice(&hello.version.to_le_bytes());
                put_text(to, hello.gateway.as_str(), MAX_ID_BYTES);
                put_number(to, u32::try_from(hello.silence.as_millis()).unwrap_or(u32::MAX));
            }),
            Self::Alive => framed(kind::ALIVE, |_| {}),
            Self::Ends(ends) => framed(kind::ENDS, |to| {
                for (flow, end) in ends {
                    put_number(to, flow.0);
                    to.push(*end as u8);
                }
            }),
        }
    }

    /// Reads what [`Splitter`](super::Splitter) has cut out: a kind and its content.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(frame: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(frame);
        let frame = match from.byte("a frame's kind")? {
            kind::HELLO => Self::Hello(GatewayHello {
                version: u16::from_le_bytes(from.array("a version")?),
                gateway: GatewayId::from_stored(from.text("a gateway's id", MAX_ID_BYTES)?),
                silence: Duration::from_millis(from.number("the limit of silence")?.into()),
            }),
            kind::ALIVE => Self::Alive,
            kind::ENDS => {
                let mut ends = Vec::new();
                while !from.is_empty() {
                    let flow = FlowId(from.number("a flow's number")?);
                    let (what, given) = ("the end of a flow", from.byte("the end of a flow")?);
                    let end = FlowEnd::ALL.get(usize::from(given)).copied();
                    ends.push((flow, end.ok_or(Malformed::Value { what, given: given.into() })?));
                }
                Self::Ends(ends)
            }
            given => return Err(Malformed::Value { what: "the kind of a gateway's frame", given: given.into() }),
        };
        from.end().map(|()| frame)
    }
}
