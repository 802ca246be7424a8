//! What a figure means depends on where it was measured, and on how much of the machine the driver itself took.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The machine that the driver runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's name; empty where the system does not tell.
    pub(crate) cpu: String,
    /// Processors that this process may use.
    pub(crate) num_cpus: usize,
    pub(crate) system: String,
}

impl Machine {
    pub(crate) fn read() -> Self {
        let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu_info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map(|(_, name)| name.trim().to_owned())
            .unwrap_or_default();
        Self {
            cpu,
            num_cpus: std::thread::available_parallelism().map_or(1, usize::from),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

/// Processor time of this thread, which is the one that drives the load.
#[derive(Debug)]
pub(crate) struct CpuClock {
    start: Duration,
}

impl CpuClock {
    /// `None` where the system does not tell.
    pub(crate) fn start() -> Option<Self> {
        thread_time().map(|start| Self { start })
    }

    /// Part of one processor that this thread took in the `elapsed` time since the start.
    pub(crate) fn share_since(&self, elapsed: Duration) -> Option<f64> {
        let used = thread_time()?.checked_sub(self.start)?;
        (!elapsed.is_zero()).then(|| used.as_secs_f64() / elapsed.as_secs_f64())
    }
}

/// The first number of Linux's schedstat is the nanoseconds that the thread has run.
fn thread_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_busy_thread_takes_its_processor_and_a_sleeping_one_does_not() {
        let share = |work: fn()| {
            let (clock, start) = (CpuClock::start().unwrap(), Instant::now());
            work();
            clock.share_since(start.elapsed()).unwrap()
        };
        let asleep = share(|| std::thread::sleep(Duration::from_millis(60)));
        let busy = share(|| {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(60) {
                std::hint::spin_loop();
            }
        });
        assert!(asleep < 0.1 && busy > asleep, "{asleep} {busy}");
    }

    #[test]
    fn the_machine_has_a_processor() {
        assert!(Machine::read().num_cpus >= 1);
    }
}
