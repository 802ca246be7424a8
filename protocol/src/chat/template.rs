//! Chat messages to one text, by the model's own template.

use std::io;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat;
use regex::{Captures, Regex};
use time::OffsetDateTime;

use super::bounded::{FILTER, KEPT_FILTER, bound_lists, bounded, kept};
use super::disarm::Marker;
use crate::manifest::MAX_TEMPLATE_BYTES;
use crate::wall_clock;

/// What a template may use. Templates come from the operator's model file, which can be wrong, or from strangers.
#[derive(Clone, Copy, Debug)]
pub struct TemplateLimits {
    /// Longest source, in bytes.
    pub source_bytes: usize,
    /// Longest rendered text, beside `output_per_input` times the bytes of the messages.
    pub output_bytes: usize,
    /// How much longer the text may be than the messages, in multiples.
    pub output_per_input: usize,
    /// Instructions, and 64-byte pieces of intermediate values, of one rendering.
    pub fuel: u64,
    /// Depth of nested calls.
    pub recursion: usize,
}

impl Default for TemplateLimits {
    fn default() -> Self {
        Self { source_bytes: 256 << 10, output_bytes: 16 << 20, output_per_input: 0, fuel: 4_000_000, recursion: 64 }
    }
}

impl TemplateLimits {
    /// Of templates that come with adapters. Compiling and rendering takes at most 12 MiB beside eight times the messages
    /// (`protocol/tests/memory.rs` counts it), and some milliseconds.
    #[must_use]
    pub const fn of_strangers() -> Self {
        Self {
            source_bytes: MAX_TEMPLATE_BYTES,
            output_bytes: 64 << 10,
            output_per_input: 4,
            fuel: 100_000,
            recursion: 64,
        }
    }
}

/// Why there is no rendered text.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The source is longer than the limit.
    #[error("the chat template has {given} bytes; at most {limit} are allowed")]
    TooLong {
        /// The limit.
        limit: usize,
        /// The source's length.
        given: usize,
    },
    /// The source does not parse.
    #[error("the chat template is not valid")]
    Invalid(#[source] Error),
    /// The template itself refuses these messages, for example because roles do not alternate.
    #[error("{0}")]
    Refused(String),
    /// Rendering failed, or used more than the limits allow.
    #[error("the chat template failed")]
    Failed(#[source] Error),
    /// The texts use every character that could mark users' text.
    #[error("the messages use every private character; one must be left free")]
    NoMarker,
}

impl TemplateError {
    /// Whether more was asked of the template than its limits allow, rather than something that it cannot do.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        match self {
            Self::Failed(cause) => matches!(cause.kind(), ErrorKind::OutOfFuel | ErrorKind::WriteFailure),
            Self::TooLong { .. } | Self::Invalid(_) | Self::Refused(_) | Self::NoMarker => false,
        }
    }

    /// What is wrong and in which line, for who wrote the template.
    #[must_use]
    pub fn reason(&self) -> String {
        let (Self::Invalid(cause) | Self::Failed(cause)) = self else { return self.to_string() };
        let line = cause.line().map_or_else(String::new, |line| format!("line {line}: "));
        let detail = cause.detail().map_or_else(String::new, |detail| format!(": {detail}"));
        let text = format!("{line}{}{detail}", cause.kind());
        text.chars().take(300).collect()
    }
}

/// One message as the template sees it: its fields in order. All values are users' text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateMessage {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: &'static str,
    /// The text of the message.
    pub content: String,
    /// Further text fields, such as `name` and `tool_call_id`.
    pub fields: Vec<(&'static str, String)>,
}

/// A rendered conversation; the gateway's tokenizer encodes it.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The text, in which users' control tokens are broken up by the marker.
    pub text: String,
    /// What the tokenizer drops again from the text.
    pub marker: Marker,
}

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    limits: TemplateLimits,
    bos_token: String,
    eos_token: String,
}

const NAME: &str = "chat_template";

