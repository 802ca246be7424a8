//! What an adapter's folder carries beside the pairs: its own chat template, and tokens that were added in training.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::template::{ChatTemplate, TemplateError, TemplateLimits, TemplateMessage};
use crate::manifest::{ADDED_TOKENS_FILE, TEMPLATE_FILE, TOKENIZER_CONFIG_FILE};
use crate::peft::{MAX_LISTED_PROBLEMS, Problem, ProblemCode, Problems};
use crate::{BaseModel, TokenId, Vocabulary};

/// The files that may carry something, as they were sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct CarriedFiles<'a> {
    /// `chat_template.jinja`.
    pub template: Option<&'a [u8]>,
    /// `tokenizer_config.json`: its `chat_template`, where there is no file of its own, and the tokens that were added.
    pub tokenizer_config: Option<&'a [u8]>,
    /// `added_tokens.json`.
    pub added_tokens: Option<&'a [u8]>,
}

/// The template of a version, and what its publisher should know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CarriedTemplate {
    /// The source, where there is one and it is not the base's own.
    pub source: Option<String>,
    /// Whether there was one that says what the base's says.
    pub is_the_bases: bool,
    /// What was sent and makes no difference, or not the one that was meant.
    pub warnings: Vec<Problem>,
}

/// The most of one file's tokens that are named.
const MAX_NAMED_TOKENS: usize = 8;

impl CarriedFiles<'_> {
    /// Reads the files and tries the template on simple conversations.
    ///
    /// # Errors
    /// A template that cannot be used, files that are not what their names say, and a template that writes tokens which
    /// the base model does not have.
    pub fn read(&self, base: &BaseModel) -> Result<CarriedTemplate, Problems> {
        let mut carried = CarriedTemplate::default();
        let mut problems = Vec::new();
        let tokenizer_config = read_object(self.tokenizer_config, TOKENIZER_CONFIG_FILE, &mut problems);
        let added_tokens = read_object(self.added_tokens, ADDED_TOKENS_FILE, &mut problems);
        let found = self.find_template(tokenizer_config.as_ref(), &mut carried.warnings, &mut problems);
        if let Some((text, id)) = added_tokens.iter().flatten().find(|(_, id)| id.as_u64().is_none()) {
            let message = format!("the id of `{}` is {}, which is no token's", shown(text), shown(&id.to_string()));
            problems.push(Problem::new(ProblemCode::FileInvalid, ADDED_TOKENS_FILE, message));
        }
        let foreign = foreign_tokens(tokenizer_config.as_ref(), added_tokens.as_ref(), base);
        let (blank, found) = match found {
            Some((file, source)) if source.trim().is_empty() => (Some(file), None),
            found => (None, found),
        };
        if let Some(file) = blank {
            let message = "its chat template is empty and is not used";
            carried.warnings.push(Problem::new(ProblemCode::NotUsed, file, message));
        }
        if let Some((file, source)) = found {
            match check(&source, base) {
                Err(error) => problems.push(Problem::new(ProblemCode::TemplateInvalid, file, error.reason())),
                Ok(()) => {
                    let bases = base.chat_template.as_deref().map(str::trim_end);
                    carried.is_the_bases = bases == Some(source.trim_end());
                    if let Some((id, text)) = foreign.iter().find(|(_, text)| source.contains(text.as_str())) {
                        let message = format!(
                            "it writes the token `{}` ({id}), which the base model's vocabulary does not have",
                            shown(text)
                        );
                        problems.push(Problem::new(ProblemCode::AddedTokens, file, message));
                    }
                    carried.warnings.extend(other_marks(&source, tokenizer_config.as_ref(), base));
                    carried.source = Some(source).filter(|_| !carried.is_the_bases);
                }
            }
        }
        carried.warnings.extend(foreign_warning(&foreign, self.added_tokens.is_some()));
        if problems.is_empty() {
            return Ok(carried);
        }
        problems.truncate(MAX_LISTED_PROBLEMS);
        Err(Problems { listed: problems, num_unlisted: 0 })
    }

    /// The template and the file that it is from; the file of its own comes first, as in transformers.
    fn find_template(
        &self,
        tokenizer_config: Option<&Map<String, Value>>,
        warnings: &mut Vec<Problem>,
        problems: &mut Vec<Problem>,
    ) -> Option<(&'static str, String)> {
        let of_config = tokenizer_config.and_then(|config| template_of_config(config, warnings, problems));
        let Some(bytes) = self.template else { return Some((TOKENIZER_CONFIG_FILE, of_config?)) };
        let Ok(own) = std::str::from_utf8(bytes) else {
            problems.push(Problem::new(ProblemCode::TemplateInvalid, TEMPLATE_FILE, "it is not UTF-8 text"));
            return None;
        };
        if of_config.is_some_and(|other| other.trim_end() != own.trim_end()) {
            let message = format!("its chat_template is not used, since {TEMPLATE_FILE} has another one");
            warnings.push(Problem::new(ProblemCode::NotUsed, TOKENIZER_CONFIG_FILE, message));
        }
        Some((TEMPLATE_FILE, own.to_owned()))
    }
}

