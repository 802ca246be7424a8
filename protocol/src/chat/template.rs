//! Chat messages to one text, by the model's own template.

use std::io;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat;
use regex::{Captures, Regex};
use time::OffsetDateTime;

use super::disarm::Marker;
use crate::manifest::MAX_TEMPLATE_BYTES;
use crate::wall_clock;

/// What a template may use. Templates come from the operator's model file, which can be wrong, or from strangers.
#[derive(Clone, Copy, Debug)]
pub struct TemplateLimits {
    /// Longest source.
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
    /// Of templates that come with adapters. A rendering at the limit takes some milliseconds and 6 MiB.
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
    /// Who speaks.
    pub role: &'static str,
    /// What is said.
    pub content: String,
    /// Further text fields, such as `name` and `tool_call_id`.
    pub fields: Vec<(&'static str, String)>,
}

/// A rendered conversation; the gateway's tokenizer encodes it.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The text, with markers.
    pub text: String,
    /// The marker.
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
        environment.set_syntax(syntax.map_err(TemplateError::Invalid)?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(python_method);
        environment.set_fuel(Some(limits.fuel));
        environment.set_recursion_limit(limits.recursion);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", to_python_json);
        environment.add_template_owned(NAME, without_generation_tags(source)).map_err(TemplateError::Invalid)?;
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

/// Python's methods of texts and lists. Some look at the whole text and cost the engine nothing, so that is charged here.
fn python_method(state: &mut State<'_, '_>, value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    state.consume_fuel(value.as_str().map_or(0, |text| text.len() as u64 / 64))?;
    pycompat::unknown_method_callback(state, value, method, arguments)
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
mod tests {
    use super::*;

    fn message(role: &'static str, content: &str) -> TemplateMessage {
        TemplateMessage { role, content: content.to_owned(), fields: Vec::new() }
    }

    fn render_with(
        source: &str,
        limits: TemplateLimits,
        messages: &[TemplateMessage],
    ) -> Result<String, TemplateError> {
        let controls = ["<|end|>".to_owned()];
        let template = ChatTemplate::new(source, "<s>".to_owned(), "<|end|>".to_owned(), limits)?;
        let rendered = template.render(messages, true, &controls)?;
        Ok(rendered.marker.erase(&rendered.text))
    }

    fn render(source: &str, messages: &[TemplateMessage]) -> Result<String, TemplateError> {
        render_with(source, TemplateLimits::default(), messages)
    }

    #[test]
    fn templates_of_known_models_render() {
        let source = "{{ bos_token }}\n{%- for m in messages %}\n    {% if m.role == 'user' %}\n[{{ m['content'].strip() \
            | upper }}]\n    {% endif %}\n{% endfor %}\n{% if add_generation_prompt %}{{ '>' }}{% endif %}";
        assert_eq!(render(source, &[message("user", " hi ")]).unwrap(), "<s>[HI]\n>");
    }

    #[test]
    fn a_templates_own_refusal_carries_its_words() {
        let source = "{% if messages[0].role != 'user' %}{{ raise_exception('Roles must alternate') }}{% endif %}";
        let error = render(source, &[message("system", "x")]).unwrap_err();
        assert!(matches!(&error, TemplateError::Refused(words) if words == "Roles must alternate"), "{error:?}");
    }

    #[test]
    fn json_is_pythons() {
        let source = r#"{{ {"a": messages[0].content, "b": [1, none]} | tojson }}"#;
        let json = render(source, &[message("user", "<é>&'\\u003c\"")]).unwrap();
        assert_eq!(json, r#"{"a": "<é>&'\\u003c\"", "b": [1, null]}"#);
    }

    #[test]
    fn the_date_is_todays() {
        let year = render("{{ strftime_now('%Y') }}", &[]).unwrap();
        assert_eq!(year, OffsetDateTime::from(wall_clock::now()).year().to_string());
        assert!(matches!(render("{{ strftime_now('%!') }}", &[]), Err(TemplateError::Failed(_))));
    }

    #[test]
    fn limits_end_a_template_that_runs_away() {
        let limits = TemplateLimits { output_bytes: 1000, fuel: 10_000, ..TemplateLimits::default() };
        for source in [
            "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
            "{{ 'x' * 100000000 }}",
            "{% for i in range(200) %}0123456789{% endfor %}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        ] {
            let result = render_with(source, limits, &[]);
            assert!(matches!(result, Err(TemplateError::Failed(_))), "{source}: {result:?}");
        }
        let long = TemplateLimits { source_bytes: 3, ..limits };
        assert!(matches!(render_with("four", long, &[]), Err(TemplateError::TooLong { limit: 3, given: 4 })));
    }

    #[test]
    fn the_tags_of_trainers_write_nothing() {
        let source =
            "{% for m in messages %}{{ m.role }}:{%- generation -%} {{ m.content }} {%- endgeneration -%}{% endfor %}";
        assert_eq!(render(source, &[message("assistant", "hi")]).unwrap(), "assistant:hi");
    }

    #[test]
    fn templates_of_strangers_cannot_take_time_or_memory() {
        let messages = [message("user", &"abc ".repeat(1000))];
        let limits = TemplateLimits::of_strangers();
        let begin = std::time::Instant::now();
        for source in [
            "{% for i in range(10**9) %}{% endfor %}",
            "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
            "{{ 'a' * 10**9 }}",
            "{{ 'a' * 10**18 }}",
            "{{ ['a'] * 10**9 }}",
            "{% set s = 'a' * 60000 %}{{ s.replace('a', s) }}",
            "{% set s = 'a' * 60000 %}{{ s | replace('a', s) }}",
            "{% set s = 'a' * 60000 %}{{ s.join(s) }}",
            "{% set s = 'a' * 60000 %}{{ s | join(s) }}",
            "{{ 'a' | center(10**9) }}",
            "{{ 'a' | indent(10**9) }}",
            "{{ '%1000000000d' | format(1) }}",
            "{{ '{:1000000000}'.format(1) }}",
            "{{ range(100000) | batch(3, 'x' * 100000) | list }}",
            "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
            "{% set ns = namespace(l=[]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{% macro m(n) %}{{ m(n) ~ m(n) }}{% endmacro %}{{ m(1) }}",
            "{% set s = 'a' * 3000000 %}{% for i in range(90000) %}{{ s.find('b') }}{% endfor %}",
            "{% set s = 'a' * 3000000 %}{% for i in range(90000) %}{{ s | length }}{% endfor %}",
            "{% set s = 'a' * 3000000 %}{% for i in range(90000) %}{% if 'b' in s %}{% endif %}{% endfor %}",
            "{% include 'other' %}",
            "{% import 'other' as other %}{{ other.x }}",
            "{% extends 'other' %}",
            "{% for i in range(20) %}{{ messages[0].content }}{{ '0123456789' * 1000 }}{% endfor %}",
        ] {
            let result = render_with(source, limits, &messages);
            assert!(matches!(result, Err(TemplateError::Failed(_))), "{source}: {:?}", result.map(|text| text.len()));
        }
        assert!(begin.elapsed() < std::time::Duration::from_secs(30), "{:?}", begin.elapsed());
        // Nesting that the parser would follow without end, and the longest source.
        for source in ["{{ ".to_owned() + &"(".repeat(60_000), "{% if a %}".repeat(6000), "x".repeat((64 << 10) + 1)] {
            assert!(render_with(&source, limits, &messages).is_err());
        }
        let echo = "{{ messages[0].content * 4 }}";
        assert_eq!(render_with(echo, limits, &messages).unwrap().len(), 16_000);
    }
}
