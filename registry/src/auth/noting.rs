//! Noting that something was used, without making who uses it wait.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use sea_orm::DbErr;

/// The ids of what is being noted, so that a burst of requests writes once. Locked without an await.
#[derive(Clone, Default)]
pub(crate) struct Noting(Arc<Mutex<HashSet<String>>>);

impl Noting {
    /// Notes a use in the background, unless that is under way. Losing it costs a list entry its freshness, no more.
    pub(crate) fn note(&self, id: &str, note: impl Future<Output = Result<(), DbErr>> + Send + 'static) {
        let (noting, id) = (self.clone(), id.to_owned());
        if !noting.ids().insert(id.clone()) {
            return;
        }
        tokio::spawn(async move {
            if let Err(error) = note.await {
                tracing::warn!(id, %error, "The last use of {id} could not be noted");
            }
            noting.ids().remove(&id);
        });
    }

    fn ids(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
