//! What pages of other origins may do, as browsers ask and read it.

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use serde_json::Value;
use souk_http::cors::CorsOrigins;

use crate::stack::{HttpAnswer, KEY, Stack};

const PAGE: &str = "https://app.example.com";
const CHAT: &str = "/v1/chat/completions";

async fn stack(origins: &[&str]) -> Stack {
    let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
    Stack::with_cors(CorsOrigins::parse(&origins).unwrap()).await
}

/// What a browser asks before a page's request, without a key.
async fn preflight(stack: &Stack, path: &str, method: &str, origin: &str) -> HttpAnswer {
    let request = Request::options(path)
        .header("origin", origin)
        .header("access-control-request-method", method)
        .header("access-control-request-headers", "authorization,content-type,x-stainless-os");
    stack.send(request.body(Body::empty()).unwrap()).await
}

async fn call(stack: &Stack, method: &str, path: &str, origin: &str, key: &str) -> HttpAnswer {
    let request = Request::builder().method(method).uri(path).header("origin", origin);
    stack.send(request.header("authorization", format!("Bearer {key}")).body(Body::empty()).unwrap()).await
}

fn allowed<'answer>(headers: &'answer HeaderMap, name: &str) -> Option<&'answer str> {
    headers.get(format!("access-control-{name}")).map(|value| value.to_str().unwrap())
}

fn has_none(answer: &HttpAnswer) -> bool {
    !answer.headers.keys().any(|name| name.as_str().starts_with("access-control-"))
}

/// Method and path of routes.
type Routes = Vec<(String, String)>;

/// Each route that takes a key, and each that does not.
fn routes() -> (Routes, Routes) {
    let document = serde_json::to_value(souk_gateway::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    let routes = paths.flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(move |(method, operation)| (method, path, operation))
    });
    let (keyed, open): (Vec<_>, Vec<_>) = routes.partition(|(_, _, operation)| operation["security"] != Value::Null);
    let called = |routes: Vec<(&String, &String, &Value)>| {
        routes.into_iter().map(|(method, path, _)| (method.to_uppercase(), path.replace("{id}", "acme/sst2"))).collect()
    };
    (called(keyed), called(open))
}

#[tokio::test]
async fn a_preflight_of_every_route_with_a_key_is_answered_without_one() {
    let (keyed, open) = routes();
    assert_eq!((keyed.len(), open.len()), (7, 3));
    for (origins, answer) in [(["*"], "*"), ([PAGE], PAGE)] {
        let stack = stack(&origins).await;
        for (method, path) in &keyed {
            let preflight = preflight(&stack, path, method, PAGE).await;
            assert_eq!(preflight.status, 200, "{path}");
            assert_eq!(allowed(&preflight.headers, "allow-origin"), Some(answer), "{path}");
            let methods = allowed(&preflight.headers, "allow-methods").unwrap();
            assert!(methods.split(',').any(|allowed| allowed == method), "{path}: {methods}");
            let asked = "authorization,content-type,x-stainless-os";
            assert_eq!(allowed(&preflight.headers, "allow-headers"), Some(asked), "{path}");
            assert_eq!(allowed(&preflight.headers, "max-age"), Some("3600"), "{path}");
            assert_eq!(allowed(&preflight.headers, "allow-credentials"), None, "{path}");
        }
        for (method, path) in &open {
            assert!(has_none(&preflight(&stack, path, method, PAGE).await), "{path}");
            assert!(has_none(&call(&stack, method, path, PAGE, KEY).await), "{path}");
        }
    }
}

#[tokio::test]
async fn a_page_may_read_answers_and_refusals_with_their_headers() {
    let stack = stack(&[PAGE]).await;
    for (method, path, key, status) in [
        ("GET", "/v1/models", KEY, 200),
        ("GET", "/v1/models", "souk_wrong", 401),
        ("GET", "/v1/models/nothing", KEY, 404),
        ("GET", CHAT, KEY, 405),
        ("POST", CHAT, KEY, 415),
    ] {
        let answer = call(&stack, method, path, PAGE, key).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(allowed(&answer.headers, "allow-origin"), Some(PAGE));
        assert_eq!(allowed(&answer.headers, "allow-credentials"), None);
        let exposed: Vec<&str> = allowed(&answer.headers, "expose-headers").unwrap().split(',').collect();
        for name in ["x-request-id", "retry-after", "x-ratelimit-remaining-tokens", "x-souk-adapter-digest"] {
            assert!(exposed.contains(&name), "{exposed:?}");
        }
        // A cache must not hand one page's answer to another.
        assert!(answer.headers["vary"].to_str().unwrap().contains("origin"));
    }
}

#[tokio::test]
async fn a_page_of_an_origin_that_is_not_listed_may_not() {
    let stack = stack(&[PAGE, "http://localhost:3000"]).await;
    for origin in ["https://evil.example.com", "http://app.example.com", "https://app.example.com.evil.com", "null"] {
        let preflight = preflight(&stack, CHAT, "POST", origin).await;
        assert_eq!(allowed(&preflight.headers, "allow-origin"), None, "{origin}");
        let answer = call(&stack, "GET", "/v1/models", origin, KEY).await;
        assert_eq!(allowed(&answer.headers, "allow-origin"), None, "{origin}");
    }
    let answer = call(&stack, "GET", "/v1/models", "http://localhost:3000", KEY).await;
    assert_eq!(allowed(&answer.headers, "allow-origin"), Some("http://localhost:3000"));
}

#[tokio::test]
async fn without_the_setting_no_page_may_and_options_is_a_method_like_others() {
    let stack = stack(&[]).await;
    let preflight = preflight(&stack, CHAT, "POST", PAGE).await;
    assert_eq!((preflight.status.as_u16(), has_none(&preflight)), (405, true), "{}", preflight.text);
    assert!(has_none(&call(&stack, "GET", "/v1/models", PAGE, KEY).await));
}
