//! Bodies that do not come, and bodies that cost more than they weigh.

use std::time::{Duration, Instant};

use reqwest::Response;
use reqwest::multipart::Part;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::field::{Acts, Field, IN_FLIGHT, Tenant, Waits, adapter, form};
use crate::form::scale;
use crate::harm::{Harm, Seen};
use crate::raw::{connect, head, http2_post, http2_without_window, swallow};
use crate::stack::BASE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_one_byte_take_no_place_on_http1_or_http2() {
    let field = Field::start(&[("SOUK_GATEWAY__MAX_IN_FLIGHT", "32")]);
    let (innocent, hostile) = (field.tenant("innocent").await, field.tenant("hostile").await);
    let alone = field.asks(&innocent, Field::num_asked()).await;
    let num_acts = scale(120, 1024);
    let mut held = tokio::task::JoinSet::new();
    for number in 0..num_acts / 2 {
        let mut stream = connect(&field, number).await;
        let begin = head(&hostile, "/v1/chat/completions", 1000) + "{";
        stream.write_all(begin.as_bytes()).await.expect("the server reads");
        held.spawn(async move { swallow(&mut stream).await });
    }
    for number in 0..num_acts / 2 / 30 {
        let mut stream = connect(&field, number).await;
        let mut begin = http2_without_window();
        for id in 0..30 {
            begin.extend(http2_post(&hostile, 2 * id + 1, "/v1/chat/completions", b"{", 1000));
        }
        stream.write_all(&begin).await.expect("the server reads");
        held.spawn(async move { swallow(&mut stream).await });
    }
    field.rises_to("souk_gateway_reading_body_bytes", 1000.0, Duration::from_secs(10)).await;
    assert_eq!(field.stack.metric(IN_FLIGHT).await, 0.0, "a place is taken when a body is there");
    let beside = field.asks(&innocent, Field::num_asked()).await;
    Harm { act: "bodies of one byte", num_acts, alone: &alone, beside: &beside }.told(&field.stack);
    let body_s = Waits::of_this_form().body_s;
    field.falls_to("souk_gateway_reading_body_bytes", 0.0, Duration::from_secs(body_s)).await;
    assert!(field.stack.metric("souk_http_slow_bodies_total").await >= num_acts as f64 / 2.0);
}

/// Posts these bytes as JSON.
async fn post_bytes(tenant: &Tenant, path: &str, bytes: Vec<u8>) -> Response {
    let request = tenant.http.post(format!("{}{path}", tenant.url)).bearer_auth(&tenant.key);
    request.header("content-type", "application/json").body(bytes).send().await.expect("an answer")
}

