//! One pool of device memory for KV blocks and adapter slabs.
//!
//! [`DeviceMemory`] is a ledger in pages of 4 KiB with two sides. Either side may grow as long as the pool has pages
//! and the other keeps its floor, so that a machine that serves long contexts with few adapters, and one that serves
//! short ones with many, both use all of their memory without a setting.
//!
//! What the pages are depends on the device. On the CPU the operating system's page tables are the indirection: the KV
//! arena is a range of addresses as large as the KV side may become, a block's pages are committed when it is first
//! written and given back with `madvise`, and an adapter's slabs are allocations at their true rank. A GPU arena is
//! served by the same ledger with pages of its own.
//!
//! A side that is short says so with [`DeviceMemory::ask`]. That wakes the other side, which gives up what nobody uses
//! (cached blocks, idle adapters) by [`DeviceMemory::owes`]; waiters listen to [`DeviceMemory::freed`]. Pages that
//! were asked for are kept for the side that asked first: the other cannot take them away again meanwhile, unless it is
//! below its floor.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;

/// Number of pages that `bytes` occupy.
#[must_use]
pub const fn pages_for(bytes: usize) -> usize {
    bytes.div_ceil(PAGE_BYTES)
}

/// Who takes pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Keys and values.
    Kv,
    /// Slabs of adapters.
    Adapters,
}

/// How a pool is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryConfig {
    /// Bytes of the whole pool.
    pub total_bytes: usize,
    /// Bounds of the KV side.
    pub kv: SideLimits,
    /// Bounds of the adapters' side.
    pub adapters: SideLimits,
}

/// Bounds of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SideLimits {
    /// Bytes that the other side can never take.
    pub floor_bytes: usize,
    /// Most bytes that this side takes; `None` leaves it to the pool.
    pub cap_bytes: Option<usize>,
}

/// A division that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The floors do not fit into the pool side by side.
    #[error(
        "the floors of {kv_bytes} (KV) and {adapter_bytes} (adapters) bytes exceed the pool of {total_bytes} bytes"
    )]
    FloorsExceedPool {
        /// Floor of the KV side.
        kv_bytes: usize,
        /// Floor of the adapters' side.
        adapter_bytes: usize,
        /// The pool.
        total_bytes: usize,
    },
    /// A side could not have a single page.
    #[error("the {side} side of the pool of {total_bytes} bytes can have less than a page of {PAGE_BYTES} bytes")]
    NothingLeft {
        /// Which side.
        side: Side,
        /// The pool.
        total_bytes: usize,
    },
}

/// The ledger of a device's memory. Clones are handles to the same pool.
#[derive(Clone)]
pub struct DeviceMemory(Arc<Ledger>);

/// Called when a side should look at the pool again. Must not block: it runs on the other side's thread.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

struct Ledger {
    total_pages: usize,
    /// By [`Side`]: floor and cap in pages, and the most that the side can ever have.
    floors: [usize; 2],
    most: [usize; 2],
    // A std mutex: sections are a few additions.
    books: Mutex<Books>,
    freed: Notify,
}

#[derive(Default)]
struct Books {
    used: [usize; 2],
    /// Pages that a side is short of.
    wanted: [usize; 2],
    /// Pages that a side keeps beyond its floor, of those that it had or could have had.
    kept: [usize; 2],
    /// The side whose standing wish is older.
    first: Option<Side>,
    wakers: [Option<Waker>; 2],
}

