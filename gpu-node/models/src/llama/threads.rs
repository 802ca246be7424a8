//! The backend's threads as the port lends them out between steps.

use souk_kernels::cpu::Cpu;
use souk_runner::Threads;

/// A backend that lends its threads.
pub(super) struct CpuThreads(pub(super) Cpu);

impl Threads for CpuThreads {
    fn num_threads(&self) -> usize {
        self.0.num_threads()
    }

    fn for_each(&self, num_items: usize, work: &(dyn Fn(usize) + Sync)) {
        self.0.parallel(num_items, work);
    }
}
