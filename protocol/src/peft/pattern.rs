//! Regular expressions out of a configuration. PEFT hands them to Python's `re`, whose matching time has no bound;
//! here they run in linear time. What the two dialects mean differently is refused by name rather than guessed.

use regex::{Regex, RegexBuilder};

use super::MAX_PATTERN_BYTES;
use super::problem::{Problem, ProblemCode, clip};

/// Largest compiled expression. `(.*\.)?layers\.\d+\.mlp` takes about 10 KB, of which Unicode's digits are most.
const COMPILED_LIMIT_BYTES: usize = 256 << 10;

/// A checked expression.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// As in `re.fullmatch(text, path)`; used by `target_modules` and `exclude_modules`.
    ///
    /// # Errors
    /// A problem about `field` that names what the dialect lacks.
    pub fn full(field: &str, text: &str) -> Result<Self, Problem> {
        Self::compile(field, text, &format!("^(?:{text})$"))
    }

    /// As in `re.match(rf"(.*\.)?({key})$", path)`; used by `rank_pattern` and `alpha_pattern`.
    ///
    /// # Errors
    /// As for [`Self::full`].
    pub fn suffix(field: &str, key: &str) -> Result<Self, Problem> {
        Self::compile(field, key, &format!(r"^(?:(?:.*\.)?(?:{key})$)"))
    }

    /// As in `re.match(rf".*\.{name}\.(\d+)\.", path)`; used by `layers_pattern`.
    ///
    /// # Errors
    /// As for [`Self::full`].
    pub fn layer(field: &str, name: &str) -> Result<Self, Problem> {
        Self::compile(field, name, &format!(r"^(?:.*\.{name}\.(\d+)\.)"))
    }

    /// Whether the path matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.0.is_match(path)
    }

    /// The number that the first group matched in `path`.
    #[must_use]
    pub fn number(&self, path: &str) -> Option<usize> {
        self.0.captures(path)?.get(1)?.as_str().parse().ok()
    }

    fn compile(field: &str, text: &str, whole: &str) -> Result<Self, Problem> {
        let refuse = |reason: &str| {
            let message = format!("the regular expression `{}` cannot be used: {reason}", clip(text, 120));
            Problem::new(ProblemCode::FieldInvalid, field, message)
        };
        if text.len() > MAX_PATTERN_BYTES {
            return Err(refuse(&format!("it has {} bytes, at most {MAX_PATTERN_BYTES} are allowed", text.len())));
        }
        if let Some(construct) = ambiguous_construct(text) {
            return Err(refuse(construct));
        }
        match RegexBuilder::new(whole).size_limit(COMPILED_LIMIT_BYTES).build() {
            Ok(regex) => Ok(Self(regex)),
            Err(regex::Error::CompiledTooBig(limit)) => {
                Err(refuse(&format!("compiled it is larger than {} KiB", limit >> 10)))
            }
            Err(error) => {
                // The library draws the expression with a pointer; the last line has the reason.
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or(&text);
                Err(refuse(reason.strip_prefix("error: ").unwrap_or(reason)))
            }
        }
    }
}

/// Finds what Python and the linear-time library both accept and read differently, or what only the latter knows.
fn ambiguous_construct(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        match bytes[index] {
            b'\\' => {
                if let Some(construct) = ambiguous_escape(&bytes[index + 1..]) {
                    return Some(construct);
                }
                index += 2;
            }
            b'[' => match skip_class(bytes, index) {
                Ok(end) => index = end,
                Err(construct) => return Some(construct),
            },
            b'*' | b'+' | b'?' | b'}' if bytes.get(index + 1) == Some(&b'+') => {
                return Some("possessive quantifiers (`*+`, `++`, `?+`) are not supported");
            }
            _ => index += 1,
        }
    }
    None
}

fn ambiguous_escape(after: &[u8]) -> Option<&'static str> {
    match after {
        [b'1'..=b'9', ..] => Some("backreferences are not supported"),
        [b'Z', ..] => Some("`\\Z` is not supported; write `$`"),
        [b'z' | b'p' | b'P' | b'<' | b'>', ..] | [b'x' | b'u' | b'U', b'{', ..] | [b'b' | b'B', b'{', ..] => {
            Some("it has an escape that Python's `re` does not know")
        }
        _ => None,
    }
}