fn read_object(bytes: Option<&[u8]>, file: &str, problems: &mut Vec<Problem>) -> Option<Map<String, Value>> {
    match serde_json::from_slice(bytes?) {
        Ok(Value::Object(object)) => Some(object),
        Ok(_) => {
            problems.push(Problem::new(ProblemCode::FileInvalid, file, "it is not a JSON object"));
            None
        }
        Err(error) => {
            problems.push(Problem::new(ProblemCode::FileInvalid, file, format!("it is not JSON: {error}")));
            None
        }
    }
}

/// `chat_template` is a text, or a list of named ones of which the one named `default` is used.
fn template_of_config(
    config: &Map<String, Value>,
    warnings: &mut Vec<Problem>,
    problems: &mut Vec<Problem>,
) -> Option<String> {
    let named = |item: &Value| {
        let text = |field: &str| item.get(field).and_then(Value::as_str).map(str::to_owned);
        Some((text("name")?, text("template")?))
    };
    match config.get("chat_template") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Array(items)) if items.iter().all(|item| named(item).is_some()) => {
            let (default, others): (Vec<_>, Vec<_>) =
                items.iter().filter_map(named).partition(|(name, _)| name == "default");
            for (name, _) in others.iter().take(MAX_NAMED_TOKENS) {
                let message = format!("its chat template `{}` is not used; only `default` is", shown(name));
                warnings.push(Problem::new(ProblemCode::NotUsed, TOKENIZER_CONFIG_FILE, message));
            }
            default.into_iter().next().map(|(_, template)| template)
        }
        Some(_) => {
            let message = "its chat_template is neither a text nor a list of `name` and `template`";
            problems.push(Problem::new(ProblemCode::TemplateInvalid, TOKENIZER_CONFIG_FILE, message));
            None
        }
    }
}

/// Tokens that the files add and the base does not have: by id beyond its vocabulary, or in another one's place.
fn foreign_tokens(
    tokenizer_config: Option<&Map<String, Value>>,
    added_tokens: Option<&Map<String, Value>>,
    base: &BaseModel,
) -> BTreeMap<TokenId, String> {
    let token_id = |id: u64| TokenId::try_from(id).unwrap_or(TokenId::MAX);
    let decoder = tokenizer_config.and_then(|config| config.get("added_tokens_decoder")).and_then(Value::as_object);
    let of_decoder = decoder.into_iter().flatten().filter_map(|(id, token)| {
        let text = token.get("content").and_then(Value::as_str)?;
        Some((token_id(id.parse().ok()?), text.to_owned()))
    });
    let of_map = added_tokens.into_iter().flatten();
    let of_map = of_map.filter_map(|(text, id)| Some((token_id(id.as_u64()?), text.clone())));
    let mut tokens: BTreeMap<_, _> = of_decoder.chain(of_map).collect();
    if tokens.is_empty() {
        return tokens;
    }
    let vocabulary = Vocabulary::of(&base.tokenizer).ok();
    tokens.retain(|id, text| {
        let index = *id as usize;
        let of_base = vocabulary.as_ref().filter(|vocabulary| index < vocabulary.len());
        index >= base.shape.vocab_size || of_base.is_some_and(|vocabulary| vocabulary.text(*id) != *text)
    });
    tokens
}