impl ChatTemplate {
    /// Compiles `source`. `bos_token` and `eos_token` are variables that templates use; empty where there is none.
    ///
    /// # Errors
    /// [`TemplateError::TooLong`] or [`TemplateError::Invalid`].
    pub fn new(
        source: &str,
        bos_token: String,
        eos_token: String,
        limits: TemplateLimits,
    ) -> Result<Self, TemplateError> {
        if source.len() > limits.source_bytes {
            return Err(TemplateError::TooLong { limit: limits.source_bytes, given: source.len() });
        }
        let mut environment = Environment::new();
        // As transformers sets Jinja up: blocks take the line break after them and the indentation before them.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        let syntax = syntax.map_err(TemplateError::Invalid)?;
        environment.set_syntax(syntax.clone());
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(python_method);
        environment.set_fuel(Some(limits.fuel));
        environment.set_recursion_limit(limits.recursion);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", to_python_json);
        environment.add_filter(FILTER, bounded);
        environment.add_filter(KEPT_FILTER, kept);
        // They join lists as `+` does, and no chat template needs that.
        environment.remove_filter("chain");
        environment.add_filter("sum", sum_of_numbers);
        let source = bound_lists(&without_generation_tags(source), syntax).map_err(TemplateError::Invalid)?;
        environment.add_template_owned(NAME, source).map_err(TemplateError::Invalid)?;
        Ok(Self { environment, limits, bos_token, eos_token })
    }

    /// Renders `messages`, followed by the beginning of the assistant's answer if `add_generation_prompt`.
    /// `controls` are the texts that must not come from a message.
    ///
    /// # Errors
    /// [`TemplateError::Refused`] with the template's own words, or [`TemplateError::Failed`].
    pub fn render(
        &self,
        messages: &[TemplateMessage],
        add_generation_prompt: bool,
        controls: &[String],
    ) -> Result<Rendered, TemplateError> {
        let texts = messages.iter().flat_map(|message| {
            std::iter::once(message.content.as_str()).chain(message.fields.iter().map(|(_, text)| text.as_str()))
        });
        let input_bytes: usize = texts.clone().map(str::len).sum();
        let marker = Marker::unlike(texts).ok_or(TemplateError::NoMarker)?;
        let as_value = |message: &TemplateMessage| {
            let content = ("content", Value::from(marker.disarm(&message.content, controls)));
            let fields = message.fields.iter().map(|(name, text)| (*name, Value::from(marker.disarm(text, controls))));
            Value::from_pairs([("role", Value::from(message.role)), content].into_iter().chain(fields))
        };
        let context = minijinja::context! {
            messages => messages.iter().map(as_value).collect::<Vec<Value>>(),
            tools => Value::from(()),
            documents => Value::from(()),
            add_generation_prompt,
            bos_token => self.bos_token.as_str(),
            eos_token => self.eos_token.as_str(),
        };
        let template = self.environment.get_template(NAME).map_err(TemplateError::Failed)?;
        let limit = self.limits.output_per_input.saturating_mul(input_bytes).saturating_add(self.limits.output_bytes);
        let mut output = Capped { bytes: Vec::new(), limit };
        template.render_captured_to(context, &mut output).map_err(refused_or_failed)?;
        let text = String::from_utf8(output.bytes).expect("a template writes whole strings");
        Ok(Rendered { text, marker })
    }
}

/// Python's methods of texts and lists. Some look at the whole text and cost the engine nothing, so that is charged
/// here.
fn python_method(state: &mut State<'_, '_>, value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let text = value.as_str().unwrap_or_default();
    let written = if method == "format" { widest(text, arguments) } else { 0 };
    let num_parts = if method.contains("split") { num_parts(text, method, arguments) } else { 0 };
    state.consume_fuel(((text.len() as u64).saturating_add(written) / 64).saturating_add(num_parts))?;
    pycompat::unknown_method_callback(state, value, method, arguments)
}

/// Most parts that a text is split into: each is a value of its own, which takes more than it has letters.
fn num_parts(text: &str, method: &str, arguments: &[Value]) -> u64 {
    let most = arguments.get(1).and_then(|most| usize::try_from(most.clone()).ok()).unwrap_or(usize::MAX);
    let num_cuts = match arguments.first().and_then(Value::as_str) {
        Some("") => text.chars().count() + 1,
        Some(separator) if method != "splitlines" => text.matches(separator).count(),
        _ => text.split_whitespace().count().max(text.lines().count()),
    };
    num_cuts.min(most) as u64
}

