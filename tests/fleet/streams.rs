//! Answers as clients read them, piece by piece.

use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::{Value, json};

use crate::fleet::{Fleet, Process};

/// What is asked, at length and in the same way each time.
pub(crate) fn question(model: &str, max_tokens: u32) -> Value {
    json!({
        "model": model, "prompt": "Once upon a time, in a small town by the sea,", "max_tokens": max_tokens,
        "temperature": 0.8, "seed": 11, "ignore_eos": true,
    })
}

/// An answer that comes.
pub(crate) struct Answer {
    pub(crate) request: String,
    pieces: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    partial: Vec<u8>,
    /// All text that has come.
    pub(crate) text: String,
    /// Pieces with text that have come.
    pub(crate) num_pieces: usize,
    usage: Option<Value>,
    error: Option<Value>,
    is_over: bool,
}

impl Answer {
    /// Begins one.
    pub(crate) async fn begin(fleet: &Fleet, gateway: &Process, key: &str, body: &Value) -> Self {
        let mut body = body.clone();
        body["stream"] = json!(true);
        body["stream_options"] = json!({ "include_usage": true });
        let request = fleet.http.post(format!("{}/v1/completions", gateway.url)).bearer_auth(key).json(&body);
        let answer = request.send().await.unwrap_or_else(|error| panic!("{error:?}\n{}", gateway.log()));
        assert_eq!(answer.status(), 200, "{:?}\n{}", answer.headers(), gateway.log());
        let request = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        let pieces = answer.bytes_stream().boxed();
        Self {
            request,
            pieces,
            partial: Vec::new(),
            text: String::new(),
            num_pieces: 0,
            usage: None,
            error: None,
            is_over: false,
        }
    }

    /// Reads on until so many pieces with text have come.
    pub(crate) async fn read(&mut self, num_pieces: usize) {
        while self.num_pieces < num_pieces && !self.is_over {
            self.next().await;
        }
        assert_eq!(self.error, None, "{}", self.text);
    }

    /// Reads to the end; answers the text and the usage that was told.
    pub(crate) async fn finish(mut self) -> (String, Value) {
        while !self.is_over {
            self.next().await;
        }
        assert_eq!(self.error, None, "{}", self.text);
        (self.text, self.usage.expect("usage was asked for"))
    }

    /// Reads to an end in the middle, and answers the error that it ends with.
    pub(crate) async fn breaks_off(mut self) -> Value {
        while self.error.is_none() {
            assert!(!self.is_over, "it came to its end: {}", self.text);
            self.next().await;
        }
        self.error.unwrap_or_default()
    }

    /// Reads all that still comes of one whose gateway was killed.
    pub(crate) async fn rest(&mut self) {
        while let Some(Ok(bytes)) = self.pieces.next().await {
            self.take(&bytes);
        }
    }

    async fn next(&mut self) {
        let bytes = self.pieces.next().await.unwrap_or_else(|| panic!("it ended in the middle: {}", self.text));
        self.take(&bytes.unwrap_or_else(|error| panic!("it broke: {error}: {}", self.text)));
    }

    fn take(&mut self, bytes: &[u8]) {
        self.partial.extend(bytes);
        while let Some(end) = self.partial.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = self.partial.drain(..end + 2).collect();
            let event = String::from_utf8(event).unwrap();
            let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) else { continue };
            if data == "[DONE]" {
                self.is_over = true;
                return;
            }
            let event: Value = serde_json::from_str(data).unwrap();
            if let Some(error) = event.get("error") {
                (self.error, self.is_over) = (Some(error.clone()), true);
                return;
            }
            if event["usage"].is_object() {
                self.usage = Some(event["usage"].clone());
            }
            if let Some(text) = event["choices"][0]["text"].as_str().filter(|text| !text.is_empty()) {
                self.text.push_str(text);
                self.num_pieces += 1;
            }
        }
    }
}
