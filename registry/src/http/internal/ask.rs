//! Who calls, what their references mean, and what they can name.

use axum::Json;
use axum::extract::State;
use souk_protocol::internal::{
    Authenticate, Authenticated, Caller, GetLimits, GetModel, ListModels, Model, Models, Resolve, Resolved, Template,
    TemplateFound,
};
use souk_protocol::{LimitTree, Principal, ResolveError, ResolvedAdapter};

use crate::auth::AuthError;
use crate::error::RegistryError;
use crate::http::{Body, public_adapters_after};
use crate::{ListedModel, Registry};

pub(super) async fn authenticate(
    State(registry): State<Registry>,
    Body(asked): Body<Authenticate>,
) -> Result<Json<Authenticated>, RegistryError> {
    match registry.authenticate(&asked.presented).await {
        Ok(principal) => Ok(Json(Authenticated::Known(Caller::from(&principal)))),
        Err(unknown @ (AuthError::Unavailable(_) | AuthError::RevocationsUnknown)) => Err(unknown.into()),
        Err(_) => Ok(Json(Authenticated::Refused)),
    }
}

pub(super) async fn resolve(
    State(registry): State<Registry>,
    Body(asked): Body<Resolve>,
) -> Result<Json<Resolved>, RegistryError> {
    let result = match asked.caller {
        Some(caller) => registry.resolve(&Principal::from(caller), &asked.reference).await,
        None => registry.resolve_for_operator(&asked.reference).await,
    };
    let result = match result {
        // The one who asks hands it on to a node with the job.
        Ok(resolved) => Ok(ResolvedAdapter { grant: Some(registry.grant_files(&resolved.digest).await?), ..resolved }),
        refused => refused,
    };
    Resolved::of(result).map(Json).map_err(unavailable)
}

pub(super) async fn list_models(
    State(registry): State<Registry>,
    Body(asked): Body<ListModels>,
) -> Result<Json<Models>, RegistryError> {
    let listed = registry.list_models(&Principal::from(asked.caller), asked.most_public).await?;
    let next = listed.more_after.as_ref().map(public_adapters_after);
    Ok(Json(Models { models: listed.models.into_iter().map(Model::from).collect(), next }))
}

pub(super) async fn get_model(
    State(registry): State<Registry>,
    Body(asked): Body<GetModel>,
) -> Result<Json<Option<Model>>, RegistryError> {
    let model = registry.listed_model(&Principal::from(asked.caller), &asked.name).await?;
    Ok(Json(model.map(Model::from)))
}

pub(super) async fn template(
    State(registry): State<Registry>,
    Body(asked): Body<Template>,
) -> Result<Json<TemplateFound>, RegistryError> {
    let found = registry.template_of(&asked.digest).await?;
    Ok(Json(found.map_or(TemplateFound::NotFound, |source| TemplateFound::Found { source })))
}

pub(super) async fn limits(
    State(registry): State<Registry>,
    Body(asked): Body<GetLimits>,
) -> Result<Json<Option<LimitTree>>, RegistryError> {
    Ok(Json(registry.limits_of_caller(&Principal::from(asked.caller)).await?))
}

/// The database's own error, where it was one.
fn unavailable(cause: Box<dyn std::error::Error + Send + Sync>) -> RegistryError {
    match cause.downcast::<sea_orm::DbErr>() {
        Ok(error) => (*error).into(),
        Err(cause) => RegistryError::Storage(std::io::Error::other(ResolveError::Unavailable(cause))),
    }
}

impl From<ListedModel> for Model {
    fn from(listed: ListedModel) -> Self {
        Self { created_unix_s: listed.created_unix_s.try_into().unwrap_or_default(), name: listed.name }
    }
}
