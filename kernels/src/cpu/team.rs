//! A persistent team of threads that runs one fork-join job at a time.
//!
//! # Protocol
//!
//! Everything that decides who may touch a job is one 64-bit word, `TeamState::gate`:
//!
//! ```text
//! bits 63..17  epoch    grows by one per job, so that an old value is never taken for a new one
//! bit  16      open     workers may enter
//! bits 15..0   inside   number of workers that are in the job now
//! ```
//!
//! 1. The caller finds the gate closed with nobody inside (it left it so), writes the job, and stores
//!    `(epoch + 1, open, 0)` with release order. If a worker is parked it is woken.
//! 2. A worker that sees an open gate of an epoch it has not yet served enters by compare-and-swap `inside + 1`. It
//!    then takes chunks until none is left, and leaves by subtracting one.
//! 3. The caller takes chunks as well. When none is left it clears `open`: from here no worker can enter, because its
//!    compare-and-swap expects an open gate of this epoch. The caller waits only for those inside.
//!
//! So a worker whose core was taken away before it entered is never waited for, and no worker can hold the closure
//! after [`Team::run`] has returned. A panic in a chunk is caught where it happens, the remaining chunks are given up,
//! and the first payload is thrown again in the caller.
//!
//! # Who does which chunk
//!
//! Each thread has a range of the chunks as its own: the first thread the first chunks, and so on. It takes them from
//! the front; one that has none left takes those of others from the back. Ops number their chunks by rows, so that from
//! op to op a row stays in the caches of one core, as long as every thread keeps up, and no thread waits for one that
//! does not. On two cores without a cache in common a step of sixteen rows takes a quarter longer otherwise
//! (docs/kernels.md).
//!
//! Idle workers spin for [`SPIN_IDLE`] (or [`SPIN_STEP`] while a step is under way, when the next job is near), then
//! park.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker looks for a job before it parks.
const SPIN_IDLE: Duration = Duration::from_micros(50);
/// The same while a step is under way; bounds what a caller that dawdles inside a step can burn.
const SPIN_STEP: Duration = Duration::from_millis(2);
/// How often caller and workers pause, some 40 us, before they yield their core to one another: on a machine with other
/// work the one who is waited for may be waiting for this very core.
const PAUSES_BEFORE_YIELD: u32 = 2_000;

const OPEN: u64 = 1 << 16;
const INSIDE: u64 = OPEN - 1;
const EPOCH_STEP: u64 = OPEN << 1;

/// The greatest team: `inside` has 16 bits.
pub(crate) const MAX_THREADS: usize = 1 << 10;

/// A chunk's work: the argument is the chunk's number.
type Body<'a> = &'a (dyn Fn(usize) + Sync);

/// The job as workers see it. The lifetime of the body is erased; the gate restores it (see the module's text).
#[derive(Clone, Copy)]
struct Job {
    body: *const (dyn Fn(usize) + Sync),
}

/// The chunks `first .. end` in one word, so that both ends move in one operation.
fn pack(first: u32, end: u32) -> u64 {
    u64::from(first) << 32 | u64::from(end)
}

/// Keeps a counter on cache lines of its own, so that taking chunks does not slow down those who watch the gate.
#[repr(align(128))]
struct Padded<T>(T);

