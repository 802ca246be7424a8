//! Zeroed memory that is committed page by page when it is first written, and can be given back in part.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;

/// Bytes of a page, on which an arena begins and in which memory is given back.
pub(crate) const PAGE_BYTES: usize = 4096;

/// Bytes of a huge page on the machines that have them, and of the boundary that they lie on.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Numbers for which all bytes zero is a value.
///
/// # Safety
/// An all-zero bit pattern is valid, and the type has no drop glue and an alignment of at most [`PAGE_BYTES`].
pub(crate) unsafe trait Zeroable: Copy {}

// SAFETY: integers.
unsafe impl<const N: usize> Zeroable for [u16; N] {}

// SAFETY: zero is a float.
unsafe impl Zeroable for f32 {}

/// A slice that begins on a page.
pub(crate) struct Arena<T> {
    start: NonNull<T>,
    len: usize,
    _owns: PhantomData<T>,
}

// SAFETY: it owns its memory, as a Vec does.
unsafe impl<T: Send> Send for Arena<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Arena<T> {}

impl<T: Zeroable> Arena<T> {
    /// `len` zeroed values.
    ///
    /// # Panics
    /// If the system has no such range of addresses.
    pub(crate) fn new(len: usize) -> Self {
        let size_bytes = Self::size_bytes(len);
        let start = if size_bytes == 0 { NonNull::dangling() } else { system::reserve(size_bytes, PAGE_BYTES).cast() };
        Self { start, len, _owns: PhantomData }
    }

    /// The same, on huge pages where the system has them to give: for memory that is written whole and kept.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub(crate) fn huge(len: usize) -> Self {
        let size_bytes = Self::size_bytes(len);
        if size_bytes < HUGE_PAGE_BYTES {
            return Self::new(len);
        }
        let start = system::reserve(size_bytes, HUGE_PAGE_BYTES);
        system::ask_for_huge_pages(start, size_bytes);
        Self { start: start.cast(), len, _owns: PhantomData }
    }

    fn size_bytes(len: usize) -> usize {
        let size_bytes = len.checked_mul(size_of::<T>()).filter(|bytes| isize::try_from(*bytes).is_ok());
        size_bytes.unwrap_or_else(|| panic!("an arena of {len} values of {} bytes", size_of::<T>()))
    }

    /// Where it begins.
    pub(crate) fn start(&self) -> NonNull<T> {
        self.start
    }

    /// Gives the memory of these values back to the system, as far as it consists of whole pages. What they are
    /// afterwards is not said.
    pub(crate) fn discard(&mut self, range: Range<usize>) {
        let bytes = &self[range];
        if bytes.is_empty() {
            return;
        }
        let first = bytes.as_ptr().addr().next_multiple_of(PAGE_BYTES);
        let end = (bytes.as_ptr().addr() + size_of_val(bytes)) / PAGE_BYTES * PAGE_BYTES;
        if first < end {
            let offset = first - self.start.addr().get();
            // SAFETY: the pages lie within the arena, which is borrowed mutably, so nobody reads or writes them now,
            // and whatever they hold afterwards (zeros or the old bytes) is valid for a `Zeroable`.
            unsafe { system::discard(self.start.cast::<u8>().add(offset), end - first) };
        }
    }
}

impl<T> Deref for Arena<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `start` and `len` describe the arena's own memory, which was zeroed, and zeros are values.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Arena<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the arena is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for Arena<T> {
    fn drop(&mut self) {
        let size_bytes = self.len * size_of::<T>();
        if size_bytes > 0 {
            // SAFETY: this range was reserved with this size, and nothing borrows it any more.
            unsafe { system::release(self.start.cast(), size_bytes) };
        }
    }
}

/// Zeroed floats that begin on a page, so that a vector of sixteen is never in two cache lines: for what ops read and
/// write.
pub struct FloatBuffer(Arena<f32>);

impl FloatBuffer {
    /// `len` zeros.
    ///
    /// # Panics
    /// If the system has no such range of addresses.
    pub fn new(len: usize) -> FloatBuffer {
        FloatBuffer(Arena::new(len))
    }
}

impl Deref for FloatBuffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for FloatBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

#[cfg(unix)]
mod system {
    use std::ptr::NonNull;

    use super::PAGE_BYTES;

