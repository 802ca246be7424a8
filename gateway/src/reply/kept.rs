//! The jobs of a request whose answers are sent together, after the last of them: until then each may still come to nothing.

use std::sync::{Arc, Mutex, PoisonError};

use souk_protocol::Outcome;

use super::one::Reply;

/// Replies that are complete and not sent. Clones share them; with the last their jobs are settled.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<Reply>>>);

impl Kept {
    /// Keeps a complete reply.
    pub(crate) fn keep(&self, reply: Reply) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(reply);
    }

    /// A hook has failed, or refused an answer, and nobody gets any of them.
    pub(crate) fn fail(&self, outcome: Outcome) {
        let kept = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for mut reply in kept {
            reply.ended_by_hook(outcome);
        }
    }
}
