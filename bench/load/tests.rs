//! The whole driver against a server that answers on time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Parser as _;
use serde_json::{Value, json};

use super::*;

/// Waits, then streams as many chunks as were asked for, one each two milliseconds.
#[derive(Debug)]
struct Server {
    first_chunk: Duration,
    /// Requests that may be answered at a time; others wait.
    places: tokio::sync::Semaphore,
    num_requests: AtomicUsize,
    /// Say how many tokens there were.
    gives_usage: bool,
}

impl Server {
    fn new(first_chunk_ms: u64, num_places: usize) -> Self {
        Self {
            first_chunk: Duration::from_millis(first_chunk_ms),
            places: tokio::sync::Semaphore::new(num_places),
            num_requests: AtomicUsize::new(0),
            gives_usage: true,
        }
    }

    /// Starts it; the address, and the server to look at.
    async fn start(self) -> (String, Arc<Self>) {
        let server = Arc::new(self);
        let models = || async { axum::Json(json!({ "data": [{ "id": "base" }] })) };
        let router = Router::new()
            .route("/v1/models", get(models))
            .route("/v1/completions", post(completions))
            .with_state(Arc::clone(&server));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (url, server)
    }
}

async fn completions(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    server.num_requests.fetch_add(1, Ordering::Relaxed);
    let request: Value = serde_json::from_slice(&body).unwrap();
    match request["model"].as_str().unwrap() {
        "refused" => {
            let error = json!({ "error": { "message": "wait", "type": "rate_limit", "code": "queue_full" } });
            return (StatusCode::TOO_MANY_REQUESTS, axum::Json(error)).into_response();
        }
        "broken" => return "data: {\"choices\":[{\"text\":\"a\"}]}\n\n".into_response(),
        "fails" => {
            return "data: {\"error\":{\"message\":\"m\",\"code\":\"node_lost\"}}\n\ndata: [DONE]\n\n".into_response();
        }
        _ => {}
    }
    // The second tenant's key asks for half.
    let is_second = headers.get("authorization").is_some_and(|value| value == "Bearer two");
    let num_tokens = request["max_tokens"].as_u64().unwrap() / if is_second { 2 } else { 1 };
    let prompt_tokens = request["prompt"].as_str().unwrap().split(' ').count();
    let usage = json!({ "prompt_tokens": prompt_tokens, "completion_tokens": num_tokens });
    if request.get("stream").is_none() {
        return axum::Json(json!({ "choices": [{ "text": "a" }], "usage": usage })).into_response();
    }
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<String, std::io::Error>>(4);
    tokio::spawn(async move {
        let _place = server.places.acquire().await.unwrap();
        tokio::time::sleep(server.first_chunk).await;
        for _ in 0..num_tokens {
            if sender.send(Ok("data: {\"choices\":[{\"text\":\"a\"}],\"usage\":null}\n\n".to_owned())).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let last = if server.gives_usage {
            format!("data: {}\n\n", json!({ "choices": [], "usage": usage }))
        } else {
            String::new()
        };
        sender.send(Ok(format!("{last}data: [DONE]\n\n"))).await.ok();
    });
    let stream = futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    Body::from_stream(stream).into_response()
}

struct Nobody;

impl Watch for Nobody {
    fn says(&self, _: &str) {}
}

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    bench: BenchArgs,
}

fn server(url: &str) -> crate::Server {
    crate::Server { url: url.to_owned(), api_key: None }
}

async fn bench(url: &str, flags: &str) -> anyhow::Result<Report> {
    let words = ["bench", "--warm-up-s", "0", "--prompt-tokens", "7", "--output-tokens", "10"];
    let arguments = Line::try_parse_from(words.into_iter().chain(flags.split(' '))).unwrap().bench;
    run(&server(url), &arguments, std::future::pending(), &Nobody).await
}

#[tokio::test]
async fn a_closed_loop_counts_every_request_and_token() {
    let (url, server) = Server::new(30, 100).start().await;
    let report =
        bench(&url, "--users 4 --requests 20 --per-adapter --adapters x,y --adapter-state cold").await.unwrap();
    assert_eq!((report.succeeded, report.failed), (20, 0), "{:?}", report.errors);
    assert_eq!(server.num_requests.load(Ordering::Relaxed), 20);
    assert_eq!((report.tokens_counted.by_usage, report.tokens_counted.by_chunks), (20, 0));
    assert!((report.tokens_out_per_s * report.measured_s - 200.0).abs() < 1e-6);
    assert!((report.tokens_in_per_s * report.measured_s - 140.0).abs() < 1e-6);
    let latency = &report.latency;
    assert!(latency.time_to_first_token.p50_ms.unwrap() >= 29.0);
    // Nine pauses of two milliseconds follow the first token's thirty.
    assert!(latency.total.p50_ms.unwrap() >= 47.0);
    assert_eq!((latency.between_chunks.count, latency.per_output_token.count), (180, 20));
    assert_eq!(latency.first_use_of_adapter.count, 2);
    assert_eq!(report.adapters.unwrap().iter().map(|adapter| adapter.succeeded).sum::<u64>(), 20);
}

