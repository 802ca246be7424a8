//! Requests as clients of these tests send them.

use futures::StreamExt as _;
use reqwest::Client;
use serde_json::{Value, json};

use crate::stack::BASE;

/// What a client saw of a request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Its id, once there were headers.
    pub(crate) request: Option<String>,
    pub(crate) end: End,
}

/// How it ended for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Whole, with the tokens that it says it used.
    Answered(i64, i64),
    /// The same, but from a request before.
    Replayed,
    /// With this status and code.
    Refused(u16, String),
    /// The connection broke.
    Broken,
}

/// Something to ask.
pub(crate) fn question(max_tokens: u64, choices: u64, stream: bool) -> Value {
    let mut body = json!({
        "model": BASE, "prompt": "Once upon a time", "max_tokens": max_tokens, "n": choices, "temperature": 0,
        "ignore_eos": true, "stream": stream,
    });
    if stream {
        body["stream_options"] = json!({ "include_usage": true });
    }
    body
}

/// Asks, with an `Idempotency-Key` if one is given.
pub(crate) async fn ask(http: &Client, url: &str, body: &Value, key: Option<&str>) -> Seen {
    let mut request = http.post(format!("{url}/v1/completions")).json(body);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let Ok(answer) = request.send().await else { return Seen { request: None, end: End::Broken } };
    let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (status, replayed) = (answer.status().as_u16(), header("idempotency-replayed").is_some());
    let request = if replayed { header("x-souk-first-request") } else { header("x-request-id") };
    let mut text = Vec::new();
    let mut body = answer.bytes_stream();
    while let Some(part) = body.next().await {
        let Ok(part) = part else { return Seen { request, end: End::Broken } };
        text.extend(part);
    }
    let end = end_of(status, replayed, &String::from_utf8(text).unwrap());
    Seen { request, end }
}

fn end_of(status: u16, replayed: bool, text: &str) -> End {
    if status != 200 {
        let body: Value = serde_json::from_str(text).unwrap_or_default();
        return End::Refused(status, body["error"]["code"].as_str().unwrap_or_default().to_owned());
    }
    let used = |body: &Value| {
        let usage = body.get("usage").filter(|usage| usage.is_object())?;
        Some((usage["prompt_tokens"].as_i64()?, usage["completion_tokens"].as_i64()?))
    };
    let whole: Option<Value> = serde_json::from_str(text).ok();
    let told = match &whole {
        Some(body) => used(body),
        None if text.trim_end().ends_with("data: [DONE]") => {
            let events =
                text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
            events.filter_map(|event| used(&event)).next_back()
        }
        None => None,
    };
    match told {
        Some(_) if replayed => End::Replayed,
        Some((input, output)) => End::Answered(input, output),
        None => End::Broken,
    }
}
