//! `souk chat`: talk to a model from the terminal.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::{ChatArgs, FormArgs};
use crate::client::Client;
use crate::terminal;

pub(crate) async fn run(arguments: ChatArgs) -> anyhow::Result<ExitCode> {
    let form = form(&arguments.form)?;
    let client = Client::new(&arguments.server)?;
    let model = match &arguments.model {
        Some(model) => model.clone(),
        None => base_model(&client).await?,
    };
    if let Some(message) = &arguments.message {
        let mut turn = Turn { client: &client, arguments: &arguments, model: &model, form: &form };
        turn.answer(&[json!({ "role": "user", "content": message })], message).await?;
        return Ok(ExitCode::SUCCESS);
    }
    conversation(&client, &arguments, &model, &form).await?;
    Ok(ExitCode::SUCCESS)
}

/// Reads lines until the input ends; each continues the conversation.
async fn conversation(client: &Client, arguments: &ChatArgs, model: &str, form: &Value) -> anyhow::Result<()> {
    let interactive = std::io::stdin().is_terminal();
    if interactive {
        terminal::note(&format!("Talking to {model}. End with Ctrl-D."));
    }
    let mut messages = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.context("cannot read standard input")?;
        if line.trim().is_empty() {
            continue;
        }
        messages.push(json!({ "role": "user", "content": line }));
        let mut turn = Turn { client, arguments, model, form };
        let answer = turn.answer(&messages, &line).await?;
        messages.push(json!({ "role": "assistant", "content": answer }));
    }
    Ok(())
}

struct Turn<'a> {
    client: &'a Client,
    arguments: &'a ChatArgs,
    model: &'a str,
    /// The fields that say what the answer must look like.
    form: &'a Value,
}

impl Turn<'_> {
    /// Prints the answer as it comes and returns it.
    async fn answer(&mut self, messages: &[Value], prompt: &str) -> anyhow::Result<String> {
        let mut body = json!({
            "model": self.model,
            "stream": true,
            "max_tokens": self.arguments.max_tokens,
            "temperature": self.arguments.temperature,
        });
        for (field, value) in self.form.as_object().into_iter().flatten() {
            body[field] = value.clone();
        }
        let (path, pointer) = if self.arguments.raw {
            body["prompt"] = Value::String(prompt.to_owned());
            ("/v1/completions", "/choices/0/text")
        } else {
            body["messages"] = Value::Array(messages.to_vec());
            ("/v1/chat/completions", "/choices/0/delta/content")
        };
        let response = self.client.send(self.client.request(Method::POST, path).json(&body)).await?;
        let mut stream = response.bytes_stream();
        let mut pending = Vec::new();
        let mut answer = String::new();
        while let Some(bytes) = stream.next().await {
            pending.extend_from_slice(&bytes.context("the answer broke off")?);
            while let Some(end) = pending.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = pending.drain(..end + 2).collect();
                let event = String::from_utf8_lossy(&event);
                let Some(data) = event.trim_end().strip_prefix("data: ") else { continue };
                if data == "[DONE]" {
                    terminal::line("")?;
                    return Ok(answer);
                }
                let value: Value = serde_json::from_str(data).context("the server's answer is not understood")?;
                if let Some(message) = value.pointer("/error/message").and_then(Value::as_str) {
                    bail!("{message}");
                }
                if let Some(text) = value.pointer(pointer).and_then(Value::as_str) {
                    terminal::fragment(text)?;
                    answer.push_str(text);
                }
            }
        }
        bail!("the answer broke off")
    }
}

/// The request's fields for the form that the flags ask for.
fn form(flags: &FormArgs) -> anyhow::Result<Value> {
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    Ok(match flags {
        FormArgs { json_schema: Some(path), .. } => {
            let schema: Value =
                serde_json::from_str(&read(path)?).with_context(|| format!("{} is not JSON", path.display()))?;
            json!({ "guided_json": schema })
        }
        FormArgs { json: true, .. } => json!({ "response_format": { "type": "json_object" } }),
        FormArgs { regex: Some(regex), .. } => json!({ "guided_regex": regex }),
        FormArgs { grammar: Some(path), .. } => json!({ "guided_grammar": read(path)? }),
        FormArgs { choices, .. } if !choices.is_empty() => json!({ "guided_choice": choices }),
        FormArgs { .. } => json!({}),
    })
}

/// The first model that is not an adapter.
async fn base_model(client: &Client) -> anyhow::Result<String> {
    let models: Value = client.json(client.request(Method::GET, "/v1/models")).await?;
    models
        .get("data")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|model| model.get("id").and_then(Value::as_str))
        .find(|id| !id.contains('/'))
        .map(str::to_owned)
        .context("the server lists no base model; name one with --model")
}
