//! The crust that every HTTP service of Souk has around its routes, written once: the request's id, its line in the log
//! and its place in the figures; panics as answers; refused bodies read away; the key in the header; `Idempotency-Key`;
//! RFC 9457 problems; signs of life; the exporter of figures; what completes OpenAPI documents; which pages of other origins
//! may call; and the listener below all of it, in which every wait has an end.
//!
//! It knows no route, no error and no figure of a service: those stay with the service, which hands over what it needs.
//!
//! Begin with [`crust`], which says what lies around what.

pub mod crust;
pub mod service;

pub mod panic;
pub mod refused_body;

mod observe;

pub mod bearer;
pub mod client_certificate;
pub mod cors;
pub mod draining;
pub mod health;
pub mod idempotency;
pub mod problem;
pub mod public_port;
pub mod public_url;
pub mod request_id;
pub mod revoked;
pub mod token;

pub mod document;
pub mod exporter;

pub mod serve;

pub use crust::put_around;
pub use exporter::Exporter;
pub use service::Service;