#[tokio::test]
async fn an_open_loop_counts_the_wait_that_a_slow_server_causes() {
    // One at a time, 70 ms each: half of the 29 arrivals a second are ever answered in time.
    let (url, _server) = Server::new(50, 1).start().await;
    let flags = "--rate 29 --arrivals constant --duration-s 1.5";
    let free = bench(&url, flags).await.unwrap();
    // A place less in the driver must not make the server look better: the wait moves, it does not vanish.
    let bound = bench(&url, &format!("{flags} --max-in-flight 1")).await.unwrap();
    for report in [&free, &bound] {
        assert_eq!(report.latency.total.count, 43, "{:?}", report.errors);
        assert!(report.latency.total.max_ms.unwrap() > 1000.0, "{:?}", report.latency.total);
    }
    assert!(free.latency.send_delay.p50_ms.unwrap() < 100.0);
    assert!(bound.latency.send_delay.max_ms.unwrap() > 1000.0);
}

#[tokio::test]
async fn requests_unanswered_at_the_end_are_failures() {
    let (url, _server) = Server::new(60_000, 100).start().await;
    let report =
        bench(&url, "--rate 20 --arrivals constant --duration-s 0.5 --drain-s 0.1 --max-in-flight 4").await.unwrap();
    assert_eq!((report.succeeded, report.failed), (0, 9));
    assert_eq!(report.errors[0].kind, "unanswered at the end");
    let report = bench(&url, "--users 2 --requests 2 --request-timeout-s 0.1").await.unwrap();
    assert_eq!((report.errors[0].kind.as_str(), report.errors[0].count), ("timeout", 2));
}

#[tokio::test]
async fn failures_keep_their_status_and_kind() {
    let (url, _server) = Server::new(1, 100).start().await;
    let flags = "--users 2 --requests 60 --adapters refused,broken,fails,fine --adapter-state cold";
    let report = bench(&url, flags).await.unwrap();
    let mut kinds: Vec<(Option<u16>, &str)> =
        report.errors.iter().map(|error| (error.status, error.kind.as_str())).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [(None, "broke off"), (None, "in stream: node_lost"), (Some(429), "queue_full")]);
    assert_eq!(report.succeeded + report.failed, 60);
    assert!(report.succeeded > 0);
}

#[tokio::test]
async fn tenants_call_with_their_keys_and_are_judged_by_weight() {
    let (url, _server) = Server::new(5, 100).start().await;
    let flags = "--users 4 --duration-s 0.6 --no-stream --tenant a:1=one --tenant b:1=two";
    let report = bench(&url, flags).await.unwrap();
    assert!(report.fairness.index.unwrap() < 1.0);
    let per_request = |index: usize| {
        let tenant = &report.fairness.tenants[index];
        tenant.tokens_out_per_s * report.measured_s / tenant.succeeded as f64
    };
    assert!((per_request(0) - 10.0).abs() < 1e-6 && (per_request(1) - 5.0).abs() < 1e-6);
    assert_eq!(report.latency.time_to_first_token.count, 0);
}

#[tokio::test]
async fn a_server_that_gives_no_usage_has_its_chunks_counted() {
    let server = Server { gives_usage: false, ..Server::new(1, 100) };
    let (url, _server) = server.start().await;
    let report = bench(&url, "--users 1 --requests 3").await.unwrap();
    assert_eq!(report.tokens_counted.by_chunks, 3);
    assert!((report.tokens_out_per_s * report.measured_s - 30.0).abs() < 1e-6);
}

#[tokio::test]
async fn a_warm_run_touches_each_adapter_and_stops_at_one_that_fails() {
    let (url, server) = Server::new(1, 100).start().await;
    bench(&url, "--users 1 --requests 1 --adapters a{0..4}").await.unwrap();
    assert_eq!(server.num_requests.load(Ordering::Relaxed), 6);
    let error = bench(&url, "--users 1 --requests 1 --adapters a,refused").await.unwrap_err().to_string();
    assert!(error.contains("adapter refused does not answer: wait (429 queue_full)"), "{error}");
}

#[tokio::test]
async fn an_interrupted_run_reports_what_it_measured() {
    let (url, _server) = Server::new(1, 100).start().await;
    let words = ["bench", "--warm-up-s", "0", "--output-tokens", "2", "--users", "1"];
    let arguments = Line::try_parse_from(words).unwrap().bench;
    let report = run(&server(&url), &arguments, tokio::time::sleep(Duration::from_millis(300)), &Nobody).await.unwrap();
    assert!(report.interrupted && report.succeeded > 1 && report.failed == 0);
    assert!((0.2..10.0).contains(&report.measured_s), "{}", report.measured_s);
}

#[tokio::test]
async fn the_driver_reuses_connections() {
    use std::sync::Mutex;
    let peers = Arc::new(Mutex::new(std::collections::HashSet::new()));
    let seen = Arc::clone(&peers);
    let answer = move |axum::extract::ConnectInfo(peer): axum::extract::ConnectInfo<std::net::SocketAddr>| async move {
        seen.lock().unwrap().insert(peer);
        "data: {\"choices\":[{\"text\":\"a\"}]}\n\ndata: [DONE]\n\n"
    };
    let router = Router::new().route("/v1/completions", post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    let report = bench(&url, "--users 3 --requests 60 --base-model b").await.unwrap();
    assert_eq!(report.succeeded, 60);
    assert!(peers.lock().unwrap().len() <= 3, "{:?}", peers.lock().unwrap());
}
