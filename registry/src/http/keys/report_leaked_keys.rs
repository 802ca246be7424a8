use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use souk_http::serve::{ClientAddress, Origin};
use souk_protocol::gate::Pass;
use utoipa::ToSchema;

use crate::Registry;
use crate::error::RegistryError;
use crate::http::{Body, Problems};
use crate::keys::{LeakReport, MAX_REPORTS};

/// What was found. Other fields that scanners send, such as `type` and `source`, are taken and not used.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ReportedKey {
    /// The text that was found, in full.
    #[schema(example = "souk_…")]
    token: String,
    /// Where it was found; told to the key's owner if it is an address of the web.
    url: Option<String>,
}

/// That reports were taken.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TakenReports {
    /// `accepted`, whatever they hold.
    #[schema(example = "accepted")]
    status: &'static str,
}

/// A place for one who reports, by address, taken before the body is read.
pub(crate) struct Reporter(Pass<Option<Origin>>);

impl FromRequestParts<Registry> for Reporter {
    type Rejection = RegistryError;

    async fn from_request_parts(parts: &mut Parts, registry: &Registry) -> Result<Self, RegistryError> {
        let from = parts.extensions.get::<ClientAddress>().map(|client| Origin::of(client.0));
        registry.gates.begin_reports(from).map(Self)
    }
}

/// Takes keys that were found where they should not be, up to 100 at a time, in the shape in which scanners of secrets send
/// them. One that is a key is revoked with those that were made with it, and its tenant is told, once; what it says is then
/// `leaked`.
///
/// No key is needed, and the answer says nothing of what was found: it is the same after the same time.
#[utoipa::path(
    post, path = "/keys/revoke", tag = "keys",
    security(()),
    request_body = Vec<ReportedKey>,
    responses((status = 202, description = "The reports were taken", body = TakenReports), Problems)
)]
pub(crate) async fn report_leaked_keys(
    State(registry): State<Registry>,
    Reporter(place): Reporter,
    Body(reports): Body<Vec<ReportedKey>>,
) -> Result<(StatusCode, Json<TakenReports>), RegistryError> {
    if !(1..=MAX_REPORTS).contains(&reports.len()) {
        let detail = format!("1 to {MAX_REPORTS} reports in one request, given {}", reports.len());
        return Err(RegistryError::bad_request("invalid_body", detail));
    }
    let reports = reports.into_iter().map(|ReportedKey { token, url }| LeakReport { token, url });
    registry.take_leak_reports(reports.collect(), place).await?;
    Ok((StatusCode::ACCEPTED, Json(TakenReports { status: "accepted" })))
}
