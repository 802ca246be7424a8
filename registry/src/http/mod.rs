//! The API under `/registry/v1`. Begin with `router.rs`: it is the table of contents. Each action has a file of its
//! own with its request, its response and its handler; rules that all actions share are in the files beside it.

pub(crate) mod access;
pub(crate) mod adapters;
mod admit;
pub(crate) mod audit;
pub(crate) mod base_models;
mod caller;
mod document;
mod extract;
pub(crate) mod hooks;
mod idempotency;
pub(crate) mod internal;
pub(crate) mod invitations;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod members;
mod middleware;
mod organization;
mod page;
pub(crate) mod pipelines;
pub(crate) mod policy;
mod problem;
mod router;
pub(crate) mod services;
pub(crate) mod sessions;
mod sign_in;
pub(crate) mod tags;
pub(crate) mod teams;
pub(crate) mod tenants;
pub(crate) mod tokens;
pub(crate) mod uploads;
pub(crate) mod usage;
pub(crate) mod versions;
pub(crate) mod webhooks;

pub(crate) use caller::{Caller, Sender, Serving, Session};
pub(crate) use extract::{Body, PathOf, QueryOf};
pub(crate) use idempotency::{key_of, route_of};
pub use internal::INTERNAL;
pub(crate) use middleware::JSON_BODY_BYTES;
pub use page::public_adapters_after;
pub(crate) use page::{Page, PageQuery};
pub(crate) use problem::Problems;
pub use router::{openapi, router};
pub(crate) use souk_http::idempotency::IdempotencyKey;
pub(crate) use souk_http::problem::Problem;
