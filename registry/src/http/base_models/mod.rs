//! Base models that adapters may be made for.

mod list_base_models;

pub(crate) use list_base_models::*;