impl DeviceMemory {
    /// An empty pool.
    ///
    /// # Errors
    /// [`MemoryError`] if the bounds contradict themselves.
    pub fn new(config: MemoryConfig) -> Result<Self, MemoryError> {
        let MemoryConfig { total_bytes, kv, adapters } = config;
        let total_pages = total_bytes / PAGE_BYTES;
        let cap = |side: SideLimits| side.cap_bytes.map_or(total_pages, |bytes| bytes / PAGE_BYTES);
        // A side that is bounded below its floor needs no more than the bound.
        let floors = [kv, adapters].map(|side| pages_for(side.floor_bytes).min(cap(side)));
        if floors[0].saturating_add(floors[1]) > total_pages {
            let (kv_bytes, adapter_bytes) = (kv.floor_bytes, adapters.floor_bytes);
            return Err(MemoryError::FloorsExceedPool { kv_bytes, adapter_bytes, total_bytes });
        }
        let most = [cap(kv).min(total_pages - floors[1]), cap(adapters).min(total_pages - floors[0])];
        for side in [Side::Kv, Side::Adapters] {
            if most[side.index()] == 0 {
                return Err(MemoryError::NothingLeft { side, total_bytes });
            }
        }
        let ledger = Ledger { total_pages, floors, most, books: Mutex::default(), freed: Notify::new() };
        Ok(Self(Arc::new(ledger)))
    }

    /// A pool in which each side has so many bytes of its own and nothing is shared.
    ///
    /// # Errors
    /// [`MemoryError`] if a side has less than a page.
    pub fn split(kv_bytes: usize, adapter_bytes: usize) -> Result<Self, MemoryError> {
        let own = |bytes: usize| {
            let bytes = pages_for(bytes) * PAGE_BYTES;
            SideLimits { floor_bytes: bytes, cap_bytes: Some(bytes) }
        };
        let (kv, adapters) = (own(kv_bytes), own(adapter_bytes));
        Self::new(MemoryConfig { total_bytes: kv.floor_bytes + adapters.floor_bytes, kv, adapters })
    }

    /// Takes pages for a side. False leaves nothing taken.
    #[must_use]
    pub fn take(&self, side: Side, pages: usize) -> bool {
        let mut books = self.lock();
        if pages > self.available_in(&books, side) {
            return false;
        }
        books.used[side.index()] += pages;
        let left = books.wanted[side.index()].saturating_sub(pages);
        books.wish(side, left);
        true
    }

    /// Gives back pages that were taken, and tells those that wait.
    pub fn give_back(&self, side: Side, pages: usize) {
        if pages == 0 {
            return;
        }
        let mut books = self.lock();
        debug_assert!(pages <= books.used[side.index()], "{side} gives back {pages} pages that it does not have");
        books.used[side.index()] = books.used[side.index()].saturating_sub(pages);
        let waker = books.waker_of_wish(side.other());
        drop(books);
        self.0.freed.notify_waiters();
        wake(waker);
    }

    /// Says how many pages a side is short of, which wakes the other side. The wish stands until it is taken or asked
    /// anew; 0 withdraws it, which a side does when it goes on without.
    pub fn ask(&self, side: Side, pages: usize) {
        let mut books = self.lock();
        let withdrawn = books.wanted[side.index()] > pages;
        books.wish(side, pages);
        let of_other = if withdrawn { books.waker_of_wish(side.other()) } else { None };
        let waker = if pages > 0 { books.wakers[side.other().index()].clone() } else { of_other };
        drop(books);
        if withdrawn {
            // What was kept for this side can be had again.
            self.0.freed.notify_waiters();
        }
        wake(waker);
    }

    /// Keeps so many pages from the other side, what this one uses of them included: of those that it has, or could have
    /// now, since what the other uses stays its own. Whatever was kept before is kept no more.
    pub fn keep(&self, side: Side, pages: usize) {
        let mut books = self.lock();
        let before = books.kept[side.index()];
        let of_other = books.used[side.other().index()].max(self.0.floors[side.other().index()]);
        books.kept[side.index()] = pages.min(self.0.total_pages - of_other).min(self.0.most[side.index()]);
        let is_less = books.kept[side.index()] < before;
        let waker = if is_less { books.waker_of_wish(side.other()) } else { None };
        drop(books);
        wake(waker);
    }

    /// Pages that a side has asked for and not taken since.
    #[must_use]
    pub fn wanted(&self, side: Side) -> usize {
        self.lock().wanted[side.index()]
    }

