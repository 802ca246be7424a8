//! A mutable slice that the chunks of one op write together, each its own part.

use std::marker::PhantomData;

/// Hands out disjoint parts of a slice to several threads.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<'a, T> {
    start: *mut T,
    len: usize,
    _borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for a `&mut [T]`, which may be sent when `T` may; who uses it from several threads promises to
// `part` that the parts do not overlap.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        SharedMut { start: slice.as_mut_ptr(), len: slice.len(), _borrow: PhantomData }
    }

    /// The values `first .. first + count`.
    ///
    /// # Safety
    /// While the result lives, no other reference to any of these values is made.
    #[inline(always)]
    pub(crate) unsafe fn part(&self, first: usize, count: usize) -> &'a mut [T] {
        assert!(first <= self.len && count <= self.len - first, "part {first}+{count} of {}", self.len);
        // SAFETY: the range is within the slice, which is borrowed for 'a, and the caller has the only reference to it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), count) }
    }
}
