//! Reading answers at little cost: the driver shares its cores with the server, so a chunk of text is never parsed as
//! JSON, only looked at.

use serde::Deserialize;
use thiserror::Error;

/// Longest line of a stream; a token with its probabilities is a few kilobytes.
pub(crate) const MAX_LINE_BYTES: usize = 1 << 20;

/// What is wrong with a stream.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a line of the stream is longer than {limit} bytes")]
pub(crate) struct LineTooLong {
    limit: usize,
}

/// Finds the payloads of `data:` lines in bytes that come in pieces.
#[derive(Debug, Default)]
pub(crate) struct DataLines {
    /// The begun line; kept between streams, so that reading allocates nothing after the first.
    partial: Vec<u8>,
}

impl DataLines {
    /// Forgets the begun line of an earlier stream.
    pub(crate) fn restart(&mut self) {
        self.partial.clear();
    }

    /// Calls `on_payload` for every `data:` line that `bytes` completes.
    ///
    /// # Errors
    /// If a line is longer than [`MAX_LINE_BYTES`].
    pub(crate) fn feed(&mut self, bytes: &[u8], mut on_payload: impl FnMut(&[u8])) -> Result<(), LineTooLong> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.partial.is_empty() {
                payload_of(line).map(&mut on_payload);
            } else {
                self.extend(line)?;
                payload_of(&self.partial).map(&mut on_payload);
                self.partial.clear();
            }
            rest = after;
        }
        self.extend(rest)
    }

    /// Ends the stream: a last line without a line feed counts.
    pub(crate) fn finish(&mut self, on_payload: impl FnMut(&[u8])) {
        payload_of(&self.partial).map(on_payload);
        self.partial.clear();
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), LineTooLong> {
        if self.partial.len() + bytes.len() > MAX_LINE_BYTES {
            return Err(LineTooLong { limit: MAX_LINE_BYTES });
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

fn payload_of(line: &[u8]) -> Option<&[u8]> {
    let payload = line.strip_prefix(b"data:")?;
    let payload = payload.strip_prefix(b" ").unwrap_or(payload);
    Some(payload.strip_suffix(b"\r").unwrap_or(payload))
}

/// What a look at a payload tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Payload {
    /// `[DONE]`.
    pub(crate) is_end: bool,
    /// Has text that is not empty.
    pub(crate) has_text: bool,
    /// Has a usage object.
    pub(crate) has_usage: bool,
    /// Says that something went wrong.
    pub(crate) has_error: bool,
}

impl Payload {
    /// Looks at the keys of a JSON object, at any depth, and at the byte after each.
    ///
    /// Quotes within a string are escaped, so a key is never found inside text.
    pub(crate) fn look(payload: &[u8]) -> Self {
        let mut found = Self::default();
        if payload.trim_ascii() == b"[DONE]" {
            found.is_end = true;
            return found;
        }
        let mut rest = payload;
        while let Some(open) = rest.iter().position(|byte| *byte == b'"') {
            let inside = &rest[open + 1..];
            let Some(length) = string_length(inside) else { break };
            let key = &inside[..length];
            rest = &inside[length + 1..];
            let Some(value) = rest.trim_ascii_start().strip_prefix(b":") else { continue };
            found.note(key, value.trim_ascii_start());
        }
        found
    }

    fn note(&mut self, key: &[u8], value: &[u8]) {
        match (key, value) {
            (b"text" | b"content" | b"reasoning" | b"reasoning_content", [b'"', second, ..]) if *second != b'"' => {
                self.has_text = true;
            }
            (b"usage", [b'{', ..]) => self.has_usage = true,
            (b"error", [b'{' | b'"', ..]) => self.has_error = true,
            _ => {}
        }
    }
}

/// Bytes up to the quote that ends a JSON string.
fn string_length(inside: &[u8]) -> Option<usize> {
    let mut escaped = false;
    inside.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    })
}

/// How many tokens the server says there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Usage {
    #[serde(default)]
    pub(crate) prompt_tokens: u64,
    #[serde(default)]
    pub(crate) completion_tokens: u64,
}

impl Usage {
    /// The usage object of a payload or of a whole answer.
    pub(crate) fn parse(json: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Holder {
            usage: Option<Usage>,
        }
        serde_json::from_slice::<Holder>(json).ok()?.usage
    }
}

