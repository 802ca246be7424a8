//! What names mean: which adapter and version a caller may see, and which one a reference chooses.

mod blobs;
mod lookup;
mod models;
mod resolve;
mod state;

pub(crate) use lookup::{existing_version, visible_to};
pub use models::ListedModel;
pub(crate) use state::{VersionState, Visibility, parse_version, version_of};
