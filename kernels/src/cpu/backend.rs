//! The backend: an instruction set and threads, and how an op's work reaches them.

use std::cell::Cell;
use std::marker::PhantomData;

use crate::cpu::isa::simd::{Simd, Task};
use crate::cpu::isa::{Isa, scalar};
#[cfg(target_arch = "x86_64")]
use crate::cpu::isa::{avx2, avx512};
use crate::cpu::team::Team;
use crate::error::KernelError;

/// The backend: a persistent thread team and the instruction set, chosen once.
///
/// It can be sent to another thread but not shared by two: ops take `&Cpu` and one op runs at a time.
///
/// ```
/// let cpu = souk_kernels::cpu::Cpu::new(2);
/// let total = std::sync::atomic::AtomicUsize::new(0);
/// cpu.parallel(10, &|chunk| {
///     total.fetch_add(chunk, std::sync::atomic::Ordering::Relaxed);
/// });
/// assert_eq!(total.into_inner(), 45);
/// ```
pub struct Cpu {
    team: Team,
    isa: Isa,
    /// Not `Sync`: the team runs one job at a time.
    _one_caller: PhantomData<Cell<()>>,
}

impl Cpu {
    /// A team of `num_threads` (at least one, the caller counted) with the best instruction set of this machine.
    pub fn new(num_threads: usize) -> Cpu {
        Cpu { team: Team::new(num_threads), isa: Isa::best(), _one_caller: PhantomData }
    }

    /// The same with an instruction set of choice.
    pub fn with_isa(num_threads: usize, isa: Isa) -> Result<Cpu, KernelError> {
        if !isa.is_available() {
            return Err(KernelError::UnavailableIsa { isa });
        }
        Ok(Cpu { team: Team::new(num_threads), isa, _one_caller: PhantomData })
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The threads that work on an op, the caller counted.
    pub fn num_threads(&self) -> usize {
        self.team.num_threads()
    }

    /// Announces a step of many ops: while the guard lives, workers spin between ops (up to 2 ms) instead of parking.
    pub fn enter(&self) -> StepGuard<'_> {
        self.team.begin_step();
        StepGuard { cpu: self }
    }

    /// Runs `body` for every chunk number below `num_chunks`, on all threads, and returns when all have ended. A panic
    /// in a chunk is thrown again here.
    pub fn parallel(&self, num_chunks: usize, body: &(dyn Fn(usize) + Sync)) {
        self.team.run(num_chunks, body);
    }

    /// Runs a kernel's chunks on the team, compiled for this instruction set.
    pub(crate) fn launch<K: Kernel>(&self, num_chunks: usize, kernel: &K) {
        match self.isa {
            Isa::Scalar => self.launch_as(scalar::Scalar, num_chunks, kernel),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                // SAFETY: `isa` is only ever one that `is_available` confirmed.
                let simd = unsafe { avx2::Avx2::assume_available() };
                self.launch_as(simd, num_chunks, kernel);
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                // SAFETY: as above.
                let simd = unsafe { avx512::Avx512::assume_available() };
                self.launch_as(simd, num_chunks, kernel);
            }
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => self.launch_as(scalar::Scalar, num_chunks, kernel),
        }
    }

    fn launch_as<S: Simd, K: Kernel>(&self, simd: S, num_chunks: usize, kernel: &K) {
        self.team.run(num_chunks, &|chunk| simd.call(Chunk { kernel, chunk }));
    }
}

/// Runs a task on the calling thread alone, compiled for an instruction set.
pub(crate) fn call<T: Task>(isa: Isa, task: T) -> Result<T::Output, KernelError> {
    if !isa.is_available() {
        return Err(KernelError::UnavailableIsa { isa });
    }
    Ok(match isa {
        Isa::Scalar => scalar::Scalar.call(task),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `is_available` has confirmed it just now.
        Isa::Avx2 => unsafe { avx2::Avx2::assume_available() }.call(task),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 => unsafe { avx512::Avx512::assume_available() }.call(task),
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx2 | Isa::Avx512 => scalar::Scalar.call(task),
    })
}

/// Keeps the workers awake between the ops of a step. See [`Cpu::enter`].
pub struct StepGuard<'a> {
    cpu: &'a Cpu,
}

impl Drop for StepGuard<'_> {
    fn drop(&mut self) {
        self.cpu.team.end_step();
    }
}

/// An op's work, cut into chunks that any thread may take.
pub(crate) trait Kernel: Sync {
    /// Does one chunk. Implementations are `#[inline(always)]`.
    fn run_chunk<S: Simd>(&self, simd: S, chunk: usize);
}

struct Chunk<'a, K> {
    kernel: &'a K,
    chunk: usize,
}

impl<K: Kernel> Task for Chunk<'_, K> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        self.kernel.run_chunk(simd, self.chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_can_move_to_another_thread_and_two_may_exist() {
        let first = Cpu::new(2);
        let second = Cpu::with_isa(1, Isa::Scalar).expect("always there");
        let isa = std::thread::spawn(move || first.isa()).join().expect("no panic");
        assert!(isa >= second.isa());
    }

    #[test]
    fn the_best_instruction_set_comes_last() {
        let available = Isa::available();
        assert_eq!(available[0], Isa::Scalar);
        assert!(available.is_sorted());
        assert_eq!(Some(&Cpu::new(1).isa()), available.last());
    }
}