/// What an error answer says: its code or type, and its sentence.
pub(crate) fn explain_error(json: &[u8]) -> (Option<String>, String) {
    /// Most of a message that is kept; it is shown as an example.
    const MAX_CHARS: usize = 300;
    let shorten = |text: &str| text.chars().take(MAX_CHARS).collect::<String>();
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(json) else {
        return (None, shorten(String::from_utf8_lossy(json).trim()));
    };
    let error = value.get("error").unwrap_or(&value);
    let text = |fields: &[&str]| {
        fields.iter().find_map(|field| error.get(field).and_then(serde_json::Value::as_str)).map(str::to_owned)
    };
    let message = error.as_str().map(str::to_owned).or_else(|| text(&["message", "detail", "title"]));
    // LoRAX has the type beside the sentence; OpenAI's code may be null.
    let kind = text(&["code", "type", "error_type"])
        .or_else(|| value.get("error_type").and_then(serde_json::Value::as_str).map(str::to_owned));
    (kind.map(|kind| shorten(&kind)), shorten(&message.unwrap_or_else(|| value.to_string())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn payloads<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
        let mut lines = DataLines::default();
        let mut found = Vec::new();
        for piece in pieces {
            lines.feed(piece, |payload| found.push(payload.to_vec())).unwrap();
        }
        lines.finish(|payload| found.push(payload.to_vec()));
        found
    }

    #[test]
    fn only_data_lines_are_payloads() {
        let stream = b": hello\r\nevent: x\ndata: a\r\n\ndata:b\n\nid: 1\ndata:  c \ndata: [DONE]";
        assert_eq!(payloads([&stream[..]]), [&b"a"[..], b"b", b" c ", b"[DONE]"]);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = DataLines::default();
        let piece = vec![b'x'; MAX_LINE_BYTES];
        lines.feed(&piece, |_| {}).unwrap();
        assert_eq!(lines.feed(b"x", |_| {}), Err(LineTooLong { limit: MAX_LINE_BYTES }));
    }

    #[test]
    fn a_look_tells_text_usage_and_errors_apart() {
        let look = |text: &str| Payload::look(text.as_bytes());
        let text = Payload { has_text: true, ..Payload::default() };
        assert_eq!(look(r#"{"choices":[{"delta":{"content":"hi"}}],"usage":null}"#), text);
        assert_eq!(look(r#"{"choices": [{"text": "\"", "index": 0}]}"#), text);
        assert_eq!(look(r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#), Payload::default());
        assert_eq!(look(r#"{"choices":[{"delta":{"content":null},"finish_reason":"stop"}]}"#), Payload::default());
        assert_eq!(look(r#"{"x":"\"content\":\"hi\"","y":"content"}"#), Payload::default());
        assert_eq!(
            look(r#"{"choices":[],"usage":{"prompt_tokens":3}}"#),
            Payload { has_usage: true, ..Payload::default() }
        );
        assert_eq!(look(r#"{"error":{"message":"no"}}"#), Payload { has_error: true, ..Payload::default() });
        assert_eq!(look(" [DONE]"), Payload { is_end: true, ..Payload::default() });
    }

    #[test]
    fn errors_of_every_server_are_explained() {
        let explain = |text: &str| explain_error(text.as_bytes());
        let some = |kind: &str, message: &str| (Some(kind.to_owned()), message.to_owned());
        assert_eq!(
            explain(r#"{"error":{"message":"full","type":"t","code":"queue_full"}}"#),
            some("queue_full", "full")
        );
        assert_eq!(explain(r#"{"error":{"message":"bad","type":"t","code":400}}"#), some("t", "bad"));
        assert_eq!(explain(r#"{"error":"no model","error_type":"validation"}"#), some("validation", "no model"));
        assert_eq!(explain("<html>"), (None, "<html>".to_owned()));
    }

    /// Keys that matter, keys that do not, and text full of quotes.
    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(|value| json!(value)),
            any::<i64>().prop_map(|value| json!(value)),
            prop_oneof!["\\PC{0,8}", "[\\\\\":{}a ]{0,12}", Just("content".to_owned())].prop_map(|value| json!(value)),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let key = prop_oneof![
                Just("content".to_owned()),
                Just("text".to_owned()),
                Just("usage".to_owned()),
                Just("error".to_owned()),
                "[\\\\\"a:]{0,6}",
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|values| json!(values)),
                prop::collection::vec((key, inner), 0..4)
                    .prop_map(|pairs| json!(pairs.into_iter().collect::<serde_json::Map<String, serde_json::Value>>())),
            ]
        })
    }

    /// The same findings by parsing everything.
    fn parsed(value: &serde_json::Value) -> Payload {
        let mut found = Payload::default();
        if let Some(object) = value.as_object() {
            for (key, value) in object {
                match key.as_str() {
                    "content" | "text" => found.has_text |= value.as_str().is_some_and(|text| !text.is_empty()),
                    "usage" => found.has_usage |= value.is_object(),
                    "error" => found.has_error |= value.is_object() || value.is_string(),
                    _ => {}
                }
            }
        }
        let inner = value.as_object().into_iter().flat_map(serde_json::Map::values);
        for child in inner.chain(value.as_array().into_iter().flatten()).map(parsed) {
            found.has_text |= child.has_text;
            found.has_usage |= child.has_usage;
            found.has_error |= child.has_error;
        }
        found
    }

    proptest! {
        #[test]
        fn a_look_finds_what_a_parse_finds(value in any_json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            prop_assert_eq!(Payload::look(text.unwrap().as_bytes()), parsed(&value));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            Payload::look(&bytes);
            Usage::parse(&bytes);
            explain_error(&bytes);
            payloads([&bytes[..]]);
        }

        #[test]
        fn where_a_stream_is_cut_does_not_matter(
            stream in "(data: ?|data|: |\r\n|\n|[a-c]){0,40}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let bytes = stream.as_bytes();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(payloads(pieces), payloads([bytes]));
        }
    }

    #[test]
    fn any_bytes_of_a_stream_are_read_alike_in_one_piece_and_in_many() {
        souk_testkit::fuzz("event_stream", |bytes| {
            let whole = payloads([bytes]);
            assert_eq!(payloads(bytes.chunks(1)), whole);
            let looks = whole.iter().map(|payload| {
                format!(
                    "{:?} {:?} {}",
                    Payload::look(payload),
                    Usage::parse(payload).is_some(),
                    explain_error(payload).0.is_some()
                )
            });
            looks.collect()
        });
    }
}
