//! Threads that stand back for those that compute.

use std::io;

use tokio::sync::oneshot;

/// How far a thread stands back, in steps of `nice` below the process: a step is about a fifth less of a busy core.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StandBack {
    /// A request waits for it: beside compute threads on every core it still gets about a quarter of one.
    Somewhat = 5,
    /// Nobody waits for it: about a tenth.
    Far = 10,
}

/// The lowest priority that there is.
#[cfg(target_os = "linux")]
const LOWEST: i32 = 19;

/// Lowers the priority of the calling thread, for good: without a privilege there is no way back, so it must be a
/// thread for this work alone. Everybody may lower it; where a sandbox forbids it, and elsewhere than on Linux, where
/// priorities belong to processes, the thread stays as it is.
pub(crate) fn yield_to_others(by: StandBack) {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let lowered = getpriority_process(None)
            .and_then(|priority| setpriority_process(None, (priority + by as i32).min(LOWEST)));
        if let Err(error) = lowered {
            tracing::debug!(%error, "a background thread keeps its priority");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = by;
}

/// Lowers the priority of the calling thread somewhat, for good: for threads that compile.
pub fn stand_back_somewhat() {
    yield_to_others(StandBack::Somewhat);
}

/// Does work that a request waits for, and that blocks or computes for milliseconds, on a thread of its own that stands
/// back somewhat. The runtime's own threads cannot be used: one whose priority was lowered would keep it for the next
/// work. The caller bounds how many run at once.
///
/// # Errors
/// If there is no thread to be had, or the work panicked.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    #[cfg(test)]
    let running = tests::Running::begin();
    std::thread::Builder::new().name("souk-background".to_owned()).spawn(move || {
        yield_to_others(StandBack::Somewhat);
        // Nobody listens any more: then nobody needs it.
        let _ = done.send(work());
        #[cfg(test)]
        drop(running);
    })?;
    result.await.map_err(|_| io::Error::other("the work was broken off"))
}

/// How much work is under way in the process.
#[cfg(test)]
pub(crate) fn num_running() -> usize {
    tests::RUNNING.load(std::sync::atomic::Ordering::SeqCst)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    pub(super) static RUNNING: AtomicUsize = AtomicUsize::new(0);

    /// Work that is under way, until it is dropped.
    pub(super) struct Running;

    impl Running {
        pub(super) fn begin() -> Self {
            RUNNING.fetch_add(1, Ordering::SeqCst);
            Self
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            RUNNING.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn what_the_work_returns_comes_back_and_a_panic_is_an_error() {
        assert_eq!(run(|| 7).await.unwrap(), 7);
        let panicked = run(|| panic!("on purpose")).await;
        assert!(panicked.unwrap_err().to_string().contains("broken off"));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_work_runs_at_a_lower_priority_and_the_caller_keeps_its_own() {
        use rustix::process::{getpriority_process, setpriority_process};
        // The tests may run at the lowest priority; only a privileged user gets away from it.
        let _ = setpriority_process(None, 0);
        let own = getpriority_process(None).unwrap();
        let inside = run(|| (getpriority_process(None).unwrap(), std::thread::current().name().map(str::to_owned)));
        assert_eq!(inside.await.unwrap(), ((own + 5).min(LOWEST), Some("souk-background".to_owned())));
        let twice = run(|| {
            yield_to_others(StandBack::Far);
            yield_to_others(StandBack::Far);
            getpriority_process(None).unwrap()
        });
        assert_eq!(twice.await.unwrap(), LOWEST, "further down there is nothing");
        assert_eq!(getpriority_process(None).unwrap(), own);
    }
}
