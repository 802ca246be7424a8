//! What the system's allocator does with memory that was freed.

#![expect(unsafe_code, reason = "the C library's settings are reached by a call")]

/// Makes memory that is freed go back to the system, so that a server's memory is what it holds. To be called before
/// there are other threads.
///
/// By default glibc gives threads up to eight arenas for each core, and takes ever larger pieces from them instead of
/// from the system after the first large one was freed. Adapters and answers that come and go through many threads then
/// leave holes everywhere: under `make soak`, with 45 MB of the heap in use, a server of 306 MiB after two minutes had
/// 358 after half an hour. With few arenas, and large pieces apart, it has 240 after one minute and stays there.
pub(crate) fn return_what_is_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE_BYTES: libc::c_int = 128 << 10;
        let num_cores = std::thread::available_parallelism().map_or(1, usize::from);
        let num_arenas = libc::c_int::try_from(num_cores.max(2)).unwrap_or(libc::c_int::MAX);
        for (setting, value) in [(libc::M_ARENA_MAX, num_arenas), (libc::M_MMAP_THRESHOLD, LARGE_BYTES)] {
            // SAFETY: it sets a number in the allocator, which checks it; a refusal leaves everything as right as
            // before.
            unsafe { libc::mallopt(setting, value) };
        }
    }
}
