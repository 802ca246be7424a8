//! The jobs of a request whose answers are sent together, after the last of them: until then each may still come to nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use souk_protocol::Outcome;

use super::one::Reply;

/// Replies that are complete and not sent. Clones share them; with the last their jobs are settled.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    replies: Vec<Reply>,
    /// How all count, once a hook has ended the request.
    failed: Option<Outcome>,
}

impl Kept {
    /// Keeps a complete reply.
    pub(crate) fn keep(&self, reply: Reply) {
        self.lock().replies.push(reply);
    }

    /// A hook has failed, or refused an answer, and nobody gets any of them.
    pub(crate) fn fail(&self, outcome: Outcome) {
        let mut state = self.lock();
        state.failed.get_or_insert(outcome);
        let replies = std::mem::take(&mut state.replies);
        drop(state);
        for mut reply in replies {
            reply.ended_by_hook(outcome);
        }
    }

    /// How a reply counts that is let go of before it is complete, if a hook has ended the request.
    pub(crate) fn failed(&self) -> Option<Outcome> {
        self.lock().failed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
