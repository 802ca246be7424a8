use axum::Json;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use utoipa::ToSchema;

use super::UploadPath;
use crate::error::RegistryError;
use crate::http::versions::AdapterVersion;
use crate::http::versions::form::FormParts;
use crate::http::{Caller, IdempotencyKey, PathOf, Problem, Problems, Serving, key_of, route_of};
use crate::idempotency::{Claim, Once};

/// The parts that come with a completion: those of an upload in one form, but for the version and the weights.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape is read, by the derive")]
pub(crate) struct CompletionParts {
    /// PEFT's configuration, up to 64 KiB.
    #[schema(rename = "adapter_config.json", format = Binary)]
    config: String,
    /// The model card, up to 1 MiB.
    #[schema(rename = "README.md", format = Binary)]
    card: Option<String>,
    /// The version's own chat template (Jinja), up to 64 KiB.
    #[schema(rename = "chat_template.jinja", format = Binary)]
    chat_template: Option<String>,
    /// The tokenizer's settings, up to 4 MiB.
    #[schema(rename = "tokenizer_config.json", format = Binary)]
    tokenizer_config: Option<String>,
    /// Tokens that were added in training, up to 4 MiB.
    #[schema(rename = "added_tokens.json", format = Binary)]
    added_tokens: Option<String>,
    /// The base model, where the configuration's own name says nothing.
    base: Option<String>,
    /// `true` lets in an adapter that changes nothing.
    allow_no_effect: Option<bool>,
    /// Names of files of the folder that were not sent, as a JSON list; kept in the report.
    left_out: Option<String>,
}

/// Completes an upload of which all parts were sent: the registry reads the weights, compares them with what was announced,
/// checks everything against the base model, and the version is visible when this answers 201.
///
/// Scope: `adapters:write`. Parts that have not arrived answer 409 `parts_missing`; an adapter that cannot be served 422
/// `adapter_rejected`, with every problem found. After either, and after a failure of the registry's, it can be completed
/// again. Bytes other than those announced answer 422 `wrong_bytes` and end the upload. Of two that complete it at once one
/// answers 409 `upload_in_progress`; once it was completed it answers 404, and a repeated call with the same
/// `Idempotency-Key` as the first did.
#[utoipa::path(
    post, path = "/adapters/{owner}/{name}/uploads/{upload}/complete", tag = "uploads",
    params(UploadPath, IdempotencyKey),
    request_body(content = CompletionParts, content_type = "multipart/form-data"),
    responses(
        (status = 201, body = AdapterVersion, description = "The version, which is visible now"),
        (status = 422, body = Problem, content_type = "application/problem+json",
         description = "The files are not an adapter that can be served, or the bytes are not those announced"),
        (status = 507, body = Problem, content_type = "application/problem+json",
         description = "There is no room for it, or more than the tenant's share would be stored"),
        Problems
    )
)]
pub(crate) async fn complete_upload(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<UploadPath>,
    request: Request,
) -> Result<Response, RegistryError> {
    let completion = registry.begin_completion(&caller.0, &path.owner, &path.name, &path.upload).await?;
    let (route, key) = (route_of(&request), key_of(request.headers())?);
    let mut parts = FormParts::of(request)?;
    let claim = match key {
        Some(key) => Some(registry.claim(&caller.0, route, key).await?),
        None => None,
    };
    let claim = match claim {
        Some(Claim::Kept(kept)) => {
            let sent = completion.fingerprint(&mut parts).await?;
            return Ok(kept.for_body(&sent)?.into_response());
        }
        Some(Claim::New(claim)) => Some(claim),
        None => None,
    };
    let complete = completion.receive(&mut parts).await?;
    let once = Once::new(claim, complete.fingerprint());
    // A task of its own: the client has sent all that it has to, and its going away changes nothing now.
    let work = tokio::spawn(async move {
        let published = complete.publish(&once, AdapterVersion::from).await;
        once.end().await;
        published
    });
    let version = work.await.map_err(std::io::Error::other)??;
    Ok((StatusCode::CREATED, Json(AdapterVersion::from(version))).into_response())
}
