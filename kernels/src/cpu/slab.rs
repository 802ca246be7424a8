//! Memory of packed weights: slices that begin on a cache line, side by side in regions that ask for huge pages.
//!
//! A step reads every weight once, which is more than any cache holds. With pages of 4 KiB each of them costs a walk
//! through the page tables, and the hardware's look-ahead ends with the page; with pages of 2 MiB neither is felt:
//! decode of one sequence gains a fifth (docs/kernels.md). A matrix of a small model is smaller than such a page, so
//! matrices share regions. A region goes back to the system when the last slice in it is dropped; in between nothing is
//! used again, which suits what a model loads together and drops together, and would not suit adapters.
//!
//! What threads write side by side does not lie so: a product of sixteen rows by two threads took a third longer with
//! its activations and outputs in one huge page (docs/kernels.md, "Figures").

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::cpu::arena::{Arena, Zeroable};

/// Bytes of addresses of a region: memory is only taken for what is written, a huge page at a time.
const REGION_BYTES: usize = 32 << 20;

/// A cache line: what a region is made of, so that every slice begins on one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([u8; 64]);

// SAFETY: bytes.
unsafe impl Zeroable for CacheLine {}

/// Where slabs are cut from. Those of one model come from one of these.
pub struct Regions {
    region_lines: usize,
    /// Cut under this lock, read without.
    current: Mutex<Current>,
}

/// The region that small slabs are cut from, and how many of its lines are taken.
#[derive(Default)]
struct Current {
    region: Weak<Region>,
    num_taken: usize,
}

impl Regions {
    /// Regions that small slabs share. Memory is taken from the system a huge page at a time, as it is written.
    pub fn new() -> Regions {
        Regions { region_lines: REGION_BYTES / size_of::<CacheLine>(), current: Mutex::default() }
    }

    /// A region of its own for each slab.
    pub(crate) fn apart() -> Regions {
        Regions { region_lines: 0, current: Mutex::default() }
    }

    /// Lines that nobody has: the region and the first.
    fn take(&self, num_lines: usize) -> (Arc<Region>, usize) {
        // A slab that would waste much of a shared region has one of its own.
        if num_lines > self.region_lines / 4 {
            return (Region::new(num_lines), 0);
        }
        // Nothing is left half done if a thread panics in here: the count is raised last.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let region = current.region.upgrade().filter(|region| region.0.len() - current.num_taken >= num_lines);
        let region = region.unwrap_or_else(|| {
            let region = Region::new(self.region_lines);
            *current = Current { region: Arc::downgrade(&region), num_taken: 0 };
            region
        });
        let first = current.num_taken;
        current.num_taken += num_lines;
        (region, first)
    }
}

impl Default for Regions {
    fn default() -> Self {
        Self::new()
    }
}

/// Lines that are handed out once.
struct Region(Arena<CacheLine>);

impl Region {
    fn new(num_lines: usize) -> Arc<Region> {
        Arc::new(Region(Arena::huge(num_lines)))
    }
}

/// A slice in a region.
pub(crate) struct Slab<T> {
    start: NonNull<T>,
    len: usize,
    /// Keeps the memory; never looked at.
    _region: Arc<Region>,
    _owns: PhantomData<T>,
}

// SAFETY: it has the only pointer to its part of the region, as a Vec has to its memory.
unsafe impl<T: Send> Send for Slab<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Slab<T> {}

impl<T: Copy> Slab<T> {
    /// `len` times `value`.
    ///
    /// # Panics
    /// If the system has no such range of addresses.
    pub(crate) fn filled(regions: &Regions, value: T, len: usize) -> Slab<T> {
        const { assert!(align_of::<T>() <= align_of::<CacheLine>()) };
        let size_bytes = len.checked_mul(size_of::<T>()).unwrap_or_else(|| panic!("a slab of {len} values"));
        let (region, first_line) = regions.take(size_bytes.div_ceil(size_of::<CacheLine>()));
        // SAFETY: the lines taken begin within the region.
        let start: NonNull<T> = unsafe { region.0.start().add(first_line) }.cast();
        for at in 0..len {
            // SAFETY: the lines taken hold `len` values, are aligned for them, and nobody else has them.
            unsafe { start.add(at).write(value) };
        }
        Slab { start, len, _region: region, _owns: PhantomData }
    }
}

impl<T> Deref for Slab<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `filled` has written these values, in memory that the region keeps.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Slab<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the slab is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_begin_on_cache_lines_and_do_not_overlap() {
        let regions = Regions::new();
        let slab = |at: u16| Slab::filled(&regions, [at; 3], usize::from(at) * 37);
        let mut slabs: Vec<Slab<[u16; 3]>> = (0..200).map(slab).collect();
        slabs.iter_mut().for_each(|slab| slab.iter_mut().for_each(|value| value[1] += 1));
        for (at, slab) in (0..).zip(&slabs) {
            assert_eq!(slab.as_ptr().addr() % 64, 0);
            assert_eq!(slab.len(), usize::from(at) * 37);
            assert!(slab.iter().all(|value| *value == [at, at + 1, at]));
        }
    }

    #[test]
    fn a_slab_outlives_its_neighbours_and_a_large_one_has_its_own_region() {
        let regions = Regions::new();
        let first = Slab::filled(&regions, 1_u8, 100);
        let second = Slab::filled(&regions, 2_u8, 100);
        let large = Slab::filled(&regions, 3_u8, REGION_BYTES);
        drop(first);
        let third = Slab::filled(&regions, 4_u8, 100);
        drop(regions);
        assert!(second.iter().all(|value| *value == 2) && third.iter().all(|value| *value == 4));
        assert!(large.iter().all(|value| *value == 3));
        let region = large.start.as_ptr().addr()..large.start.as_ptr().addr() + REGION_BYTES;
        assert!(!region.contains(&second.start.as_ptr().addr()) && !region.contains(&third.start.as_ptr().addr()));
    }

    #[test]
    fn threads_cut_their_slabs_from_one_region_at_once() {
        let regions = &Regions::new();
        std::thread::scope(|scope| {
            for mark in 0..4_u32 {
                scope.spawn(move || {
                    let slabs: Vec<_> = (0..300).map(|at| Slab::filled(regions, mark, 1 + at % 50)).collect();
                    assert!(slabs.iter().all(|slab| slab.iter().all(|value| *value == mark)));
                });
            }
        });
    }
}