/// The filter `sum`, which the engine would let join texts and lists without paying for them.
fn sum_of_numbers(
    state: &State<'_, '_>,
    values: Value,
    attribute: Option<&str>,
    start: Option<Value>,
    arguments: Kwargs,
) -> Result<Value, Error> {
    let named: Option<Value> = arguments.get("start")?;
    if let Some(other) = start.as_ref().or(named.as_ref()).filter(|start| !start.is_number()) {
        let message = format!("sum: the start must be a number, given a {}", other.kind());
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    minijinja::filters::sum(state, values, attribute, start, arguments)
}

/// The most that `str.format` may pad to: widths and precisions are numbers in the format, or arguments where it has
/// nested fields.
fn widest(format: &str, arguments: &[Value]) -> u64 {
    let numbers = format.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let number = |digits: &str| digits.parse().unwrap_or(u64::MAX);
    let in_format = numbers.map(number).fold(0, u64::saturating_add);
    let nested = format.matches('{').count().saturating_sub(1) as u64;
    let largest = arguments.iter().filter_map(|value| u64::try_from(value.clone()).ok()).max().unwrap_or(0);
    in_format.saturating_add(nested.saturating_mul(largest).min(if format.contains(":{") { u64::MAX } else { 0 }))
}

/// `{% generation %}` marks what a trainer takes for the answer; it writes nothing. Kept to the byte otherwise.
fn without_generation_tags(source: &str) -> String {
    static TAGS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})").expect("the pattern is fixed"));
    let tag = |found: &Captures<'_>| {
        let word = if found.get(2).is_some() { "endif" } else { "if true" };
        format!("{}{word}{}", &found[1], &found[3])
    };
    TAGS.replace_all(source, tag).into_owned()
}

/// Marks an error as the template's own decision rather than a fault.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "the template raised an exception").with_source(Raised(message)))
}

fn refused_or_failed(error: Error) -> TemplateError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        if let Some(Raised(message)) = current.downcast_ref() {
            return TemplateError::Refused(message.clone());
        }
        cause = current.source();
    }
    TemplateError::Failed(error)
}

/// Today's date, in UTC, in the way of C's `strftime`; llama's templates print it.
fn strftime_now(format: &str) -> Result<String, Error> {
    let bad = |text: String| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {text}"));
    let format = time::format_description::parse_strftime_owned(format).map_err(|error| bad(error.to_string()))?;
    OffsetDateTime::from(wall_clock::now()).format(&format).map_err(|error| bad(error.to_string()))
}

/// `tojson` as transformers defines it: Python's `json.dumps` without escaping for HTML.
fn to_python_json(value: &Value, indent: Option<Value>, arguments: Kwargs) -> Result<Value, Error> {
    let ignored: Result<Option<bool>, Error> = arguments.get("ensure_ascii");
    ignored?;
    let escaped = minijinja::filters::tojson(value, indent, arguments)?;
    Ok(Value::from(without_html_escapes(escaped.as_str().unwrap_or_default())))
}

/// Undoes the four escapes that make JSON safe within HTML, and no other.
fn without_html_escapes(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let plain = match rest.get(..6) {
            Some("\\u003c") => Some('<'),
            Some("\\u003e") => Some('>'),
            Some("\\u0026") => Some('&'),
            Some("\\u0027") => Some('\''),
            _ => None,
        };
        if let Some(character) = plain {
            out.push(character);
            rest = &rest[6..];
        } else {
            // Two characters at once, so that a written-out backslash is not taken for the begin of an escape.
            let end = rest.char_indices().nth(2).map_or(rest.len(), |(end, _)| end);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    out
}

/// A writer that ends rendering at a number of bytes.
struct Capped {
    bytes: Vec<u8>,
    limit: usize,
}

impl io::Write for &mut Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(io::Error::other(format!("the rendered text is longer than {} bytes", self.limit)));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
