//! The person who is signed in: who that is, for which tenant, and where else.

mod choose_tenant;
mod end_session;
mod finish_login;
mod get_session;
mod leave_tenant;
mod list_sessions;
mod make_own_tenant;
mod sign_out;
mod who_am_i;

use axum::http::header::{CACHE_CONTROL, SET_COOKIE};
use axum::http::{HeaderName, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

use crate::db::{PersonRow, TenantRow};
use crate::people::Role;
use crate::sessions::{SESSION_COOKIE, gone_cookie};

pub(crate) use choose_tenant::*;
pub(crate) use end_session::*;
pub(crate) use finish_login::*;
pub(crate) use get_session::*;
pub(crate) use leave_tenant::*;
pub(crate) use list_sessions::*;
pub(crate) use make_own_tenant::*;
pub(crate) use sign_out::*;
pub(crate) use who_am_i::*;

/// A person.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Person {
    /// Opaque id.
    id: String,
    /// What a provider of identities calls them; null if none said.
    name: Option<String>,
    /// Their address; null if it is not known.
    email: Option<String>,
    /// Whether a provider of identities vouches for the address.
    email_is_verified: bool,
}

/// A tenant that a person is a member of.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Membership {
    /// The tenant's name.
    tenant: String,
    /// What the person is there.
    role: Role,
}

impl From<PersonRow> for Person {
    fn from(row: PersonRow) -> Self {
        Self { id: row.id, name: row.name, email: row.email, email_is_verified: row.email_is_verified }
    }
}

impl From<(TenantRow, Role)> for Membership {
    fn from((tenant, role): (TenantRow, Role)) -> Self {
        Self { tenant: tenant.name, role }
    }
}

/// Headers of an answer after which the browser has no session.
fn without_session() -> [(HeaderName, HeaderValue); 2] {
    let gone = HeaderValue::from_str(&gone_cookie(SESSION_COOKIE)).expect("a cookie is ASCII");
    [(SET_COOKIE, gone), (CACHE_CONTROL, HeaderValue::from_static("no-store"))]
}
