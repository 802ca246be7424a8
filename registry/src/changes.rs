//! Notes that rights or adapters may have changed, for whoever keeps answers about them for a moment.
//!
//! A change is noted once it is committed and before its caller hears of it: after every request that is no read, and
//! with every withdrawal, this registry's own and others'. What other registries change beside withdrawals is not noted,
//! so answers are kept for no longer than a second.

use std::sync::Arc;

use tokio::sync::watch;

/// Counts changes. Clones count the same.
#[derive(Clone, Debug)]
pub(crate) struct Changes(Arc<watch::Sender<u64>>);

/// Notes a change when it is dropped, however the request ended that may have made one.
pub(crate) struct NoteOnDrop(Changes);

impl Changes {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// How many there were. What was asked for under a number is worth nothing under another.
    pub(crate) fn number(&self) -> u64 {
        *self.0.borrow()
    }

    /// Something may have changed.
    pub(crate) fn note(&self) {
        self.0.send_modify(|number| *number = number.wrapping_add(1));
    }

    pub(crate) fn note_on_drop(&self) -> NoteOnDrop {
        NoteOnDrop(self.clone())
    }

    /// Hears of changes from now on.
    pub(crate) fn listen(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

impl Drop for NoteOnDrop {
    fn drop(&mut self) {
        self.0.note();
    }
}