/// Bodies that are small on the wire and large in memory: nested, many small values, many equal keys.
fn bombs(len: usize) -> Vec<(&'static str, Vec<u8>)> {
    let fill = |begin: &str, piece: &str, end: &str| {
        let mut bytes = begin.as_bytes().to_vec();
        while bytes.len() + piece.len() + end.len() <= len {
            bytes.extend(piece.as_bytes());
        }
        bytes.extend(end.as_bytes());
        bytes
    };
    vec![
        ("nested arrays", "[".repeat(len).into_bytes()),
        ("shut arrays in a list", fill("{\"logit_bias\":[", "[],", "[]]}")),
        ("equal keys", fill("{", "\"a\":1,", "\"a\":1}")),
        ("a schema of empty objects", fill("{\"guided_json\":{\"anyOf\":[", "{},", "{}]}}")),
        ("messages without content", fill("{\"messages\":[", "{},", "{}]}")),
        ("escapes", fill("{\"prompt\":\"", "\\u0041", "\"}")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_cost_more_than_they_weigh_are_400_and_hold_nobody_up() {
    let field = Field::start(&[]);
    let (innocent, hostile) = (field.tenant("innocent").await, field.tenant("hostile").await);
    let alone = field.asks(&innocent, Field::num_asked()).await;
    // 4 MiB is the most that config/default.toml takes.
    let bombs = bombs(scale(256 << 10, 4 << 20));
    for (what, bytes) in &bombs {
        for path in ["/v1/chat/completions", "/v1/completions", "/tokenize"] {
            let answer = post_bytes(&hostile, path, bytes.clone()).await;
            let (status, text) = (answer.status().as_u16(), answer.text().await.expect("a body"));
            // A text without a model is tokenized by the base that there is.
            let may_be_good = (path, *what) == ("/tokenize", "escapes");
            assert!(
                status == 400 || status == 413 || (may_be_good && status == 200),
                "{path} {what}: {status} {text:.300}"
            );
        }
    }
    let flood = hostile.clone();
    let acts = Acts::begin(6, scale(60, 600), move |number| {
        let (tenant, bytes) = (flood.clone(), bombs[number % bombs.len()].1.clone());
        async move { drop(post_bytes(&tenant, "/v1/chat/completions", bytes).await.bytes().await) }
    });
    let beside = field.asks(&innocent, Field::num_asked()).await;
    Harm { act: "bodies that cost more than they weigh", num_acts: acts.num(), alone: &alone, beside: &beside }
        .told(&field.stack);
    drop(acts);
}

/// The longest pause within each of so many streams, from one piece to the next.
async fn pauses(innocent: &Tenant, num: usize) -> Seen {
    let mut seen = Seen::default();
    for number in 0..num {
        let body = json!({
            "model": BASE, "prompt": format!("{number} streams"), "max_tokens": 40, "ignore_eos": true, "stream": true,
        });
        let mut answer = innocent.post("/v1/completions", &body).await;
        let (mut last, mut longest) = (None, Duration::ZERO);
        while let Ok(Some(_)) = answer.chunk().await {
            let now = Instant::now();
            longest = longest.max(last.map_or(Duration::ZERO, |last| now.duration_since(last)));
            last = Some(now);
        }
        match last {
            Some(_) => seen.waits.push(longest),
            None => seen.refusals.push(answer.status().to_string()),
        }
    }
    seen
}

/// Publishes an adapter whose own template makes as much as it may, and costs as much as it may.
async fn publish_with_a_costly_template(tenant: &Tenant) -> String {
    // What it writes is short: a long prompt is another act.
    let template = "{% set s = 'a' * 30000 %}{% set ns = namespace(l=[]) %}{% for i in range(150) %}\
        {% set ns.l = ns.l + [s ~ i] %}{% endfor %}{{ messages[0].content[:20] }}";
    let made = tenant.post("/registry/v1/adapters", &json!({ "name": "costly", "visibility": "private" })).await;
    assert_eq!(made.status(), 201);
    let form = form("1.0.0", &adapter(8, 1)).part("chat_template.jinja", Part::text(template));
    let answer = tenant.upload("costly", form).await;
    let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
    assert_eq!(status, 201, "{text}");
    format!("{}/costly", tenant.name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_beside_bodies_regexes_and_templates_that_cost_much() {
    let field = Field::start(&[]);
    let (innocent, hostile) = (field.tenant("innocent").await, field.tenant("hostile").await);
    let model = publish_with_a_costly_template(&hostile).await;
    let alone = pauses(&innocent, Field::num_asked()).await;
    let nested = format!(r#"{{"model":"{BASE}","tools":[{}1]}}"#, "[],".repeat((4 << 20) / 3 - 100)).into_bytes();
    let acts = Acts::begin(6, scale(60, 600), move |number| {
        let (tenant, nested, model) = (hostile.clone(), nested.clone(), model.clone());
        async move {
            let answer = match number % 3 {
                0 => post_bytes(&tenant, "/v1/chat/completions", nested).await,
                1 => {
                    let regex = format!("(?i){}{number}", r"\p{L}".repeat(199));
                    let body = json!({ "model": BASE, "prompt": "One", "max_tokens": 1, "guided_regex": regex });
                    tenant.post("/v1/completions", &body).await
                }
                _ => {
                    let messages = [json!({ "role": "user", "content": format!("{number} ab") })];
                    let body = json!({ "model": model, "messages": messages, "max_tokens": 1 });
                    tenant.post("/v1/chat/completions", &body).await
                }
            };
            drop(answer.bytes().await);
        }
    });
    let beside = pauses(&innocent, Field::num_asked()).await;
    let act = "bodies, regexes and templates that cost much (longest pause of a stream of 40 tokens)";
    Harm { act, num_acts: acts.num(), alone: &alone, beside: &beside }.told(&field.stack);
    drop(acts);
}
