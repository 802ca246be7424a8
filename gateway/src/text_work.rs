//! Where texts are worked on that take long: a large body that is parsed, a long prompt that is encoded, a stranger's
//! template that is compiled and rendered.
//!
//! It happens on threads that may block, and for each tenant on one of them at a time: texts wait behind those of the
//! same tenant alone, and whatever one tenant sends, the engine and the others have the rest of the machine.
//!
//! What happens when: a client that leaves while its text waits gives up its turn; work that has begun goes on to its
//! end and keeps the turn until then, since a thread cannot be stopped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use souk_protocol::{JobFailure, TenantId};
use tokio::sync::Semaphore;

use crate::error::ApiError;

/// Texts up to this long are worked on where they are, which saves a change of threads. Encoding 8 KiB takes well under
/// a millisecond.
const INLINE_BYTES: usize = 8 << 10;

/// The turns of all tenants.
pub(crate) struct TextWork {
    /// Of those that have work. Locked for a look-up, never across an await.
    turns: Mutex<HashMap<TenantId, Weak<Semaphore>>>,
    /// Longest wait for a turn.
    timeout: Duration,
}

/// The work on one tenant's texts.
#[derive(Clone, Copy)]
pub(crate) struct TenantTexts<'a> {
    work: &'a TextWork,
    tenant: &'a TenantId,
}

impl TextWork {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { turns: Mutex::default(), timeout }
    }

    pub(crate) const fn of<'a>(&'a self, tenant: &'a TenantId) -> TenantTexts<'a> {
        TenantTexts { work: self, tenant }
    }

    fn turn(&self, tenant: &TenantId) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(tenant).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(Semaphore::new(1));
        turns.insert(tenant.clone(), Arc::downgrade(&turn));
        turn
    }
}

impl TenantTexts<'_> {
    /// Does what takes as long as encoding so many bytes: at once where they are few, else in turn.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        num_bytes: usize,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        if num_bytes <= INLINE_BYTES { work() } else { self.run_apart(work).await }
    }

    /// Does what may take long, in turn.
    pub(crate) async fn run_apart<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = tokio::time::timeout(self.work.timeout, self.work.turn(self.tenant).acquire_owned()).await;
        let turn = turn.map_err(|_| ApiError::Job(JobFailure::DeadlineExceeded))?.map_err(ApiError::internal)?;
        let in_turn = move || {
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(in_turn).await.map_err(ApiError::internal)?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn tenant(name: &str) -> TenantId {
        TenantId::from_stored(name)
    }

    /// Begins work of a tenant that ends when the sender is dropped, and waits until it runs.
    async fn busy(work: &Arc<TextWork>, name: &str) -> (mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
        let (end, ended) = mpsc::channel::<()>();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (work, tenant) = (Arc::clone(work), tenant(name));
        let running = tokio::spawn(async move {
            let wait = move || {
                let _ = begun.send(());
                let _ = ended.recv();
                Ok(())
            };
            work.of(&tenant).run_apart(wait).await.unwrap();
        });
        has_begun.await.unwrap();
        (end, running)
    }

    #[tokio::test]
    async fn a_text_waits_behind_those_of_its_own_tenant_alone() {
        let work = Arc::new(TextWork::new(LONG));
        let (end, running) = busy(&work, "many").await;
        let (many, few) = (tenant("many"), tenant("few"));
        let second = work.of(&many).run_apart(|| Ok(2));
        tokio::pin!(second);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut second).await.is_err(), "it waits");
        assert_eq!(work.of(&few).run_apart(|| Ok(3)).await.unwrap(), 3);
        assert_eq!(work.of(&many).run(INLINE_BYTES, || Ok(4)).await.unwrap(), 4, "a short one does not wait");
        drop(end);
        assert_eq!(second.await.unwrap(), 2);
        running.await.unwrap();
    }

    #[tokio::test]
    async fn who_leaves_gives_up_a_turn_that_has_not_come_and_keeps_one_whose_work_has_begun() {
        let work = Arc::new(TextWork::new(LONG));
        let many = tenant("many");
        let (end, running) = busy(&work, "many").await;
        running.abort();
        let wait = work.of(&many).run_apart(|| Ok(()));
        assert!(tokio::time::timeout(Duration::from_millis(20), wait).await.is_err(), "the work goes on");
        drop(end);
        work.of(&many).run_apart(|| Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn the_wait_for_a_turn_has_an_end() {
        let work = Arc::new(TextWork::new(Duration::from_millis(20)));
        let (_end, _running) = busy(&work, "many").await;
        let error = work.of(&tenant("many")).run_apart(|| Ok(())).await.unwrap_err();
        assert_eq!(error.status(), axum::http::StatusCode::GATEWAY_TIMEOUT);
    }

    #[tokio::test]
    async fn tenants_without_work_are_forgotten() {
        let work = TextWork::new(LONG);
        for number in 0..100 {
            work.of(&tenant(&number.to_string())).run_apart(|| Ok(())).await.unwrap();
        }
        assert!(work.turns.lock().unwrap().len() <= 2);
    }
}