    /// Pages that a side should give back, if nobody uses them, so that the other has what it wants.
    #[must_use]
    pub fn owes(&self, side: Side) -> usize {
        let books = self.lock();
        let other = side.other();
        let wanted = books.wanted[other.index()];
        let missing = wanted.saturating_sub(self.0.total_pages - books.used[0] - books.used[1]);
        // Neither what lies below this side's floor, nor what the other's own bound keeps it from taking.
        let above_floor = books.used[side.index()].saturating_sub(self.kept_in(&books, side));
        let other_may_take = self.0.most[other.index()].saturating_sub(books.used[other.index()]);
        if wanted > other_may_take { 0 } else { missing.min(above_floor) }
    }

    /// Pages that a side holds.
    #[must_use]
    pub fn used(&self, side: Side) -> usize {
        self.lock().used[side.index()]
    }

    /// Pages that a side could take now.
    #[must_use]
    pub fn available(&self, side: Side) -> usize {
        self.available_in(&self.lock(), side)
    }

    /// The most pages that a side can ever hold.
    #[must_use]
    pub fn most(&self, side: Side) -> usize {
        self.0.most[side.index()]
    }

    /// Pages that are always there for a side.
    #[must_use]
    pub fn floor(&self, side: Side) -> usize {
        self.0.floors[side.index()]
    }

    /// Bytes of the whole pool.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.0.total_pages * PAGE_BYTES
    }

    /// Sets what is called when the other side is short, and when pages come free that this side asked for.
    pub fn set_waker(&self, side: Side, waker: Waker) {
        self.lock().wakers[side.index()] = Some(waker);
    }

    /// Resolves when pages come free. Enable it before trying to take, or a page that comes free in between is missed.
    pub fn freed(&self) -> Notified<'_> {
        self.0.freed.notified()
    }

    fn available_in(&self, books: &Books, side: Side) -> usize {
        let other = side.other();
        let used = books.used[side.index()];
        let free = self.0.total_pages - books.used[0] - books.used[1];
        let below_most = self.0.most[side.index()].saturating_sub(used);
        // What the other lacks to its floor stays free for it.
        let for_floor = self.kept_in(books, other).saturating_sub(books.used[other.index()]);
        let for_wish = if books.first == Some(other) { books.wanted[other.index()] } else { 0 };
        let below_floor = self.kept_in(books, side).saturating_sub(used);
        let shared = free.saturating_sub(for_floor.max(for_wish));
        below_most.min(shared.max(below_floor))
    }

    /// Pages of a side that the other cannot take.
    fn kept_in(&self, books: &Books, side: Side) -> usize {
        self.0.floors[side.index()].max(books.kept[side.index()])
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for DeviceMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let books = self.lock();
        f.debug_struct("DeviceMemory")
            .field("total_pages", &self.0.total_pages)
            .field("used", &books.used)
            .field("wanted", &books.wanted)
            .finish_non_exhaustive()
    }
}

impl Books {
    /// Notes how much a side wants; the older of two wishes comes first.
    fn wish(&mut self, side: Side, pages: usize) {
        self.wanted[side.index()] = pages;
        let other_wants = self.wanted[side.other().index()] > 0;
        self.first = match self.first {
            Some(first) if self.wanted[first.index()] > 0 => Some(first),
            _ if pages > 0 => Some(side),
            _ => other_wants.then_some(side.other()),
        };
    }

    fn waker_of_wish(&self, side: Side) -> Option<Waker> {
        (self.wanted[side.index()] > 0).then(|| self.wakers[side.index()].clone()).flatten()
    }
}

impl Side {
    /// The one that shares the pool with this one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Kv => Self::Adapters,
            Self::Adapters => Self::Kv,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Kv => 0,
            Self::Adapters => 1,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kv => "KV",
            Self::Adapters => "adapter",
        })
    }
}

/// Outside the lock, since the one woken may look at the pool at once.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker();
    }
}

#[cfg(test)]
mod tests;