    /// Anonymous pages: zero, and taken from the system when they are first written. They begin on a multiple of
    /// `alignment`, which is a multiple of a page.
    pub(super) fn reserve(size_bytes: usize, alignment: usize) -> NonNull<u8> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let with_slack = size_bytes.next_multiple_of(PAGE_BYTES) + alignment - PAGE_BYTES;
        // SAFETY: a new mapping of no file at an address of the system's choice touches no memory of ours.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), with_slack, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            panic!("cannot reserve {size_bytes} bytes of addresses: {}", std::io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>()).expect("a mapping that did not fail has an address");
        let before = start.addr().get().next_multiple_of(alignment) - start.addr().get();
        let after = with_slack - before - size_bytes.next_multiple_of(PAGE_BYTES);
        if before > 0 {
            // SAFETY: whole pages at the beginning of the new mapping, which nobody knows of yet.
            unsafe { release(start, before) };
        }
        // SAFETY: within the mapping.
        let start = unsafe { start.add(before) };
        if after > 0 {
            // SAFETY: whole pages at the end of the new mapping, as above.
            unsafe { release(start.add(size_bytes.next_multiple_of(PAGE_BYTES)), after) };
        }
        start
    }

    /// Should the system refuse, small pages do the same more slowly.
    pub(super) fn ask_for_huge_pages(start: NonNull<u8>, size_bytes: usize) {
        #[cfg(target_os = "linux")]
        // SAFETY: advice on a mapping of ours that changes none of its contents.
        unsafe {
            libc::madvise(start.as_ptr().cast(), size_bytes, libc::MADV_HUGEPAGE);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (start, size_bytes);
    }

    /// # Safety
    /// The pages belong to a mapping of [`reserve`], and nobody uses what they hold.
    pub(super) unsafe fn discard(start: NonNull<u8>, size_bytes: usize) {
        // SAFETY: the caller's promise. Should the system refuse, the pages stay as they are, which costs memory only.
        unsafe { libc::madvise(start.as_ptr().cast(), size_bytes, libc::MADV_DONTNEED) };
    }

    /// # Safety
    /// The range is what [`reserve`] gave, and nobody uses it any more.
    pub(super) unsafe fn release(start: NonNull<u8>, size_bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe { libc::munmap(start.as_ptr().cast(), size_bytes) };
    }
}

#[cfg(not(unix))]
mod system {
    use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
    use std::ptr::NonNull;

    fn layout(size_bytes: usize) -> Layout {
        Layout::from_size_align(size_bytes, super::PAGE_BYTES).expect("the arena has checked the size")
    }

    pub(super) fn reserve(size_bytes: usize, _alignment: usize) -> NonNull<u8> {
        // SAFETY: the size is not zero.
        let start = unsafe { alloc_zeroed(layout(size_bytes)) };
        NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout(size_bytes)))
    }

    /// There is no such advice here.
    pub(super) fn ask_for_huge_pages(_start: NonNull<u8>, _size_bytes: usize) {}

    /// An ordinary allocation cannot be given back in part.
    ///
    /// # Safety
    /// None is needed.
    pub(super) unsafe fn discard(_start: NonNull<u8>, _size_bytes: usize) {}

    /// # Safety
    /// The range is what [`reserve`] gave, and nobody uses it any more.
    pub(super) unsafe fn release(start: NonNull<u8>, size_bytes: usize) {
        // SAFETY: the caller's promise; `reserve` used the same layout.
        unsafe { dealloc(start.as_ptr(), layout(size_bytes)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_is_zeroed_begins_on_a_page_and_keeps_what_is_written_beside_what_is_discarded() {
        let mut arena = Arena::<[u16; 16]>::new(3 * PAGE_BYTES / 32);
        assert!(arena.iter().all(|vector| *vector == [0; 16]));
        assert_eq!(arena.as_ptr().addr() % PAGE_BYTES, 0);
        arena.fill([7; 16]);
        arena.discard(100..300);
        let page = PAGE_BYTES / 32;
        assert!(arena[..page].iter().chain(&arena[2 * page..]).all(|vector| *vector == [7; 16]));
        assert!(arena[page..2 * page].iter().all(|vector| *vector == [0; 16] || *vector == [7; 16]));
        arena[page] = [9; 16];
        assert_eq!(arena[page], [9; 16]);
        assert!(Arena::<[u16; 16]>::new(0).is_empty());
    }

    #[test]
    fn a_huge_arena_is_zeroed_and_written_like_any_other() {
        let mut arena = Arena::<[u16; 16]>::huge((5 << 20) / 32);
        assert!(arena.iter().all(|vector| *vector == [0; 16]));
        if cfg!(unix) {
            assert_eq!(arena.as_ptr().addr() % HUGE_PAGE_BYTES, 0);
        }
        arena.fill([7; 16]);
        assert_eq!(arena.last(), Some(&[7; 16]));
        assert_eq!(Arena::<[u16; 16]>::huge(10).len(), 10);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_is_taken_when_written_and_given_back_when_discarded() {
        let megabytes = |pages: usize| pages * PAGE_BYTES / (1 << 20);
        let mut arena = Arena::<[u16; 16]>::new((64 << 20) / 32);
        let resident = |arena: &Arena<[u16; 16]>| {
            let mut pages = vec![0_u8; (64 << 20) / PAGE_BYTES];
            // SAFETY: the range is the arena's, and there is one byte for each of its pages.
            let code = unsafe { libc::mincore(arena.as_ptr().cast_mut().cast(), 64 << 20, pages.as_mut_ptr()) };
            assert_eq!(code, 0);
            megabytes(pages.iter().filter(|page| **page & 1 == 1).count())
        };
        assert_eq!(resident(&arena), 0);
        let half = arena.len() / 2;
        arena[..half].fill([1; 16]);
        assert_eq!(resident(&arena), 32);
        arena.discard(0..half / 2);
        assert_eq!(resident(&arena), 16);
    }
}
