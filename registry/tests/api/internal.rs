//! What gateways that run apart ask a registry.

use std::time::Duration;

use futures::StreamExt as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use souk_protocol::Digest;
use souk_protocol::internal::{Caller, GRANT_HEADER, Line};

use crate::services::{service, with_token};
use crate::support::{AdapterFiles, Stack, User, body, in_haste, problem};

/// The stack with a gateway's token.
async fn gateway(stack: &Stack) -> User {
    let (_, key) = service(stack, "gateway-1").await;
    with_token(stack, &key).await
}

async fn asked(gateway: &User, path: &str, question: Value) -> Value {
    body(gateway.post(&format!("/internal/{path}"), question).await, StatusCode::OK).await
}

#[tokio::test]
async fn a_gateway_hears_who_presents_a_key_or_a_token_and_of_anything_else_that_it_opens_nothing() {
    let stack = Stack::start().await;
    let gateway = gateway(&stack).await;
    let acme = stack.tenant("acme").await;
    let token = body(acme.post("/auth/token", json!({ "scopes": ["inference"] })).await, StatusCode::OK).await;
    let principal = stack.principal(&acme).await;
    let known = asked(&gateway, "authenticate", json!({ "presented": acme.key })).await;
    assert_eq!(known, json!({ "known": Caller::from(&principal) }));
    let by_token = asked(&gateway, "authenticate", json!({ "presented": token["access_token"] })).await;
    assert_eq!(by_token["known"]["key"], principal.key.as_str());
    assert_eq!(by_token["known"]["scopes"], json!(["inference"]));
    for nothing in ["", "souk_x", "eyJ.x.y", &gateway.key] {
        assert_eq!(asked(&gateway, "authenticate", json!({ "presented": nothing })).await, "refused", "{nothing}");
    }
    problem(gateway.post("/internal/authenticate", json!({})).await, StatusCode::BAD_REQUEST, "invalid_body").await;
}

#[tokio::test]
async fn what_a_name_means_is_told_for_whoever_asks() {
    let stack = Stack::start().await;
    let gateway = gateway(&stack).await;
    let (acme, rival) = (stack.tenant("acme").await, stack.tenant("rival").await);
    acme.make_adapter("tone", "private").await;
    let published = acme.publish("acme/tone", "1.0.0", 1).await;
    let (own, others) = (Caller::from(&stack.principal(&acme).await), Caller::from(&stack.principal(&rival).await));
    let resolve = async |caller: Option<&Caller>, reference: &str| {
        asked(&gateway, "resolve", json!({ "caller": caller, "reference": reference })).await
    };
    let found = resolve(Some(&own), "acme/tone@1.0.0").await;
    assert_eq!((&found["found"]["digest"], &found["found"]["version"]), (&published["digest"], &json!("1.0.0")));
    let for_operator = resolve(None, "acme/tone").await;
    assert_eq!(for_operator["found"]["digest"], found["found"]["digest"], "what an operator's settings name");
    assert_eq!(resolve(Some(&others), "acme/tone@1.0.0").await, "not_found");
    assert_eq!(resolve(Some(&own), "acme/tone:prod").await, "not_found");

    let models = asked(&gateway, "models", json!({ "caller": own, "most_public": 10 })).await;
    assert_eq!(models["models"][0]["name"], "acme/tone");
    assert_eq!(asked(&gateway, "models", json!({ "caller": others, "most_public": 10 })).await["models"], json!([]));
    assert_eq!(asked(&gateway, "model", json!({ "caller": own, "name": "acme/tone" })).await["name"], "acme/tone");
    assert_eq!(asked(&gateway, "model", json!({ "caller": others, "name": "acme/tone" })).await, Value::Null);
    let template = asked(&gateway, "template", json!({ "digest": published["digest"] })).await;
    assert_eq!(template, json!({ "found": { "source": null } }));
    assert_eq!(asked(&gateway, "template", json!({ "digest": Digest::of(b"x").to_string() })).await, "not_found");

    let taken_down = stack.admin.post("/adapters/acme/tone/versions/1.0.0/take-down", json!({ "reason": "x" })).await;
    assert_eq!(taken_down.status(), StatusCode::OK);
    assert_eq!(resolve(Some(&own), "acme/tone@1.0.0").await, "taken_down");
}

