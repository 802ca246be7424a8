use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use sea_orm::{ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, QueryFilter as _, Set};
use serde::Deserialize;
use souk_http::idempotency::IdempotencyKey;
use souk_protocol::Scope;
use souk_protocol::reference::check_name_part;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Adapter, check_description};
use crate::Registry;
use crate::catalog::Visibility;
use crate::db::entities::adapter;
use crate::db::{is_unique_violation, now_ms};
use crate::error::{Finding, RegistryError};
use crate::http::{Body, Caller, Problems};

/// An adapter to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateAdapter {
    /// 1 to 64 of a-z, 0-9, `-`, `_`, `.`, beginning with a letter or digit. It cannot be changed, nor used again
    /// after the adapter is deleted.
    name: String,
    /// The tenant that should own it: the caller's own, which is also meant if absent. A client that knows the full
    /// name sends it, so that a key of the wrong tenant is refused rather than makes another adapter.
    owner: Option<String>,
    /// Who may see and call it; `private` if absent.
    #[serde(default)]
    visibility: Visibility,
    /// What it is for, in up to 4,000 characters.
    #[serde(default)]
    description: String,
}

/// Makes an adapter without versions, owned by the caller's tenant.
///
/// Scope: `adapters:write`. A name in use answers 409 `already_exists`, one of a deleted adapter 409 `retired`.
#[utoipa::path(
    post, path = "/adapters", tag = "adapters",
    params(IdempotencyKey),
    request_body = CreateAdapter,
    responses((status = 201, body = Adapter), Problems)
)]
pub(crate) async fn create_adapter(
    State(registry): State<Registry>,
    caller: Caller,
    Body(request): Body<CreateAdapter>,
) -> Result<(StatusCode, Json<Adapter>), RegistryError> {
    caller.require(Scope::AdaptersWrite)?;
    let name = check_name_part("name", &request.name).err().map(|error| Finding::field("name", error.to_string()));
    let tenant = &caller.0.tenant_name;
    let owner = request.owner.as_ref().filter(|owner| *owner != tenant);
    let owner = owner.map(|owner| Finding::field("owner", format!("your key's tenant is `{tenant}`, given `{owner}`")));
    let findings = [name, owner, check_description(&request.description)];
    RegistryError::unless_valid(findings.into_iter().flatten().collect())?;
    let now_ms = now_ms();
    let row = adapter::ActiveModel {
        id: Set(format!("adp_{}", Uuid::now_v7().simple())),
        tenant_id: Set(caller.0.tenant.to_string()),
        owner: Set(caller.0.tenant_name.clone()),
        name: Set(request.name.clone()),
        visibility: Set(request.visibility.as_str().to_owned()),
        description: Set(request.description),
        created_at_ms: Set(now_ms),
        updated_at_ms: Set(now_ms),
        deleted_at_ms: Set(None),
    };
    match row.insert(&registry.db).await {
        Ok(row) => {
            tracing::info!(adapter.owner = row.owner, adapter.name = row.name, "Made an adapter");
            Ok((StatusCode::CREATED, Json(Adapter::new(row, None))))
        }
        Err(error) if is_unique_violation(&error) => {
            Err(name_in_use(&registry, &caller.0.tenant_name, &request.name).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Tells a name that is in use from one that was.
async fn name_in_use(registry: &Registry, owner: &str, name: &str) -> Result<RegistryError, RegistryError> {
    let deleted = adapter::Entity::find()
        .filter(adapter::Column::Owner.eq(owner))
        .filter(adapter::Column::Name.eq(name))
        .filter(adapter::Column::DeletedAtMs.is_not_null())
        .one(&registry.db)
        .await?;
    let name = format!("{owner}/{name}");
    Ok(match deleted {
        Some(_) => RegistryError::Retired { what: "adapter", name },
        None => RegistryError::AlreadyExists { what: "adapter", name },
    })
}
