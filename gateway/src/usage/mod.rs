//! What was used, counted once: reservations under way, the journal of this process, and the way of each request's rows into the
//! registry's database.
//!
//! ```text
//! reserve     Holdings, at the port of limits            call/reserve.rs
//! opened      Journal, before a job of the request is queued
//! settled     Journal, then Holdings, then Writer        call/reservation.rs
//! written     Writer: rows in batches, their totals to the port of limits, then Journal
//! ```
//!
//! Begin with [`Accounting`], which holds all of it. What happens when: a process that is killed finds in its journal what was
//! settled and not written, and writes it; what was opened and never settled becomes rows whose outcome is `failed`, which are
//! free. A request is in exactly one of these states, and rows are written once by their primary key, so nothing counts twice
//! however often it is sent.

pub mod accounting;
pub mod journal;
pub mod store;

pub(crate) mod holdings;
pub(crate) mod opened;
mod renewal;
mod writer;

pub use accounting::{Accounting, AccountingParts};
pub use journal::{JournalError, JournalSettings};
pub use store::{UsageStore, UsageStoreError};
