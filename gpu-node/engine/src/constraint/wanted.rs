//! Whether somebody still waits for what is compiled: work that nobody waits for ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::ConstraintError;

/// Whether somebody waits for what is compiled.
pub(super) struct Wanted(Arc<AtomicBool>);

/// Somebody waits, until it is dropped.
pub(super) struct Want(Arc<AtomicBool>);

impl Wanted {
    pub(super) fn new() -> (Self, Want) {
        let is_wanted = Arc::new(AtomicBool::new(true));
        (Self(Arc::clone(&is_wanted)), Want(is_wanted))
    }

    /// To be asked between two pieces of work.
    pub(super) fn check(&self) -> Result<(), ConstraintError> {
        if self.0.load(Ordering::Relaxed) { Ok(()) } else { Err(ConstraintError::Left) }
    }
}

impl Drop for Want {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
