//! A small service with the crust around it, as callers meet it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Path;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use souk_http::problem::Problem;
use souk_http::{Exporter, Service, put_around};
use tower::ServiceExt as _;

static SERVICE: Service = Service {
    name: "small",
    requests: "small_requests_total",
    request_seconds: "small_request_seconds",
    answer_panic: |message| {
        let detail = format!("{} bytes of panic", message.len());
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response()
    },
};

fn service() -> Router {
    async fn say(Path(word): Path<String>) -> String {
        assert_ne!(word, "panic", "a secret");
        word
    }
    async fn refuse() -> StatusCode {
        StatusCode::FORBIDDEN
    }
    async fn wait() {
        std::future::pending::<()>().await;
    }
    let router = Router::new().route("/say/{word}", get(say)).route("/refuse", post(refuse)).route("/wait", get(wait));
    put_around(router, &SERVICE)
}

/// The exporter is the process', so all tests share it.
fn exporter() -> &'static Exporter {
    static EXPORTER: OnceLock<Exporter> = OnceLock::new();
    EXPORTER.get_or_init(|| Exporter::install().unwrap())
}

async fn call(request: Request<Body>) -> Response {
    exporter();
    service().oneshot(request).await.unwrap()
}

async fn json_of(response: Response) -> Value {
    serde_json::from_slice(&to_bytes(response.into_body(), 10_000).await.unwrap()).unwrap()
}

fn figure(line: &str) -> u64 {
    let text = exporter().render();
    let value = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
    value.unwrap_or(0)
}

#[tokio::test]
async fn every_answer_has_an_id_of_its_own_that_the_client_cannot_choose() {
    let request = || Request::get("/say/hello").header("x-request-id", "mine").body(Body::empty()).unwrap();
    let (one, other) = (call(request()).await, call(request()).await);
    let id = |response: &Response| response.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert!(id(&one).starts_with("req_") && id(&one) != id(&other));
    assert_eq!(to_bytes(one.into_body(), 100).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_panic_is_an_answer_in_the_services_shape_with_an_id() {
    let response = call(Request::get("/say/panic").body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), 500);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert!(response.headers().contains_key("x-request-id"));
    let body = json_of(response).await;
    assert_eq!((&body["code"], &body["status"]), (&json!("internal"), &json!(500)));
    assert!(body["detail"].as_str().unwrap().ends_with("bytes of panic"));
}

#[tokio::test]
async fn requests_are_counted_by_route_and_measured_to_the_end_of_their_answers() {
    let counted = r#"small_requests_total{route="/say/{word}",method="GET",status="200"}"#;
    let measured = r#"small_request_seconds_count{route="/say/{word}"}"#;
    exporter();
    let (counted_before, measured_before) = (figure(counted), figure(measured));
    let response = call(Request::get("/say/count-me").body(Body::empty()).unwrap()).await;
    assert_eq!(response.headers().get("content-length").map(|length| length.to_str().unwrap()), Some("8"));
    assert!(figure(counted) > counted_before);
    drop(response);
    assert!(figure(measured) > measured_before);
    let text = exporter().render();
    assert!(text.contains("# HELP small_requests_total ") && text.contains("# HELP small_request_seconds "), "{text}");
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_counted_too() {
    let gone = r#"small_requests_total{route="/wait",method="GET",status="499"}"#;
    let request = call(Request::get("/wait").body(Body::empty()).unwrap());
    assert!(tokio::time::timeout(Duration::from_millis(20), request).await.is_err());
    assert_eq!(figure(gone), 1);
}

#[tokio::test]
async fn a_refused_body_is_read_to_its_end_before_the_answer() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let mut sender = Some(sender);
    let pieces = stream::iter(0..100).map(move |piece| {
        if piece == 99 {
            sender.take().unwrap().send(()).unwrap();
        }
        Ok::<_, std::io::Error>(Bytes::from_static(&[0; 1000]))
    });
    let response = call(Request::post("/refuse").body(Body::from_stream(pieces)).unwrap()).await;
    assert_eq!(response.status(), 403);
    receiver.await.expect("the last piece was read");
}

#[tokio::test(start_paused = true)]
async fn a_refused_body_that_does_not_end_holds_its_answer_for_ten_seconds() {
    let started = tokio::time::Instant::now();
    let body = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let response = call(Request::post("/refuse").body(body).unwrap()).await;
    assert_eq!((response.status().as_u16(), started.elapsed().as_secs()), (403, 10));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_the_go_ahead_hears_the_refusal_at_once() {
    let started = tokio::time::Instant::now();
    let body = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let request = Request::post("/refuse").header("expect", "100-continue").body(body).unwrap();
    assert_eq!(call(request).await.status(), 403);
    assert_eq!(started.elapsed().as_secs(), 0);
}
