//! A server with OpenAI's chat completions that runs no model.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::Pace;

/// Runs until it is killed.
///
/// # Errors
/// If the address cannot be had.
pub(crate) async fn run(listen: &str, pace: Pace) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let router = Router::new().route("/v1/chat/completions", post(complete)).with_state(pace.step());
    axum::serve(listener, router).await?;
    Ok(())
}

async fn complete(State(step): State<Duration>, Json(asked): Json<Value>) -> Response {
    let num_tokens =
        ["max_tokens", "max_completion_tokens"].iter().find_map(|name| asked[*name].as_u64()).unwrap_or(16);
    let model = asked["model"].clone();
    let usage = json!({ "prompt_tokens": 128, "completion_tokens": num_tokens, "total_tokens": 128 + num_tokens });
    if asked["stream"] != json!(true) {
        tokio::time::sleep(step * u32::try_from(num_tokens).unwrap_or(u32::MAX)).await;
        let message = json!({ "role": "assistant", "content": "word ".repeat(num_tokens as usize) });
        let choice = json!({ "index": 0, "message": message, "finish_reason": "length" });
        let told = json!({
            "id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage,
        });
        return Json(told).into_response();
    }
    let chunk = move |delta: Value, reason: Value| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": reason });
        json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice] })
    };
    let words = futures::stream::iter(0..num_tokens).then(move |number| {
        let chunk =
            chunk(json!({ "content": "word " }), if number + 1 == num_tokens { json!("length") } else { Value::Null });
        async move {
            tokio::time::sleep(step).await;
            Ok::<_, Infallible>(Event::default().data(chunk.to_string()))
        }
    });
    let done = futures::stream::iter([Ok(Event::default().data("[DONE]"))]);
    Sse::new(words.chain(done)).into_response()
}
