//! What was used, counted once: reservations under way, the journal of this process, and the way of each request's rows into the
//! registry's database.
//!
//! ```text
//! reserve     Holdings, at the port of limits            call/reserve.rs
//! opened      Journal, before a job of the request is queued; the queue has the same with the job
//! settled     Journal, then Holdings, then Writer        call/reservation.rs
//! written     Writer: rows in batches, their totals to the port of limits, then Journal, then Posted, which the queue hears
//! ```
//!
//! Begin with [`Accounting`], which holds all of it. What happens when: a process that is killed finds in its journal what was
//! settled and not written, and writes it. What was opened and never settled is for another gateway to write down, which is
//! given it by the queue (`call/left.rs`); what the queue does not know (any more) becomes rows whose outcome is
//! `failed`, which are free. Rows are written once by their primary key, so nothing counts twice however often it is sent, and by
//! whomever.

pub mod accounting;
pub mod journal;
pub mod store;

pub(crate) mod holdings;
pub(crate) mod opened;
pub(crate) mod posted;
mod renewal;
mod writer;

pub use accounting::{Accounting, AccountingParts};
pub use journal::{JournalError, JournalSettings};
pub use store::{UsageStore, UsageStoreError};