struct TeamState {
    gate: Padded<AtomicU64>,
    /// For each thread, the chunks that are left of its own: [`pack`]ed.
    ranges: Vec<Padded<AtomicU64>>,
    job: UnsafeCell<Option<Job>>,
    step_depth: AtomicUsize,
    num_parked: AtomicUsize,
    closing: AtomicBool,
    doorbell: Mutex<()>,
    ring: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written only by the caller while the gate is closed with nobody inside, and read only by workers
// that have entered an open gate, whose acquire pairs with the caller's release. The body it points to is `Sync`.
unsafe impl Sync for TeamState {}
// SAFETY: as above; the raw pointer in `job` is only followed between entering and leaving the gate.
unsafe impl Send for TeamState {}

/// A team of threads with the caller as one of its members.
pub(crate) struct Team {
    shared: Arc<TeamState>,
    workers: Vec<JoinHandle<()>>,
}

impl Team {
    /// A team of `num_threads` threads in all; the caller is one, so `num_threads - 1` are started.
    pub(crate) fn new(num_threads: usize) -> Team {
        let num_threads = num_threads.clamp(1, MAX_THREADS);
        let shared = Arc::new(TeamState {
            gate: Padded(AtomicU64::new(0)),
            ranges: (0..num_threads).map(|_| Padded(AtomicU64::new(0))).collect(),
            job: UnsafeCell::new(None),
            step_depth: AtomicUsize::new(0),
            num_parked: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            doorbell: Mutex::new(()),
            ring: Condvar::new(),
            panic: Mutex::new(None),
        });
        let workers = (1..num_threads)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                let name = format!("souk-kernels-{index}");
                // A machine that gives no more threads still has a working, smaller team.
                std::thread::Builder::new().name(name).spawn(move || shared.serve(index)).ok()
            })
            .collect();
        Team { shared, workers }
    }

    /// How many threads work on a job, the caller counted.
    pub(crate) fn num_threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Wakes the workers and makes them wait longer for the next job, until [`Team::end_step`].
    pub(crate) fn begin_step(&self) {
        self.shared.step_depth.fetch_add(1, Ordering::SeqCst);
        self.shared.wake();
    }

    /// Ends what [`Team::begin_step`] began.
    pub(crate) fn end_step(&self) {
        self.shared.step_depth.fetch_sub(1, Ordering::SeqCst);
    }

    /// Runs `body(0) .. body(num_chunks - 1)`, each once, and returns when all have ended. Must not be called by two
    /// threads at once, nor from inside a body: `Cpu`, which owns the team, is not `Sync`.
    ///
    /// # Panics
    /// With more than `u32::MAX` chunks, and when a body panics.
    pub(crate) fn run(&self, num_chunks: usize, body: Body<'_>) {
        assert!(u32::try_from(num_chunks).is_ok(), "{num_chunks} chunks");
        if self.workers.is_empty() || num_chunks <= 1 {
            (0..num_chunks).for_each(body);
            return;
        }
        let shared = &*self.shared;
        shared.open(num_chunks, body);
        let result = catch_unwind(AssertUnwindSafe(|| shared.take_chunks(0, body)));
        if result.is_err() {
            shared.give_up();
        }
        shared.close();
        if let Err(payload) = result {
            lock(&shared.panic).take();
            resume_unwind(payload);
        }
        if let Some(payload) = shared.take_panic() {
            resume_unwind(payload);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.wake();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of chunks, so it has none of its own to report.
            let _ = worker.join();
        }
    }
}

impl TeamState {
    /// Step 1 of the protocol.
    fn open(&self, num_chunks: usize, body: Body<'_>) {
        let body: *const (dyn Fn(usize) + Sync + '_) = body;
        // SAFETY: only the lifetime changes. `close` returns after the last worker has left, and no worker follows the
        // pointer after leaving, so the body outlives every use.
        let body = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(body)
        };
        // SAFETY: the gate is closed and nobody is inside: `close` left it so, and only the caller opens it.
        unsafe { *self.job.get() = Some(Job { body }) };
        let num_threads = self.ranges.len();
        for (thread, range) in self.ranges.iter().enumerate() {
            let part = |thread: usize| (num_chunks * thread / num_threads) as u32;
            range.0.store(pack(part(thread), part(thread + 1)), Ordering::Relaxed);
        }
        let epoch = self.gate.0.load(Ordering::Relaxed) & !(OPEN | INSIDE);
        self.gate.0.store(epoch.wrapping_add(EPOCH_STEP) | OPEN, Ordering::SeqCst);
        self.wake();
    }

