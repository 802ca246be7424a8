//! Adapters on this node: from files of the PEFT format to slabs that the model runs, kept in tiers with budgets.
//!
//! Begin with [`AdapterStore::acquire`]. A miss goes through [`AdapterSource`] (files by digest), the checks of
//! [`souk_protocol::peft`], and [`souk_models::adapter::pack`] (numbers to slabs); `residency` keeps the books and does
//! nothing else; `waiting` says who waits behind whom.

pub mod disk;
mod entry;
pub mod error;
mod failures;
mod grants;
pub mod limits;
pub mod pins;
mod residency;
#[cfg(test)]
pub(crate) mod samples;
pub mod source;
pub mod stats;
pub mod store;
mod waiting;

pub use disk::{DiskStats, DiskTier};
pub use error::{AdapterError, Tier};
pub use limits::{AdapterLimits, AdapterSettings, LimitsError};
pub use pins::{PinError, Pins};
pub use source::{AdapterFiles, AdapterSource, BlobFolder, BlobSource, Blobs, FolderSource, SourceError};
pub use stats::{AdapterStats, AdapterTotals, ResidentAdapter};
pub use store::{AdapterLease, AdapterStore, Tiers};
