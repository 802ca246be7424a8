use axum::Json;
use serde::Serialize;
use souk_protocol::Scope;
use utoipa::ToSchema;

use super::Person;
use crate::error::RegistryError;
use crate::http::{Caller, Problems, Serving};
use crate::people::Role;

/// Whose the key, token or session is that was presented.
#[derive(Serialize, ToSchema)]
pub(crate) struct Identity {
    /// The tenant that it acts for.
    tenant: String,
    /// The id of the key or session.
    key: String,
    /// What it may do.
    #[schema(example = json!(["inference", "adapters:read"]))]
    scopes: Vec<&'static str>,
    /// Whose it is; null for a service's.
    person: Option<Person>,
    /// What the person is in the tenant; null for a service's key.
    role: Option<Role>,
}

/// Tells whose the key, token or session is that is presented, and what it may do.
///
/// Any key may ask.
#[utoipa::path(
    get, path = "/auth/whoami", tag = "auth",
    responses((status = 200, description = "Who calls", body = Identity), Problems)
)]
pub(crate) async fn who_am_i(Serving(registry): Serving, caller: Caller) -> Result<Json<Identity>, RegistryError> {
    let principal = caller.0;
    let found = registry.person_of(&principal).await?;
    let (person, role) = found.map_or((None, None), |(person, role)| (Some(person.into()), role));
    Ok(Json(Identity {
        tenant: principal.tenant_name,
        key: principal.key.to_string(),
        scopes: principal.scopes.into_iter().map(Scope::as_str).collect(),
        person,
        role,
    }))
}
