//! An allocator that counts, for tests of what something takes of memory. Each is a test file of its own, since it counts
//! what the whole process allocates, and runs its measurements one after the other.

#![expect(unsafe_code, reason = "an allocator that counts is an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// To be made the `#[global_allocator]` of the test.
#[derive(Debug)]
pub struct CountingAllocator {
    used: AtomicUsize,
    most: AtomicUsize,
}

impl CountingAllocator {
    /// One that has counted nothing.
    #[expect(clippy::new_without_default, reason = "it is made in a static")]
    #[must_use]
    pub const fn new() -> Self {
        Self { used: AtomicUsize::new(0), most: AtomicUsize::new(0) }
    }

    /// Bytes that are held now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Most bytes that were held during `work` beside what was before, its result among them.
    pub fn peak<T>(&self, work: impl FnOnce() -> T) -> usize {
        let before = self.used();
        self.most.store(before, Ordering::Relaxed);
        let result = work();
        let peak = self.most.load(Ordering::Relaxed) - before;
        drop(result);
        peak
    }
}

// SAFETY: every call is handed on to the system's allocator with what the caller gave; counting touches no memory of it.
unsafe impl GlobalAlloc for CountingAllocator {
    // SAFETY: asks of the caller what the system's allocator asks.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let used = self.used.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        self.most.fetch_max(used, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: asks of the caller what the system's allocator asks.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.used.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}
