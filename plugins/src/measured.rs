//! What a call took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::words::LogLine;

/// What a call of a hook took, starting it included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// About one for each instruction.
    pub fuel: u64,
    /// Most memory that it had, all its parts together; of a stream's call since its beginning.
    pub peak_memory_bytes: u64,
    /// How often it called the host.
    pub num_host_calls: u32,
    /// Processor time.
    pub processor: Duration,
    /// What it wrote, where that is kept: in its owner's own calls.
    pub lines: Vec<LogLine>,
    /// Lines that it wrote beside those.
    pub num_dropped_lines: u32,
}

/// Counts the processor time of a call, from whichever thread it is on just now. Times are nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    spent: AtomicU64,
    /// The thread's time when the call's turn on it began.
    began: AtomicU64,
}

impl Meter {
    /// A turn begins on this thread.
    pub(crate) fn begin(&self) {
        self.began.store(thread_time(), Ordering::Relaxed);
    }

    /// The turn ends.
    pub(crate) fn end(&self) {
        self.spent.fetch_add(self.of_this_turn(), Ordering::Relaxed);
    }

    /// What was spent in turns that have ended.
    pub(crate) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Ordering::Relaxed))
    }

    /// With what was spent in the turn that is under way, which must be on this thread.
    pub(crate) fn spent_by_now(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Ordering::Relaxed) + self.of_this_turn())
    }

    fn of_this_turn(&self) -> u64 {
        thread_time().saturating_sub(self.began.load(Ordering::Relaxed))
    }
}

/// Processor time of this thread.
fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or_default() * 1_000_000_000 + nanoseconds.unwrap_or_default()
}
