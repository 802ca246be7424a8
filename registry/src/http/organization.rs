//! `GET /v1/organization/usage/completions`, in OpenAI's shape and with OpenAI's errors, for programs that read usage there. It
//! is beside the API of the registry and not in its document; docs/usage.md has its parameters.

use axum::body::to_bytes;
use axum::extract::{RawQuery, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use souk_http::problem::PROBLEM_JSON;

use super::admit::admit;
use super::middleware::{authenticate, no_such_method};
use super::{Caller, Serving};
use crate::Registry;
use crate::db::now_ms;
use crate::db::usage_reading::Bucket;
use crate::error::RegistryError;
use crate::usage::read::{By, CompletionBucket, CompletionsRequest};

/// Where it is.
const PATH: &str = "/v1/organization/usage/completions";
/// Most values of a parameter that takes several.
const MAX_VALUES: usize = 100;
/// Longest of them.
const MAX_CHARS: usize = 200;
/// Largest problem.
const PROBLEM_BYTES: usize = 64 * 1024;
/// The last second that has a day after it: the beginning of the last day of the year 9999.
const LAST_S: i64 = 253_402_214_400;

/// The router.
pub(super) fn routes(registry: Registry) -> Router<Registry> {
    Router::new()
        .route(PATH, get(completions))
        .method_not_allowed_fallback(no_such_method)
        .route_layer(from_fn_with_state(registry.clone(), admit))
        .route_layer(from_fn_with_state(registry, authenticate))
        .layer(from_fn(in_envelope))
}

async fn completions(
    Serving(registry): Serving,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, RegistryError> {
    let request = read(query.as_deref().unwrap_or_default(), now_ms() / 1000)?;
    let (buckets, next) = registry.completions(&caller.0, &request).await?;
    let data: Vec<_> = buckets.iter().map(|bucket| shown(bucket, &request.by)).collect();
    Ok(Json(json!({
        "object": "page",
        "data": data,
        "has_more": next.is_some(),
        "next_page": next.map(|start_s| format!("page_{start_s}")),
    })))
}

fn shown(bucket: &CompletionBucket, by: &[By]) -> Value {
    let results = bucket.results.iter().map(|result| {
        let of = |wanted: By| {
            let name = result.group.names.get(by.iter().position(|by| *by == wanted)?)?;
            Some(name.as_str()).filter(|name| !name.is_empty())
        };
        let sums = result.group.sums;
        json!({
            "object": "organization.usage.completions.result",
            "input_tokens": sums.charged_input_tokens,
            "output_tokens": sums.charged_output_tokens,
            // Cached tokens count for each job, charged ones once for a prompt.
            "input_cached_tokens": sums.cached_tokens.min(sums.charged_input_tokens),
            "input_audio_tokens": 0,
            "output_audio_tokens": 0,
            "num_model_requests": sums.requests,
            "project_id": of(By::Team),
            "user_id": of(By::Person),
            "api_key_id": of(By::Key),
            "model": result.model,
            "batch": Value::Null,
        })
    });
    let results: Vec<_> = results.collect();
    json!({ "object": "bucket", "start_time": bucket.start_s, "end_time": bucket.end_s, "results": results })
}

/// Reads the query. Lists are given by repeating a parameter, with or without `[]` behind its name.
fn read(query: &str, now_s: i64) -> Result<CompletionsRequest, RegistryError> {
    let pairs: Vec<(String, String)> =
        serde_urlencoded::from_str(query).map_err(|error| wrong(format!("the query cannot be read: {error}")))?;
    let mut asked = Asked::default();
    for (name, value) in pairs {
        if value.chars().count() > MAX_CHARS || value.contains('\0') {
            return Err(wrong(format!("'{}' has at most {MAX_CHARS} characters, none of them U+0000.", short(&name))));
        }
        asked.take(name.strip_suffix("[]").unwrap_or(&name), value)?;
    }
    asked.request(now_s)
}

/// Parameters as they were given.
#[derive(Debug, Default)]
struct Asked {
    start_time: Option<String>,
    end_time: Option<String>,
    bucket_width: Option<String>,
    limit: Option<String>,
    page: Option<String>,
    batch: Option<String>,
    project_ids: Option<Vec<String>>,
    user_ids: Option<Vec<String>>,
    api_key_ids: Option<Vec<String>>,
    models: Option<Vec<String>>,
    group_by: Option<Vec<String>>,
}

impl Asked {
    fn take(&mut self, name: &str, value: String) -> Result<(), RegistryError> {
        let list = match name {
            "project_ids" => &mut self.project_ids,
            "user_ids" => &mut self.user_ids,
            "api_key_ids" => &mut self.api_key_ids,
            "models" => &mut self.models,
            "group_by" => &mut self.group_by,
            _ => return self.take_one(name, value),
        };
        let list = list.get_or_insert_default();
        list.push(value);
        if list.len() > MAX_VALUES {
            return Err(wrong(format!("'{name}' has at most {MAX_VALUES} values.")));
        }
        Ok(())
    }

    fn take_one(&mut self, name: &str, value: String) -> Result<(), RegistryError> {
        let one = match name {
            "start_time" => &mut self.start_time,
            "end_time" => &mut self.end_time,
            "bucket_width" => &mut self.bucket_width,
            "limit" => &mut self.limit,
            "page" => &mut self.page,
            "batch" => &mut self.batch,
            other => return Err(wrong(format!("Unknown parameter: '{}'.", short(other)))),
        };
        match one.replace(value) {
            None => Ok(()),
            Some(_) => Err(wrong(format!("'{name}' is given twice."))),
        }
    }

    fn request(self, now_s: i64) -> Result<CompletionsRequest, RegistryError> {
        let (bucket, width_s, usual, most) = match self.bucket_width.as_deref() {
            Some("1m") => (Bucket::Minute, 60, 60, 1440),
            Some("1h") => (Bucket::Hour, 3600, 24, 168),
            None | Some("1d") => (Bucket::Day, 86_400, 7, 31),
            Some(other) => return Err(wrong(format!("'bucket_width' is 1m, 1h or 1d; given '{}'.", short(other)))),
        };
        let start_time = self.start_time.ok_or_else(|| wrong("Missing required parameter: 'start_time'."))?;
        let start_s = seconds("start_time", &start_time)?;
        let end_s = self.end_time.map_or(Ok(now_s.max(start_s + 1)), |text| seconds("end_time", &text))?;
        if end_s <= start_s {
            return Err(wrong(format!("'end_time' must be after 'start_time', {start_s}; given {end_s}.")));
        }
        let limit = number("limit", self.limit.as_deref(), usual, most)?;
        let first_s = start_s / width_s * width_s;
        let page = self.page.map(|page| {
            let at = page.strip_prefix("page_").and_then(|text| text.parse::<i64>().ok());
            let at = at.filter(|at| (first_s..end_s).contains(at) && at % width_s == 0);
            at.ok_or_else(|| wrong("'page' is not the 'next_page' of the page before."))
        });
        // Nothing here is a batch.
        let only_batches = match self.batch.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => return Err(wrong(format!("'batch' is true or false; given '{}'.", short(other)))),
        };
        let mut by = Vec::new();
        for word in self.group_by.iter().flatten() {
            match word.as_str() {
                "project_id" => by.push(By::Team),
                "user_id" => by.push(By::Person),
                "api_key_id" => by.push(By::Key),
                "model" => by.extend([By::Base, By::Adapters]),
                "batch" => {}
                other => {
                    let all = "project_id, user_id, api_key_id, model, batch";
                    return Err(wrong(format!("'group_by' is some of {all}; given '{}'.", short(other))));
                }
            }
        }
        by.sort_unstable();
        by.dedup();
        Ok(CompletionsRequest {
            start_s: page.unwrap_or(Ok(first_s))?,
            end_s,
            bucket,
            width_s,
            limit,
            projects: self.project_ids,
            users: self.user_ids,
            keys: self.api_key_ids,
            models: if only_batches { Some(Vec::new()) } else { self.models },
            by,
        })
    }
}

fn seconds(name: &str, text: &str) -> Result<i64, RegistryError> {
    let seconds = text.parse().ok().filter(|seconds| (0..=LAST_S).contains(seconds));
    seconds.ok_or_else(|| {
        wrong(format!("'{name}' is seconds since the Unix epoch, 0 to {LAST_S}; given '{}'.", short(text)))
    })
}

fn number(name: &str, text: Option<&str>, usual: i64, most: i64) -> Result<i64, RegistryError> {
    let Some(text) = text else { return Ok(usual) };
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| wrong(format!("'{name}' is 1 to {most} for this width; given '{}'.", short(text))))
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

fn wrong(detail: impl Into<String>) -> RegistryError {
    RegistryError::bad_request("invalid_query", detail)
}

/// Puts errors into OpenAI's envelope. Their status and headers stay.
async fn in_envelope(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let is_problem = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_JSON);
    if !is_problem {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, PROBLEM_BYTES).await.unwrap_or_default();
    let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let kind = match parts.status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    };
    let code = match parts.status {
        StatusCode::UNAUTHORIZED => json!("invalid_api_key"),
        _ => problem["code"].clone(),
    };
    let error = json!({ "message": problem["detail"], "type": kind, "param": Value::Null, "code": code });
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = Json(json!({ "error": error })).into_response().into_body();
    Response::from_parts(parts, body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_796_083_199;

    #[test]
    fn a_query_is_read_as_the_official_client_writes_it() {
        let query =
            "start_time=1794700801&bucket_width=1d&limit=2&group_by[]=model&group_by=api_key_id&project_ids=team_1";
        let request = read(query, NOW).unwrap();
        assert_eq!((request.start_s, request.end_s, request.limit), (1_794_700_800, NOW, 2));
        assert_eq!(request.by, [By::Key, By::Base, By::Adapters]);
        assert_eq!(request.projects, Some(vec!["team_1".to_owned()]));
        let next = read(&format!("{query}&page=page_1794787200"), NOW).unwrap();
        assert_eq!(next.start_s, 1_794_787_200);
        assert_eq!(read("start_time=0&batch=true", NOW).unwrap().models, Some(Vec::new()));
    }

    #[test]
    fn what_cannot_be_meant_is_told_with_the_parameter_and_its_limits() {
        for (query, told) in [
            ("", "Missing required parameter: 'start_time'."),
            ("start_time=x", "'start_time' is seconds since the Unix epoch, 0 to 253402214400; given 'x'."),
            ("start_time=5&end_time=5", "'end_time' must be after 'start_time', 5; given 5."),
            ("start_time=5&bucket_width=1w", "'bucket_width' is 1m, 1h or 1d; given '1w'."),
            ("start_time=5&limit=32", "'limit' is 1 to 31 for this width; given '32'."),
            ("start_time=5&bucket_width=1m&limit=0", "'limit' is 1 to 1440 for this width; given '0'."),
            ("start_time=5&page=page_7", "'page' is not the 'next_page' of the page before."),
            (
                "start_time=5&group_by=colour",
                "'group_by' is some of project_id, user_id, api_key_id, model, batch; given 'colour'.",
            ),
            ("start_time=5&batch=1", "'batch' is true or false; given '1'."),
            ("start_time=5&start_time=6", "'start_time' is given twice."),
            ("start_time=5&colour=red", "Unknown parameter: 'colour'."),
        ] {
            assert_eq!(read(query, NOW).unwrap_err().to_string(), told);
        }
    }

    proptest! {
        #[test]
        fn no_query_breaks_the_reader(query in "[a-z_=&0-9%\\[\\]-]{0,80}", number in any::<i64>()) {
            let _ = read(&query, NOW);
            for width in ["1m", "1h", "1d"] {
                let asked = format!("start_time={number}&bucket_width={width}&{query}");
                if let Ok(request) = read(&asked, NOW) {
                    prop_assert!(request.start_s <= request.end_s && request.start_s % request.width_s == 0);
                }
            }
        }
    }
}