    /// Step 3: nobody can enter any more; waits for those inside.
    fn close(&self) {
        let mut gate = self.gate.0.fetch_and(!OPEN, Ordering::AcqRel);
        let mut num_pauses = 0;
        while gate & INSIDE != 0 {
            num_pauses += 1;
            if num_pauses < PAUSES_BEFORE_YIELD {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
            gate = self.gate.0.load(Ordering::Acquire);
        }
    }

    /// Takes chunks until none is left: first those of `thread`, then what the others have not got to.
    fn take_chunks(&self, thread: usize, body: Body<'_>) {
        while let Some(chunk) = self.take(thread, |first, end| (first, pack(first + 1, end))) {
            body(chunk);
        }
        for other in (thread + 1..self.ranges.len()).chain(0..thread) {
            while let Some(chunk) = self.take(other, |first, end| (end - 1, pack(first, end - 1))) {
                body(chunk);
            }
        }
    }

    /// Takes a chunk of what is left of `thread`'s: `choose` gives it and the rest.
    fn take(&self, thread: usize, choose: impl Fn(u32, u32) -> (u32, u64)) -> Option<usize> {
        let mut taken = 0;
        let rest = |range: u64| {
            let (first, end) = ((range >> 32) as u32, range as u32);
            (first < end).then(|| {
                let (chunk, rest) = choose(first, end);
                taken = chunk;
                rest
            })
        };
        let range = &self.ranges[thread].0;
        range.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).ok().map(|_| taken as usize)
    }

    /// Lets nobody take another chunk of this job.
    fn give_up(&self) {
        self.ranges.iter().for_each(|range| range.0.store(0, Ordering::Relaxed));
    }

    /// The panic that a worker met in the job that has just been closed.
    fn take_panic(&self) -> Option<Box<dyn Any + Send>> {
        lock(&self.panic).take()
    }

    /// Wakes parked workers. Sequential consistency of this load and of the store before it (a gate, a flag) pairs with
    /// `park`: either we see the parked worker, or it sees what we stored.
    fn wake(&self) {
        if self.num_parked.load(Ordering::SeqCst) > 0 {
            let _guard = lock(&self.doorbell);
            self.ring.notify_all();
        }
    }

    /// The life of a worker.
    fn serve(&self, thread: usize) {
        let mut served = 0;
        while let Some(epoch) = self.next_epoch(served) {
            served = epoch;
            if self.enter(epoch) {
                self.work(thread);
                self.gate.0.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    /// Step 2: enters if the gate is still open for `epoch`.
    fn enter(&self, epoch: u64) -> bool {
        self.gate
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |gate| {
                (gate & !INSIDE == epoch | OPEN).then_some(gate + 1)
            })
            .is_ok()
    }

    /// Works on the job that was entered; keeps a panic for the caller.
    fn work(&self, thread: usize) {
        // SAFETY: we are inside, so the caller does not write the job, and it wrote one before it opened the gate.
        let Some(job) = (unsafe { *self.job.get() }) else { return };
        // SAFETY: the caller's `run` does not return before we leave, so the body is alive.
        let body = unsafe { &*job.body };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.take_chunks(thread, body))) {
            self.give_up();
            lock(&self.panic).get_or_insert(payload);
        }
    }

    /// Waits for an open gate of another epoch than `served`; `None` when the team is being dropped.
    fn next_epoch(&self, served: u64) -> Option<u64> {
        loop {
            let since = Instant::now();
            for pause in 1_u32.. {
                if self.closing.load(Ordering::Relaxed) {
                    return None;
                }
                if let Some(epoch) = self.open_epoch(served) {
                    return Some(epoch);
                }
                std::hint::spin_loop();
                // Reading the clock costs as much as several looks at the gate.
                if pause.is_multiple_of(64) {
                    let in_step = self.step_depth.load(Ordering::Relaxed) > 0;
                    if since.elapsed() > if in_step { SPIN_STEP } else { SPIN_IDLE } {
                        break;
                    }
                    if pause > PAUSES_BEFORE_YIELD {
                        std::thread::yield_now();
                    }
                }
            }
            self.park(served);
        }
    }

    /// The gate's epoch if it is open and not yet served.
    fn open_epoch(&self, served: u64) -> Option<u64> {
        let gate = self.gate.0.load(Ordering::SeqCst);
        let epoch = gate & !(OPEN | INSIDE);
        (gate & OPEN != 0 && epoch != served).then_some(epoch)
    }

    /// Sleeps until someone calls `wake` after there is something to see.
    fn park(&self, served: u64) {
        let guard = lock(&self.doorbell);
        self.num_parked.fetch_add(1, Ordering::SeqCst);
        if self.open_epoch(served).is_none() && !self.closing.load(Ordering::SeqCst) {
            // A spurious or a late wake only costs one more round of spinning.
            drop(self.ring.wait(guard).unwrap_or_else(PoisonError::into_inner));
        }
        self.num_parked.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Locks; a panic elsewhere leaves nothing half-written in what these mutexes guard.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
