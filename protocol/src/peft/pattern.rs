//! Regular expressions out of a configuration. PEFT hands them to Python's `re`, whose matching time has no bound. Here
//! they run in linear time where that can be, and otherwise (look-around, backreferences) by backtracking with a limit
//! on its steps. Both only ever see the paths of a base model's modules.

use regex::{Regex, RegexBuilder};

use super::dialect::Expression;
use super::problem::{Problem, ProblemCode, clip};
use super::{MAX_KEY_BYTES, MAX_PATTERN_BYTES};

/// Largest compiled expression of a key in a table. `(.*\.)?layers\.\d+\.mlp` takes about 10 KB, of which Unicode's
/// digits are most.
const COMPILED_KEY_BYTES: usize = 256 << 10;
/// Largest compiled expression of `target_modules` or `exclude_modules`, of which there are two at most: an alternation
/// of [`MAX_PATTERN_BYTES`] letters.
const COMPILED_BYTES: usize = 1 << 20;
/// Most steps back while one path is matched. The expressions that Unsloth writes take fewer than a hundred, three
/// nested searches through a path of 40 letters about 10,000.
const MAX_STEPS: usize = 20_000;

/// A checked expression.
#[derive(Clone, Debug)]
pub struct Pattern {
    engine: Engine,
    /// The field, and the beginning of the text, for messages.
    field: String,
    shown: String,
}

#[derive(Clone, Debug)]
enum Engine {
    Linear(Regex),
    Backtracking(fancy_regex::Regex),
}

/// What an expression may take.
#[derive(Clone, Copy)]
struct Limits {
    text_bytes: usize,
    compiled_bytes: usize,
}

const WHOLE: Limits = Limits { text_bytes: MAX_PATTERN_BYTES, compiled_bytes: COMPILED_BYTES };
const KEY: Limits = Limits { text_bytes: MAX_KEY_BYTES, compiled_bytes: COMPILED_KEY_BYTES };

impl Pattern {
    /// As in `re.fullmatch(text, path)`; used by `target_modules` and `exclude_modules`.
    ///
    /// # Errors
    /// A problem about `field` that names what is wrong with the text.
    pub fn full(field: &str, text: &str) -> Result<Self, Problem> {
        Self::compile(field, text, WHOLE, |text| format!("^(?:{text})$"))
    }

    /// As in `re.match(rf"(.*\.)?({key})$", path)`; used by `rank_pattern` and `alpha_pattern`.
    ///
    /// # Errors
    /// As for [`Self::full`].
    pub fn suffix(field: &str, key: &str) -> Result<Self, Problem> {
        // The groups are there in PEFT too, and a backreference in the key counts them.
        Self::compile(field, key, KEY, |key| format!(r"^(?:(.*\.)?({key})$)"))
    }

    /// As in `re.match(rf".*\.{name}\.(\d+)\.", path)`; used by `layers_pattern`.
    ///
    /// # Errors
    /// As for [`Self::full`].
    pub fn layer(field: &str, name: &str) -> Result<Self, Problem> {
        Self::compile(field, name, KEY, |name| format!(r"^(?:.*\.{name}\.(\d+)\.)"))
    }

    /// Whether the path matches. An expression that takes too many steps on it does not; [`Self::check_steps`] tells.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match &self.engine {
            Engine::Linear(regex) => regex.is_match(path),
            Engine::Backtracking(regex) => regex.is_match(path).unwrap_or(false),
        }
    }

    /// The number that the first group matched in `path`.
    #[must_use]
    pub fn number(&self, path: &str) -> Option<usize> {
        match &self.engine {
            Engine::Linear(regex) => regex.captures(path)?.get(1)?.as_str().parse().ok(),
            Engine::Backtracking(regex) => regex.captures(path).ok()??.get(1)?.as_str().parse().ok(),
        }
    }

    /// Whether it runs by backtracking.
    #[must_use]
    pub fn is_backtracking(&self) -> bool {
        matches!(self.engine, Engine::Backtracking(_))
    }

    /// Tries every path of a model, so that none is left undecided.
    ///
    /// # Errors
    /// A problem that names the first path on which the expression takes too many steps.
    pub fn check_steps<'a>(&self, paths: impl IntoIterator<Item = &'a str>) -> Result<(), Problem> {
        let Engine::Backtracking(regex) = &self.engine else { return Ok(()) };
        for path in paths {
            if regex.is_match(path).is_err() {
                let reason = format!("it takes more than {MAX_STEPS} steps on `{path}`");
                return Err(refusal(&self.field, &self.shown, &reason));
            }
        }
        Ok(())
    }

    fn compile(field: &str, text: &str, limits: Limits, whole: impl Fn(&str) -> String) -> Result<Self, Problem> {
        let refuse = |reason: &str| refusal(field, text, reason);
        if text.len() > limits.text_bytes {
            return Err(refuse(&format!("it has {} bytes, at most {} are allowed", text.len(), limits.text_bytes)));
        }
        let expression = Expression::read(text).map_err(refuse)?;
        let measured = RegexBuilder::new(&whole(&expression.measured)).size_limit(limits.compiled_bytes).build();
        let linear = measured.map_err(|error| refuse(&reason_of(&error)))?;
        let engine = if expression.needs_backtracking {
            let mut builder = fancy_regex::RegexBuilder::new(&whole(&expression.text));
            let regex = builder.backtrack_limit(MAX_STEPS).delegate_size_limit(limits.compiled_bytes).build();
            Engine::Backtracking(regex.map_err(|error| refuse(&error.to_string()))?)
        } else {
            Engine::Linear(linear)
        };
        Ok(Self { engine, field: field.to_owned(), shown: clip(text, 120) })
    }
}