fn foreign_warning(foreign: &BTreeMap<TokenId, String>, has_file: bool) -> Option<Problem> {
    if foreign.is_empty() {
        return None;
    }
    let named = foreign.iter().take(MAX_NAMED_TOKENS).map(|(id, text)| format!("`{}` ({id})", shown(text)));
    let more = foreign.len().saturating_sub(MAX_NAMED_TOKENS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let message = format!(
        "the base model's vocabulary does not have {}{more}; such a token is never written, and its text in a prompt is \
         read as ordinary text",
        named.collect::<Vec<_>>().join(", ")
    );
    let file = if has_file { ADDED_TOKENS_FILE } else { TOKENIZER_CONFIG_FILE };
    Some(Problem::new(ProblemCode::AddedTokens, file, message))
}

/// The base's tokens that templates know as `bos_token` and `eos_token`.
fn marks(base: &BaseModel) -> (String, String) {
    let vocabulary = Vocabulary::of(&base.tokenizer).ok();
    let text = |token: Option<TokenId>| {
        let vocabulary = vocabulary.as_ref().zip(token).filter(|(vocabulary, id)| (*id as usize) < vocabulary.len());
        vocabulary.map(|(vocabulary, id)| vocabulary.text(id)).unwrap_or_default()
    };
    (text(base.bos_token), text(base.eos_tokens.first().copied()))
}

/// Marks of the version's tokenizer that its template writes as the base's.
fn other_marks(source: &str, tokenizer_config: Option<&Map<String, Value>>, base: &BaseModel) -> Vec<Problem> {
    let (bos, eos) = marks(base);
    let other = |(field, of_base): (&str, String)| {
        let token = tokenizer_config?.get(field)?;
        let own = token.as_str().or_else(|| token.get("content")?.as_str())?;
        if own == of_base || !source.contains(field) {
            return None;
        }
        let (own, of_base) = (shown(own), shown(&of_base));
        let message =
            format!("its {field} `{own}` is not used: the template writes the base model's `{of_base}` for {field}");
        Some(Problem::new(ProblemCode::NotUsed, TOKENIZER_CONFIG_FILE, message))
    };
    [("bos_token", bos), ("eos_token", eos)].into_iter().filter_map(other).collect()
}

/// Compiles the template and renders what every chat begins with.
fn check(source: &str, base: &BaseModel) -> Result<(), TemplateError> {
    let (bos, eos) = marks(base);
    let template = ChatTemplate::new(source, bos, eos, TemplateLimits::of_strangers())?;
    let message = |role, content: &str| TemplateMessage { role, content: content.to_owned(), fields: Vec::new() };
    let user = [message("user", "Hello")];
    if template.render(&user, true, &[])?.text.trim().is_empty() {
        return Err(TemplateError::Refused("it writes nothing for a user's message".to_owned()));
    }
    let turns = [message("user", "Hello"), message("assistant", "Hi"), message("user", "How are you?")];
    let with_system = [message("system", "Be brief."), message("user", "Hello")];
    for messages in [&turns[..], &with_system[..]] {
        match template.render(messages, true, &[]) {
            // Its own words, for example that it takes no system message.
            Ok(_) | Err(TemplateError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn shown(text: &str) -> String {
    text.chars().take(40).map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::TokenizerSpec;
    use crate::peft::samples::small_base;

    const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}";

    fn base() -> BaseModel {
        let tokens = ["<|end|>", "a", "b"].map(str::to_owned).to_vec();
        let tokenizer = TokenizerSpec::ByteLevelBpe {
            tokens,
            control_tokens: vec![0],
            merges: Vec::new(),
            pre: "smollm".to_owned(),
        };
        BaseModel { tokenizer, chat_template: Some("base's".to_owned()), ..small_base() }
    }

    fn read(template: Option<&str>, config: &Value, added: Option<Value>) -> Result<CarriedTemplate, Problems> {
        let (config, added) = (config.to_string(), added.map(|added| added.to_string()));
        let files = CarriedFiles {
            template: template.map(str::as_bytes),
            tokenizer_config: Some(config.as_bytes()),
            added_tokens: added.as_deref().map(str::as_bytes),
        };
        files.read(&base())
    }

    #[test]
    fn the_template_is_found_in_its_own_file_and_then_in_the_tokenizers() {
        let nothing = CarriedFiles::default().read(&base()).unwrap();
        assert_eq!(nothing, CarriedTemplate::default());
        let own = read(Some(TEMPLATE), &json!({"chat_template": "other"}), None).unwrap();
        assert_eq!(own.source.as_deref(), Some(TEMPLATE));
        assert!(own.warnings[0].message.contains("is not used"), "{own:?}");
        let of_config = read(None, &json!({"chat_template": TEMPLATE}), None).unwrap();
        assert_eq!((of_config.source.as_deref(), of_config.warnings.len()), (Some(TEMPLATE), 0));
        let list = json!([{"name": "default", "template": TEMPLATE}, {"name": "tool_use", "template": "x"}]);
        let of_list = read(None, &json!({ "chat_template": list }), None).unwrap();
        assert_eq!(of_list.source.as_deref(), Some(TEMPLATE));
        assert!(of_list.warnings[0].message.contains("`tool_use`"), "{of_list:?}");
        let same = read(Some("base's\n"), &json!({}), None).unwrap();
        assert!(same.is_the_bases && same.source.is_none());
    }

    #[test]
    fn a_template_that_cannot_be_used_is_refused_with_reason_and_line() {
        for (source, reason) in [
            ("a\nb{% if %}", "line 2"),
            ("{{ nothing.at.all }}", "line 1"),
            ("{% include 'x' %}", "line 1"),
            ("{{ raise_exception('never') }}", "never"),
            ("{% for i in range(10**9) %}{% endfor %}", "line 1"),
            (&"x".repeat((64 << 10) + 1), "65536"),
        ] {
            let problems = read(Some(source), &json!({}), None).expect_err(source);
            let [problem] = &problems.listed[..] else { panic!("{problems}") };
            assert_eq!((problem.code, problem.subject.as_str()), (ProblemCode::TemplateInvalid, TEMPLATE_FILE));
            assert!(problem.message.contains(reason), "{source:.40}: {problem}");
        }
        let no_system = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}x";
        assert!(read(Some(no_system), &json!({}), None).is_ok());
        assert!(read(None, &json!({"chat_template": 3}), None).is_err());
        let not_text = CarriedFiles { template: Some(b"\xff"), ..CarriedFiles::default() };
        assert!(not_text.read(&base()).unwrap_err().has(ProblemCode::TemplateInvalid));
        let not_json = CarriedFiles { added_tokens: Some(b"[]"), ..CarriedFiles::default() };
        assert!(not_json.read(&base()).unwrap_err().has(ProblemCode::FileInvalid));
    }

    #[test]
    fn what_is_empty_or_malformed_is_said() {
        let empty = read(Some(" \n"), &json!({}), None).unwrap();
        assert!(empty.source.is_none() && empty.warnings[0].message.contains("is empty"), "{empty:?}");
        let silent = read(Some("{% set a = 1 %}"), &json!({}), None).unwrap_err();
        assert!(silent.to_string().contains("writes nothing"), "{silent}");
        for id in [json!("b"), json!(-1), json!(1e30), json!(null)] {
            let problems = read(None, &json!({}), Some(json!({ "<x>": id }))).unwrap_err();
            assert!(problems.has(ProblemCode::FileInvalid) && problems.to_string().contains("`<x>`"), "{problems}");
        }
    }

    #[test]
    fn marks_that_the_template_writes_as_the_bases_are_named() {
        let config = json!({"eos_token": {"content": "<|other|>"}, "bos_token": "a"});
        let source = "{{ messages[0].content }}{{ eos_token }}";
        let marked = read(Some(source), &config, None).unwrap();
        let [warning] = &marked.warnings[..] else { panic!("{marked:?}") };
        assert!(
            warning.message.contains("`<|other|>` is not used") && warning.message.contains("`<|end|>`"),
            "{warning}"
        );
        assert_eq!(read(Some(source), &json!({"eos_token": "<|end|>"}), None).unwrap().warnings, []);
    }

    #[test]
    fn tokens_that_the_base_lacks_are_named_and_may_not_be_in_the_template() {
        let decoder = json!({"added_tokens_decoder": {"0": {"content": "<|end|>"}, "2": {"content": "<|new|>"}}});
        let moved = read(None, &decoder, Some(json!({"<|far|>": 32, "<|end|>": 0}))).unwrap();
        let [warning] = &moved.warnings[..] else { panic!("{moved:?}") };
        assert_eq!((warning.code, warning.subject.as_str()), (ProblemCode::AddedTokens, ADDED_TOKENS_FILE));
        assert!(warning.message.contains("`<|new|>` (2), `<|far|>` (32);"), "{warning}");
        let problems = read(Some("<|new|>{{ messages[0].content }}"), &decoder, None).unwrap_err();
        assert!(problems.has(ProblemCode::AddedTokens) && problems.to_string().contains("<|new|>"), "{problems}");
        let known = json!({"added_tokens_decoder": {"0": {"content": "<|end|>"}}});
        assert_eq!(read(None, &known, None).unwrap().warnings, []);
    }

    #[test]
    fn any_bytes_of_a_tokenizers_files_are_read_or_refused() {
        let base = base();
        souk_testkit::fuzz("tokenizer_config", |bytes| {
            // In turn as one file and as the other: what is sound as one is not as the other.
            let answers = [true, false].map(|is_config| {
                let files = CarriedFiles {
                    template: None,
                    tokenizer_config: is_config.then_some(bytes),
                    added_tokens: (!is_config).then_some(bytes),
                };
                match files.read(&base) {
                    Ok(carried) => format!("{:?} {:?}", carried.source.is_some(), carried.warnings.first()),
                    Err(problems) => problems.to_string(),
                }
            });
            answers.concat()
        });
    }
}