#[tokio::test]
async fn what_binds_a_caller_is_told_and_nothing_of_who_is_gone() {
    let stack = Stack::start().await;
    let gateway = gateway(&stack).await;
    let acme = stack.tenant("acme").await;
    let limits =
        json!({ "limits": { "tokens_per_day": { "value": 9, "soft": 8, "mode": "shadow" } }, "gate_weight": 3 });
    assert_eq!(stack.admin.patch("/tenants/acme/limits", limits).await.status(), StatusCode::OK);
    let own = Caller::from(&stack.principal(&acme).await);
    let tree = asked(&gateway, "limits", json!({ "caller": own })).await;
    let levels = json!([
        { "subject": { "tenant": own.tenant }, "limits": { "tokens_per_day": { "value": 9, "soft": 8, "mode": "shadow" } } },
        { "subject": { "key": own.key }, "limits": {} },
    ]);
    assert_eq!(tree, json!({ "levels": levels, "gate_weight": 3, "keeps_answers": false }));
    let gone = Caller { key: souk_protocol::KeyId::from_stored("000000000000"), ..own };
    assert_eq!(asked(&gateway, "limits", json!({ "caller": gone })).await, Value::Null);
}

#[tokio::test]
async fn a_file_comes_by_its_digest_whole_or_from_a_byte_on() {
    let stack = Stack::start().await;
    let gateway = gateway(&stack).await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("tone", "private").await;
    acme.publish("acme/tone", "1.0.0", 1).await;
    let weights = AdapterFiles::tiny(1).weights_bytes();
    let digest = Digest::of(&weights);
    let own = Caller::from(&stack.principal(&acme).await);
    let resolved = asked(&gateway, "resolve", json!({ "caller": own, "reference": "acme/tone" })).await;
    let grant = resolved["found"]["grant"].as_str().unwrap();
    let get = async |range: Option<&str>| {
        let request = gateway.request(Method::GET, &format!("/internal/files/{digest}")).header(GRANT_HEADER, grant);
        let request = range.into_iter().fold(request, |request, range| request.header("range", range));
        request.send().await.unwrap()
    };
    let whole = get(None).await;
    assert_eq!(whole.headers()["etag"], format!("\"{digest}\""));
    assert_eq!(whole.bytes().await.unwrap(), weights);
    let rest = get(Some("bytes=100-")).await;
    assert_eq!(
        (rest.status(), rest.headers()["content-range"].to_str().unwrap()),
        (StatusCode::PARTIAL_CONTENT, "bytes 100-/*")
    );
    assert_eq!(rest.bytes().await.unwrap(), weights[100..]);
    let end = get(Some(&format!("bytes={}-", weights.len()))).await;
    assert_eq!((end.status(), end.bytes().await.unwrap().len()), (StatusCode::PARTIAL_CONTENT, 0));
    let past = get(Some(&format!("bytes={}-", weights.len() + 1))).await;
    assert_eq!(past.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(past.headers()["content-range"], format!("bytes */{}", weights.len()));
    assert_eq!(get(Some("bytes=0-9")).await.status(), StatusCode::OK, "another range is passed over");

    let again = gateway.request(Method::GET, &format!("/internal/files/{digest}"));
    let again =
        again.header("if-none-match", format!("\"{digest}\"")).header(GRANT_HEADER, grant).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    for absent in ["sha256:x".to_owned(), "..%2F..%2Fkey-pepper".to_owned()] {
        let absent = gateway.get(&format!("/internal/files/{absent}")).await;
        problem(absent, StatusCode::NOT_FOUND, "not_found").await;
    }
}

/// A stream of withdrawals as it is heard.
struct Stream {
    bytes: futures::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    partial: Vec<u8>,
    lines: std::collections::VecDeque<Line>,
}

impl Stream {
    async fn begin(gateway: &User, after: Option<i64>) -> Self {
        let query = after.map_or_else(String::new, |after| format!("?after={after}"));
        let answer = gateway.get(&format!("/internal/withdrawals{query}")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
        Self { bytes: answer.bytes_stream().boxed(), partial: Vec::new(), lines: [].into() }
    }

    /// The next line; `None` at the end.
    async fn line(&mut self) -> Option<Line> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            let next = tokio::time::timeout(Duration::from_secs(20), self.bytes.next()).await.expect("it beats");
            self.partial.extend(next?.unwrap());
            while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.partial.drain(..=end).collect();
                self.lines.push_back(serde_json::from_slice(&line).unwrap());
            }
        }
    }

    /// What is told until the next number, and that number. Changes are passed over.
    async fn told(&mut self) -> (Vec<Line>, i64) {
        let mut told = Vec::new();
        loop {
            match self.line().await.expect("it goes on") {
                Line::At { number, .. } => return (told, number),
                Line::Changed => {}
                line => told.push(line),
            }
        }
    }

    /// The first that is told at all.
    async fn first_told(&mut self) -> (Vec<Line>, i64) {
        loop {
            let (told, number) = self.told().await;
            if !told.is_empty() {
                return (told, number);
            }
        }
    }
}

