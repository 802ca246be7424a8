//! The HTTP client of the commands: adds the key, turns error answers of both shapes into sentences.

use anyhow::{Context as _, bail};
use reqwest::{Method, RequestBuilder, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::ServerArgs;
use crate::credentials::Credentials;

/// A server and the key to call it with.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    api_key: String,
}

impl Client {
    /// A client for the server that the flags name.
    ///
    /// # Errors
    /// If no key is set and none was got by `souk login`.
    pub(crate) fn new(arguments: &ServerArgs) -> anyhow::Result<Self> {
        let api_key = match &arguments.api_key {
            Some(key) => key.clone(),
            None => Credentials::read()?.key(&arguments.url).map(str::to_owned).context(
                "no API key: run `souk login`, set SOUK_API_KEY or pass --api-key (the first `souk serve` printed one)",
            )?,
        };
        Self::with_key(&arguments.url, api_key)
    }

    /// A client that presents this key.
    ///
    /// # Errors
    /// If none can be set up.
    pub(crate) fn with_key(url: &str, api_key: String) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().build().context("cannot set up the HTTP client")?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), api_key })
    }

    /// A request to `path` on the server, with the key.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.api_key)
    }

    /// Sends `request` and returns the answer if it is a success.
    ///
    /// # Errors
    /// What the server says is wrong, or that it cannot be reached.
    pub(crate) async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request
            .send()
            .await
            .with_context(|| format!("cannot reach {}; is `souk serve` running, and is --url right?", self.url))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        bail!("{}", explain(status, &text));
    }

    /// All items of a list, page by page. `path` names it, with a query or without one.
    ///
    /// # Errors
    /// As [`Client::json`].
    pub(crate) async fn all(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        self.some(path, usize::MAX).await
    }

    /// The same until there are at least so many.
    ///
    /// # Errors
    /// As [`Client::json`].
    pub(crate) async fn some(&self, path: &str, enough: usize) -> anyhow::Result<Vec<Value>> {
        let (mut items, mut cursor) = (Vec::new(), None::<String>);
        let sign = if path.contains('?') { '&' } else { '?' };
        loop {
            let after = cursor.iter().map(|cursor| format!("&cursor={cursor}")).collect::<String>();
            let page: Page = self.json(self.request(Method::GET, &format!("{path}{sign}limit=100{after}"))).await?;
            items.extend(page.data);
            cursor = page.next_cursor;
            if cursor.is_none() || items.len() >= enough {
                return Ok(items);
            }
        }
    }

    /// Sends `request` and reads the JSON answer.
    ///
    /// # Errors
    /// As [`Client::send`], or that the answer is not what was expected.
    pub(crate) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        self.send(request).await?.json().await.context("the server's answer is not understood")
    }
}

/// A page of a list.
#[derive(Deserialize)]
struct Page {
    data: Vec<Value>,
    next_cursor: Option<String>,
}

/// The sentence in an error body: OpenAI's shape, problem+json with its list of problems, or plain text.
pub(crate) fn explain(status: reqwest::StatusCode, body: &str) -> String {
    let Ok(value) = serde_json::from_str::<Value>(body) else {
        return format!("the server answered {status}: {}", body.chars().take(300).collect::<String>());
    };
    if let Some(message) = value.pointer("/error/message").and_then(Value::as_str) {
        return message.to_owned();
    }
    let mut text = ["detail", "title"]
        .iter()
        .find_map(|field| value.get(field).and_then(Value::as_str))
        .map_or_else(|| format!("the server answered {status}"), str::to_owned);
    for problem in value.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let field = |name: &str| problem.get(name).and_then(Value::as_str);
        text.push_str("\n  - ");
        match (field("subject").filter(|subject| !subject.is_empty()), field("message")) {
            (Some(subject), Some(message)) => text.extend([subject, ": ", message]),
            (None, Some(message)) => text.push_str(message),
            (_, None) => text.push_str(&problem.to_string()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_every_shape_become_sentences() {
        let status = reqwest::StatusCode::UNPROCESSABLE_ENTITY;
        assert_eq!(explain(status, r#"{"error":{"message":"no such model","type":"x"}}"#), "no such model");
        let problems =
            r#"{"title":"rejected","detail":"2 problems","errors":[{"subject":"r","message":"a"},{"message":"b"}]}"#;
        assert_eq!(explain(status, problems), "2 problems\n  - r: a\n  - b");
        assert!(explain(status, "<html>").contains("422"));
    }
}
