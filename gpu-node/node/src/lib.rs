//! Takes work from the queue, makes its adapters resident, has the engine run it, answers.
//!
//! - [`adapters`]: adapters on this node, in tiers with budgets.
//! - [`node`]: jobs in, answers out.
//!
//! This crate has the node's tasks and files. It knows neither tenants nor HTTP; which rows run when is
//! `souk-engine`'s, and what a step computes `souk-models`'.

pub mod adapters;
mod background;
pub mod figures;
pub mod node;

pub use background::stand_back_somewhat;