/// A key of acme, revoked.
async fn revoked(acme: &User) -> Line {
    let made = acme.post("/keys", json!({ "name": "k", "scopes": ["inference"] })).await;
    let id = body(made, StatusCode::CREATED).await["id"].as_str().unwrap().to_owned();
    assert_eq!(acme.delete(&format!("/keys/{id}")).await.status(), StatusCode::NO_CONTENT);
    Line::Key(souk_protocol::KeyId::from_stored(id))
}

#[tokio::test]
async fn withdrawals_are_told_from_a_number_on_by_whatever_registry() {
    let first = Stack::start_with(in_haste).await;
    let at_first = gateway(&first).await;
    let second = Stack::start_in(first.folder.clone(), in_haste).await;
    let at_second = second.user(&at_first.key);
    let acme = first.tenant("acme").await;
    acme.make_adapter("tone", "private").await;
    let published = acme.publish("acme/tone", "1.0.0", 1).await;
    let before = revoked(&acme).await;

    // Who begins hears what may still matter.
    let mut stream = Stream::begin(&at_second, None).await;
    let (told, number) = stream.told().await;
    assert_eq!(told[0], Line::Anew);
    assert!(told.contains(&before), "{told:?}");
    assert_eq!(stream.told().await, (vec![], number), "it beats");

    // What another registry withdraws is told too, each once and in its order.
    let take_down = first.admin.post("/adapters/acme/tone/versions/1.0.0/take-down", json!({ "reason": "x" })).await;
    assert_eq!(take_down.status(), StatusCode::OK);
    let version = Line::Version(published["digest"].as_str().unwrap().parse().unwrap());
    let (told, after_version) = stream.first_told().await;
    assert_eq!(told, std::slice::from_ref(&version));
    drop(stream);
    let (one, two) = (revoked(&acme).await, revoked(&acme).await);
    for gateway in [&at_first, &at_second] {
        let (told, newest) = Stream::begin(gateway, Some(after_version)).await.told().await;
        assert_eq!(told, [one.clone(), two.clone()]);
        assert!(newest > after_version);
        assert_eq!(Stream::begin(gateway, Some(newest)).await.told().await, (vec![], newest));
        // A number of another history: what it knows is not told, so it begins anew.
        let (told, number) = Stream::begin(gateway, Some(newest + 100)).await.told().await;
        assert_eq!((&told[0], number), (&Line::Anew, newest));
        assert!([&before, &one, &two, &version].into_iter().all(|line| told.contains(line)), "{told:?}");
    }
    problem(at_first.get("/internal/withdrawals?after=x").await, StatusCode::BAD_REQUEST, "invalid_query").await;
}

#[tokio::test]
async fn a_change_is_told_so_that_gateways_ask_again_and_a_registry_that_ends_ends_the_stream() {
    let stack = Stack::start().await;
    let gateway = gateway(&stack).await;
    let acme = stack.tenant("acme").await;
    let mut stream = Stream::begin(&gateway, None).await;
    stream.told().await;
    acme.make_adapter("tone", "private").await;
    while stream.line().await.expect("it goes on") != Line::Changed {}
    stack.registry.end_streams();
    while stream.line().await.is_some() {}
}

#[tokio::test]
async fn what_was_told_long_ago_and_is_kept_no_more_makes_a_gateway_begin_anew() {
    let stack = Stack::start().await;
    let gateway = gateway(&stack).await;
    let acme = stack.tenant("acme").await;
    let (_, number) = Stream::begin(&gateway, None).await.told().await;
    revoked(&acme).await;
    let last = revoked(&acme).await;
    let db = stack.database().await;
    let first = format!("DELETE FROM withdrawals WHERE id <= {}", number + 1);
    sea_orm::ConnectionTrait::execute_unprepared(&db, &first).await.unwrap();
    let (told, _) = Stream::begin(&gateway, Some(number)).await.told().await;
    assert_eq!(told[0], Line::Anew);
    assert!(told.contains(&last));
    assert_eq!(Stream::begin(&gateway, Some(number + 1)).await.told().await.0, [last]);
}
