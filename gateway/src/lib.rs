//! Data plane: the OpenAI API. Authenticate, resolve, dispatch to the queue, stream back.
//!
//! The gateway owns all text: it renders chat templates, encodes prompts, decodes answers and finds stop strings; nodes
//! deal in token ids. It runs no model and knows no SQL: keys and adapters come through the [`Catalog`] port, what is used is reserved
//! at the port of limits and written through the [`UsageStore`], jobs go to the queue and their events come back by the hub. It stores
//! nothing but the journal of what is not written yet ([`usage`]). Hooks of callers and of adapters' publishers act on requests and
//! answers in the sandbox of `souk-plugins`; the code of each comes through the [`HookSource`] port.
//!
//! Begin with [`router`](mod@router), which lists every path, then follow [`routes::chat`] into `call` (one road for
//! every way of asking, from authorisation to settlement) and `reply` (events to text, whole or streamed).

pub mod catalog;
pub mod crash_points;
pub mod error;
pub mod gateway;
pub mod hooks;
pub mod limits;
pub mod metrics;
pub mod reply;
pub mod request;
pub mod router;
pub mod routes;
pub mod served;
pub mod text;
pub mod usage;

mod auth;
mod call;
mod lanes;
mod popular;
mod text_work;
mod version_template;
mod version_templates;

pub use catalog::{AuthError, Catalog, ModelEntry, ModelPage};
pub use error::ApiError;
pub use gateway::{Gateway, GatewayParts};
pub use hooks::{HookSource, HookSourceError, Hooks, HooksParts};
pub use limits::{GatewayLimits, NodesAre};
pub use router::{not_found, openapi, router};
pub use served::{BaseError, ServedBase};
pub use text::TemplateLimits;
pub use usage::{Accounting, AccountingParts, JournalError, JournalSettings, UsageStore, UsageStoreError};

#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod testing;