/// The index behind the character class that opens at `open`.
fn skip_class(bytes: &[u8], open: usize) -> Result<usize, &'static str> {
    let mut index = open + 1;
    if bytes.get(index) == Some(&b'^') {
        index += 1;
    }
    // A bracket that comes first is a member of the class in both dialects.
    if bytes.get(index) == Some(&b']') {
        index += 1;
    }
    while let Some(&byte) = bytes.get(index) {
        match byte {
            b']' => return Ok(index + 1),
            b'[' => return Err("`[` inside a character class means different things to different readers"),
            b'&' | b'-' | b'~' if bytes.get(index + 1) == Some(&byte) => {
                return Err("set operations in a character class (`&&`, `--`, `~~`) are not supported");
            }
            b'\\' => match ambiguous_escape(&bytes[index + 1..]) {
                Some(construct) => return Err(construct),
                None => index += 2,
            },
            _ => index += 1,
        }
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const Q0: &str = "model.layers.0.self_attn.q_proj";
    const Q10: &str = "model.layers.10.self_attn.q_proj";

    #[test]
    fn a_suffix_key_begins_at_a_dot_or_at_the_start_and_ends_at_the_end() {
        for (key, path, expected) in [
            ("q_proj", Q0, true),
            ("proj", Q0, false),
            (r"layers\.0\.self_attn\.q_proj", Q0, true),
            (r"layers\.0\.self_attn\.q_proj", Q10, false),
            (r".*\.0\..*", Q0, true),
            ("self_attn", Q0, false),
            ("^q_proj", Q0, false),
            (r"^model\.layers\.0\.self_attn\.q_proj", Q0, true),
            ("^lm_head", "lm_head", true),
            ("q_proj|v_proj", Q0, true),
            // Python's f-string does not escape the key either: `(.*\.)?(nothing)|(.*q_proj)$`.
            ("nothing)|(?:.*q_proj", Q0, true),
        ] {
            assert_eq!(Pattern::suffix("rank_pattern", key).unwrap().matches(path), expected, "{key} on {path}");
        }
    }

    #[test]
    fn a_full_pattern_matches_from_end_to_end() {
        for (text, path, expected) in [
            (r".*\.(q|v)_proj", Q0, true),
            ("q_proj", Q0, false),
            (r"model\.layers\.[0-9]\..*", Q10, false),
            (r"model\.layers\.\d+\.self_attn\.[qkvo]_proj", Q10, true),
            (".*self_attn", Q0, false),
            ("(?i).*Q_PROJ", Q0, true),
            ("a|.*q_proj", Q0, true),
            (r"[]a\]-c]*.*", Q0, true),
        ] {
            assert_eq!(Pattern::full("target_modules", text).unwrap().matches(path), expected, "{text} on {path}");
        }
    }

    #[test]
    fn a_layer_pattern_yields_the_number_behind_it() {
        assert_eq!(Pattern::layer("layers_pattern", "layers").unwrap().number(Q10), Some(10));
        assert_eq!(Pattern::layer("layers_pattern", "h").unwrap().number(Q10), None);
        assert_eq!(Pattern::layer("layers_pattern", "layers").unwrap().number("lm_head"), None);
    }

    #[test]
    fn what_linear_time_cannot_do_or_dialects_read_differently_is_refused_by_name() {
        for (text, reason) in [
            ("(?=q)q_proj", "look-around"),
            ("(?<!k)_proj", "look-around"),
            (r"(q)\1", "backreference"),
            ("(", "unclosed group"),
            (r"q_proj\Z", r"`\Z`"),
            ("a++", "possessive"),
            ("[[a]b]", "character class"),
            ("[a&&b]", "set operations"),
            (r"\p{L}+", "escape"),
            (r"(?:\w{99}){99}", "larger than 256 KiB"),
            (&"a".repeat(MAX_PATTERN_BYTES + 1), "513 bytes"),
        ] {
            let problem = Pattern::full("target_modules", text).expect_err(text);
            assert!(problem.message.contains(reason), "{text}: {problem}");
        }
    }
}
