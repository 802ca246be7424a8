//! Where texts are worked on that take long: a large body that is parsed, a long prompt that is encoded, a stranger's
//! template that is compiled and rendered.
//!
//! It happens on threads that may block, of which a gate lets a few work at once and each tenant on one: texts wait
//! behind those of the same tenant, and whatever one tenant sends, the engine and the others have the rest of the
//! machine. What one piece takes of memory is bounded, and so is what all take.
//!
//! What happens when: a client that leaves while its text waits leaves the line; work that has begun goes on to its end
//! and holds its place until then, since a thread cannot be stopped.

use std::time::Duration;

use souk_protocol::gate::{Gate, Rules};
use souk_protocol::{JobFailure, TenantId};

use crate::call::gates::Holder;
use crate::error::ApiError;

/// Texts up to this long are worked on where they are, which saves a change of threads. Encoding 8 KiB takes well under
/// a millisecond.
const INLINE_BYTES: usize = 8 << 10;

/// The places of all tenants.
pub(crate) struct TextWork {
    places: Gate<TenantId>,
    /// Longest wait for one.
    timeout: Duration,
}

/// The work on one tenant's texts.
#[derive(Clone, Copy)]
pub(crate) struct TenantTexts<'a> {
    work: &'a TextWork,
    holder: &'a Holder,
}

impl TextWork {
    /// Work on up to `most` texts at once.
    pub(crate) fn new(most: usize, timeout: Duration) -> Self {
        // A place is all that anybody may hold, so each that is free is for whoever has none: there is no further reserve.
        let rules = Rules { total: most as u64, reserve: 0, small: 1, most: 1 };
        Self { places: Gate::new(rules), timeout }
    }

    /// For the texts of a holder's tenant. It has one place, whatever it weighs: there is no share that could be larger.
    pub(crate) const fn of<'a>(&'a self, holder: &'a Holder) -> TenantTexts<'a> {
        TenantTexts { work: self, holder }
    }

    /// Texts that are worked on, and those that wait for it.
    pub(crate) fn load(&self) -> (u64, usize) {
        (self.places.used(), self.places.num_waiting())
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
        let Holder { tenant, weight } = self.holder;
        let place = self.work.places.wait_with_weight(tenant, 1, *weight, self.work.timeout).await;
        let place = place.map_err(|_| ApiError::Job(JobFailure::DeadlineExceeded))?;
        let in_turn = move || {
            let _place = place;
            work()
        };
        tokio::task::spawn_blocking(in_turn).await.map_err(ApiError::internal)?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use souk_protocol::gate::Weight;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn holder(name: &str) -> Holder {
        Holder { tenant: TenantId::from_stored(name), weight: Weight::USUAL }
    }

    /// Begins work of a tenant that ends when the sender is dropped, and waits until it runs.
    async fn busy(work: &Arc<TextWork>, name: &str) -> (mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
        let (end, ended) = mpsc::channel::<()>();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (work, holder) = (Arc::clone(work), holder(name));
        let running = tokio::spawn(async move {
            let wait = move || {
                let _ = begun.send(());
                let _ = ended.recv();
                Ok(())
            };
            work.of(&holder).run_apart(wait).await.unwrap();
        });
        has_begun.await.unwrap();
        (end, running)
    }

    #[tokio::test]
    async fn a_text_waits_behind_those_of_its_own_tenant_alone_whatever_that_weighs() {
        let work = Arc::new(TextWork::new(4, LONG));
        let (end, running) = busy(&work, "many").await;
        let (many, few) = (Holder { weight: Weight::MOST, ..holder("many") }, holder("few"));
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
    async fn what_is_long_is_never_done_by_the_thread_that_serves_others() {
        let (work, holder, here) = (TextWork::new(4, LONG), holder("acme"), std::thread::current().id());
        let place = |num_bytes: usize| work.of(&holder).run(num_bytes, || Ok(std::thread::current().id()));
        for num_bytes in [0, INLINE_BYTES] {
            assert_eq!(place(num_bytes).await.unwrap(), here, "{num_bytes}");
        }
        for num_bytes in [INLINE_BYTES + 1, 4 << 20] {
            assert_ne!(place(num_bytes).await.unwrap(), here, "{num_bytes}");
        }
        let apart = work.of(&holder).run_apart(|| Ok(std::thread::current().id()));
        assert_ne!(apart.await.unwrap(), here, "a stranger's template, however short");
    }

    #[tokio::test]
    async fn who_leaves_gives_up_a_turn_that_has_not_come_and_keeps_one_whose_work_has_begun() {
        let work = Arc::new(TextWork::new(4, LONG));
        let many = holder("many");
        let (end, running) = busy(&work, "many").await;
        running.abort();
        let wait = work.of(&many).run_apart(|| Ok(()));
        assert!(tokio::time::timeout(Duration::from_millis(20), wait).await.is_err(), "the work goes on");
        drop(end);
        work.of(&many).run_apart(|| Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn the_wait_for_a_turn_has_an_end() {
        let work = Arc::new(TextWork::new(4, Duration::from_millis(20)));
        let (_end, _running) = busy(&work, "many").await;
        let error = work.of(&holder("many")).run_apart(|| Ok(())).await.unwrap_err();
        assert_eq!(error.status(), axum::http::StatusCode::GATEWAY_TIMEOUT);
    }

    #[tokio::test]
    async fn no_more_are_worked_on_at_once_than_there_are_places() {
        let work = Arc::new(TextWork::new(2, LONG));
        let (first, one) = busy(&work, "one").await;
        let (_second, _two) = busy(&work, "two").await;
        let three = holder("three");
        let third = work.of(&three).run_apart(|| Ok(3));
        tokio::pin!(third);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut third).await.is_err(), "it waits");
        assert_eq!(work.load(), (2, 1));
        drop(first);
        assert_eq!(third.await.unwrap(), 3);
        one.await.unwrap();
    }
}