fn refusal(field: &str, text: &str, reason: &str) -> Problem {
    let message = format!("the regular expression `{}` cannot be used: {reason}", clip(text, 120));
    Problem::new(ProblemCode::FieldInvalid, field, message)
}

fn reason_of(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => format!("compiled it is larger than {} KiB", limit >> 10),
        // The library draws the expression with a pointer; the last line has the reason.
        error => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or(&text);
            reason.strip_prefix("error: ").unwrap_or(reason).to_owned()
        }
    }
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

    /// What Unsloth wrote for a text model, before and after it began to anchor the last name.
    const UNSLOTH: &str = r"(?:.*?(?:vision|image|visual|patch|language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)\.(?:(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)))";
    const UNSLOTH_ANCHORED: &str = r".*?(?:vision|image|visual|patch|language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?(?:(?<=\.)|^)(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)$|(?:\bmodel\.layers\.\d+\.(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)\.(?:(?<=\.)|^)(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)$)";
    const LOOK_AHEAD: &str = r"^(?=.*(?:self_attn|mlp))(?!.*(?:vision|visual|image)).*\.(?:q_proj|up_proj)$";

    #[test]
    fn the_expressions_of_unsloth_select_what_python_selects() {
        let long: Vec<String> = (0..250).map(|layer| format!(r"model\.layers\.{layer}\.self_attn")).collect();
        let long = format!(r"(?=model\.)(?:{})\.(?:q|v)_proj", long.join("|"));
        assert!(long.len() > 7000);
        let up = "model.layers.0.mlp.up_proj";
        for (text, path, expected) in [
            (UNSLOTH, Q0, true),
            (UNSLOTH, "model.layers.12.mlp.gate_up_proj", false),
            (UNSLOTH, "model.text_model.layers.0.self_attn.q_proj.base", true),
            (UNSLOTH, "lm_head", false),
            (UNSLOTH, "model.embed_tokens", false),
            (UNSLOTH_ANCHORED, Q10, true),
            (UNSLOTH_ANCHORED, "model.language_model.layers.0.mlp.up_proj", true),
            (UNSLOTH_ANCHORED, "model.language_model.layers.0.mlp.gate_up_proj", false),
            (UNSLOTH_ANCHORED, "lm_head", false),
            (LOOK_AHEAD, Q0, true),
            (LOOK_AHEAD, up, true),
            (LOOK_AHEAD, "model.visual.layers.0.mlp.up_proj", false),
            (r"(?:(?!lm_head).)*_proj", Q0, true),
            (r"model\.layers\.(?!0\.)\d+\..*", Q0, false),
            (r"model\.layers\.(?!0\.)\d+\..*", Q10, true),
            (r".*(?<!gate)_proj", "model.layers.0.mlp.gate_proj", false),
            (r".*(?<!gate)_proj", up, true),
            (r"model\.layers\.(\d)\1\..*", "model.layers.11.mlp.up_proj", true),
            (r"model\.layers\.(\d)\1\..*", Q10, false),
            (r"(?P<a>m)odel.*(?P=a)lp.*", up, true),
            (r"model\.layers\.\d++\..*", Q10, true),
            (r"(?>.*)q_proj", Q0, false),
            (r".*(q)?_proj(?(1)|\Z)", Q0, true),
            (r".*q_proj\Z", Q0, true),
            (&long, "model.layers.249.self_attn.v_proj", true),
            (&long, "model.layers.250.self_attn.v_proj", false),
        ] {
            let pattern = Pattern::full("target_modules", text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
            pattern.check_steps([path]).unwrap();
            assert_eq!(pattern.matches(path), expected, "{text} on {path}");
        }
        // PEFT's own groups count.
        assert!(Pattern::suffix("rank_pattern", r"(?=q)q_proj").unwrap().matches(Q0));
        assert!(Pattern::suffix("rank_pattern", r"(p)roj|q_\3roj").unwrap().matches("p.proj"));
        assert_eq!(Pattern::layer("layers_pattern", "(?!h)layers").unwrap().number(Q10), Some(10));
    }

    #[test]
    fn an_expression_that_backtracks_without_end_is_refused_by_its_steps() {
        for text in [r"(?=model)(?:(?:[a-z.]+)+)+\d\d\d", r"((?:\w|\w)+\.?)+(?=x)y", r"(?:(?:.*)*)*(?=x)"] {
            let pattern = Pattern::full("target_modules", text).unwrap();
            let problem = pattern.check_steps([Q0]).expect_err(text);
            assert_eq!(problem.subject, "target_modules");
            assert!(
                problem.message.contains("more than 20000 steps on `model.layers.0.self_attn.q_proj`"),
                "{problem}"
            );
            assert!(!pattern.matches(Q0));
        }
    }

    #[test]
    fn what_is_too_large_or_not_pythons_is_refused_by_name() {
        for (text, reason) in [
            ("(", "unclosed group"),
            ("[[a]b]", "character class"),
            ("[a&&b]", "set operations"),
            (r"\p{L}+", "escape"),
            (r"(?:\w{99}){99}", "larger than 1024 KiB"),
            (r"(?=a)(?:\w{99}){99}", "larger than 1024 KiB"),
            (r"(?:(?=a)){1000000}", "larger than 1024 KiB"),
            (r"(?=(?:\w{99}){99})", "larger than 1024 KiB"),
            (r"(a)(?=b)\2", "group"),
            (&"a".repeat(MAX_PATTERN_BYTES + 1), "16385 bytes"),
        ] {
            let problem = Pattern::full("target_modules", text).expect_err(text);
            assert!(problem.message.contains(reason), "{text}: {problem}");
        }
        assert!(Pattern::suffix("rank_pattern", &"a".repeat(MAX_KEY_BYTES + 1)).is_err());
    }
}
