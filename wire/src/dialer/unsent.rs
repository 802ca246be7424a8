//! What waits on a node for its way to one gateway.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::frame::{FlowId, STEP_FRAME_BYTES, Saying, put_saying, step_frame};

/// What waits for its way: whole frames, and the one that is being filled.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    frames: VecDeque<Bytes>,
    num_bytes: usize,
    content: Vec<u8>,
}

impl Unsent {
    pub(super) fn push(&mut self, flow: FlowId, saying: &Saying) {
        put_saying(&mut self.content, flow, saying);
        if self.content.len() >= STEP_FRAME_BYTES {
            self.end_frame();
        }
    }

    /// Bytes that wait.
    pub(super) fn num_bytes(&self) -> usize {
        self.num_bytes + self.content.len()
    }

    /// The next frame; the last of them has all that was pushed until now.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        if self.frames.is_empty() {
            self.end_frame();
        }
        let frame = self.frames.pop_front()?;
        self.num_bytes -= frame.len();
        Some(frame)
    }

    fn end_frame(&mut self) {
        if self.content.is_empty() {
            return;
        }
        let frame = step_frame(|to| to.extend_from_slice(&self.content));
        // Its room is kept for the next step, unless this one was the exception.
        self.content.clear();
        self.content.shrink_to(STEP_FRAME_BYTES);
        self.num_bytes += frame.len();
        self.frames.push_back(frame.into());
    }
}

#[cfg(test)]
mod tests {
    use souk_protocol::{JobEvent, TokenOut};

    use super::*;
    use crate::frame::{FromNode, MAX_FRAME_BYTES, Splitter};

    #[test]
    fn a_step_of_many_jobs_is_one_frame_and_a_long_wait_several() {
        let token =
            |offset| Saying::Event(JobEvent::Tokens { offset, tokens: vec![TokenOut { id: 40_000, logprobs: None }] });
        let mut unsent = Unsent::default();
        (0..64).for_each(|flow| unsent.push(FlowId(flow), &token(9)));
        assert!(unsent.pop().is_some() && unsent.pop().is_none());
        for offset in 0..1000 {
            (0..64).for_each(|flow| unsent.push(FlowId(flow), &token(offset)));
        }
        let num_bytes = unsent.num_bytes();
        let frames: Vec<_> = std::iter::from_fn(|| unsent.pop()).collect();
        assert!(frames.len() > 5 && num_bytes > 5 * STEP_FRAME_BYTES && unsent.num_bytes() == 0);
        let (mut splitter, mut count) = (Splitter::default(), 0);
        for frame in frames {
            assert!(frame.len() < MAX_FRAME_BYTES);
            splitter.push(&frame);
            let FromNode::Step(said) = FromNode::decode(&splitter.next_frame().unwrap().unwrap()).unwrap() else {
                panic!("a step frame");
            };
            count += said.len();
        }
        assert_eq!(count, 64_000);
    }
}
