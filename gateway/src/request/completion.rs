//! The body of `POST /v1/completions`.

use souk_protocol::TokenId;
use utoipa::ToSchema;

use super::body::{self, FromFields};
use super::fields::{Fields, List, text, wrong_type};
use super::raw::{Kind, Raw};
use super::sampling::{GenerationParams, WITHOUT_EFFECT, take_max_tokens};
use crate::error::ApiError;
use crate::limits::GatewayLimits;
use crate::served::ServedBase;

/// Default of `max_tokens`, as in the official API.
pub(crate) const DEFAULT_MAX_TOKENS: u64 = 16;
/// What a token stands for in ordinary text.
pub(crate) const BYTES_PER_TOKEN: usize = 4;

/// A text completion request, checked.
#[derive(Clone, Debug, PartialEq, ToSchema)]
pub struct CompletionRequest {
    /// A base model's id, or an adapter: `owner/name`, `owner/name@1.2.0`, `owner/name@sha256:…` or `owner/name:tag`.
    pub model: String,
    /// A string, a list of strings, a list of token ids, or a list of such lists.
    #[schema(value_type = serde_json::Value, rename = "prompt")]
    pub prompts: Vec<Prompt>,
    /// Longest answer in tokens; 0 only with `echo`. Default 16.
    #[schema(minimum = 0, required = false)]
    pub max_tokens: u64,
    /// Whether the caller gave `max_tokens`.
    #[schema(ignore)]
    pub max_tokens_given: bool,
    /// Reports logprobs, with this many alternatives for each token.
    #[schema(minimum = 0, maximum = 20)]
    pub logprobs: Option<u8>,
    /// Puts the prompt before the answer; with `logprobs`, its tokens are scored too.
    #[schema(required = false)]
    pub echo: bool,
    /// The shared parameters, which stand beside these in the body.
    #[serde(flatten)]
    pub generation: GenerationParams,
}

/// One prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// As text.
    Text(String),
    /// As token ids, control tokens included.
    Tokens(Vec<TokenId>),
}

impl Prompt {
    /// As text; what tokens stand for, if it is one of those.
    pub(crate) fn text(&self, base: &ServedBase) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Tokens(tokens) => base.tokenizer.decode(tokens),
        }
    }

    /// Bytes of the text, or about as many as the tokens stand for.
    pub(crate) fn num_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Tokens(tokens) => tokens.len() * BYTES_PER_TOKEN,
        }
    }
}

impl CompletionRequest {
    /// The request that a body is, which takes less than eight times the body's bytes of memory to read.
    ///
    /// # Errors
    /// What is wrong with it, by its field.
    pub fn read(body: &[u8], limits: &GatewayLimits) -> Result<Self, ApiError> {
        body::parse(body, limits)
    }
}

impl FromFields for CompletionRequest {
    fn parse(mut fields: Fields<'_>, limits: &GatewayLimits) -> Result<Self, ApiError> {
        let model = fields.string("model")?.ok_or(ApiError::MissingParameter("model"))?;
        let prompts = parse_prompts(&mut fields, limits)?;
        let echo = fields.boolean("echo")?.unwrap_or(false);
        let max_tokens = take_max_tokens(&mut fields, "max_tokens", if echo { 0 } else { 1 })?;
        let logprobs = fields.integer("logprobs", 0..=i64::from(limits.max_top_logprobs))?.map(|top| top as u8);
        let generation = GenerationParams::take(&mut fields, limits)?;
        let n = generation.n;
        if let Some(best_of) = fields.integer("best_of", i64::MIN..=i64::MAX)?
            && best_of != i64::from(n)
        {
            let message =
                format!("'best_of' is not supported: it must be absent or equal to 'n' ({n}); given {best_of}.");
            return Err(ApiError::unsupported("best_of", message));
        }
        let num_jobs = prompts.len() * n as usize;
        if num_jobs > limits.max_jobs {
            let (limit, num_prompts) = (limits.max_jobs, prompts.len());
            let message =
                format!("{num_prompts} prompts with 'n' = {n} are {num_jobs} answers; at most {limit} are allowed.");
            return Err(ApiError::invalid("prompt", message));
        }
        fields.refuse_unless("suffix", r#""""#)?;
        fields.finish(&WITHOUT_EFFECT)?;
        Ok(Self {
            model,
            prompts,
            max_tokens: max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
            max_tokens_given: max_tokens.is_some(),
            logprobs,
            echo,
            generation,
        })
    }
}

fn parse_prompts(fields: &mut Fields<'_>, limits: &GatewayLimits) -> Result<Vec<Prompt>, ApiError> {
    let prompt = fields.take("prompt").ok_or(ApiError::MissingParameter("prompt"))?;
    let expected = "a string, a list of strings or lists of token ids";
    if prompt.kind() == Kind::Text {
        return Ok(vec![Prompt::Text(text("prompt", prompt, expected)?.into_owned())]);
    }
    let prompts = List::of(prompt).ok_or_else(|| wrong_type("prompt", expected, prompt))?;
    if prompt.first_kind() == Some(Kind::Number) {
        return Ok(vec![Prompt::Tokens(token_ids("prompt", prompts)?)]);
    }
    if prompts.len == 0 || prompts.len > limits.max_prompts {
        let message = format!("'prompt' must have 1 to {} entries; given {}.", limits.max_prompts, prompts.len);
        return Err(ApiError::invalid("prompt", message));
    }
    prompts.map(|index, prompt| {
        let (path, expected) = (format!("prompt[{index}]"), "a string or a list of token ids");
        match List::of(prompt) {
            Some(ids) => Ok(Prompt::Tokens(token_ids(&path, ids)?)),
            None => Ok(Prompt::Text(text(&path, prompt, expected)?.into_owned())),
        }
    })
}

/// The token ids of the list at `path`.
pub(crate) fn token_ids(path: &str, ids: List<'_>) -> Result<Vec<TokenId>, ApiError> {
    match ids.raw().as_token_ids() {
        Some(ids) => Ok(ids),
        // One that is no id, or written as `1.0`.
        None => ids.map(|index, id| token_id(&format!("{path}[{index}]"), id)),
    }
}

fn token_id(path: &str, raw: Raw<'_>) -> Result<TokenId, ApiError> {
    let id = raw.as_integer().and_then(|id| TokenId::try_from(id).ok());
    id.ok_or_else(|| wrong_type(path, "a token id", raw))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::json::mutated;

    fn parse(body: &Value) -> Result<CompletionRequest, ApiError> {
        CompletionRequest::read(body.to_string().as_bytes(), &GatewayLimits::default())
    }

    fn text(text: &str) -> Prompt {
        Prompt::Text(text.to_owned())
    }

    #[test]
    fn a_prompt_has_four_forms() {
        for (prompt, expected) in [
            (json!("a"), vec![text("a")]),
            (json!(["a", "b"]), vec![text("a"), text("b")]),
            (json!([1, 2]), vec![Prompt::Tokens(vec![1, 2])]),
            (json!([[1, 2], [3]]), vec![Prompt::Tokens(vec![1, 2]), Prompt::Tokens(vec![3])]),
        ] {
            let request = parse(&json!({"model": "m", "prompt": prompt})).unwrap();
            assert_eq!(request.prompts, expected);
            assert_eq!((request.max_tokens, request.max_tokens_given), (16, false));
        }
    }

    #[test]
    fn every_refusal_names_its_field() {
        for (body, param) in [
            (json!({"model": "m"}), "prompt"),
            (json!({"prompt": "a"}), "model"),
            (json!({"model": "m", "prompt": []}), "prompt"),
            (json!({"model": "m", "prompt": {"a": 1}}), "prompt"),
            (json!({"model": "m", "prompt": [1, -2]}), "prompt[1]"),
            (json!({"model": "m", "prompt": ["a", 2]}), "prompt[1]"),
            (json!({"model": "m", "prompt": [[1], [2, "x"]]}), "prompt[1][1]"),
            (json!({"model": "m", "prompt": "a", "max_tokens": 0}), "max_tokens"),
            (json!({"model": "m", "prompt": "a", "logprobs": 21}), "logprobs"),
            (json!({"model": "m", "prompt": "a", "n": 2, "best_of": 3}), "best_of"),
            (json!({"model": "m", "prompt": "a", "suffix": "end"}), "suffix"),
            (json!({"model": "m", "prompt": vec!["a"; 128], "n": 2}), "prompt"),
        ] {
            let error = parse(&body).expect_err(&body.to_string());
            assert_eq!(error.body().error.param.as_deref(), Some(param), "{body}");
        }
    }

    #[test]
    fn what_the_evaluation_harness_sends_is_accepted() {
        let body = json!({
            "model": "m", "prompt": [[1, 2, 3]], "temperature": 0, "max_tokens": 1, "logprobs": 1, "echo": true,
            "seed": 1234,
        });
        let request = parse(&body).unwrap();
        assert_eq!((request.logprobs, request.echo, request.max_tokens), (Some(1), true, 1));
        parse(&json!({"model": "m", "prompt": "a", "max_tokens": 0, "echo": true})).unwrap();
    }

    proptest! {
        #[test]
        fn any_change_of_a_valid_body_is_accepted_or_refused_as_the_callers_fault(
            body in mutated(json!({
                "model": "m", "prompt": [[1, 2], "x"], "max_tokens": 3, "echo": true, "logprobs": 2, "n": 2,
                "best_of": 2, "stop": "x", "suffix": null,
            })),
        ) {
            if let Err(error) = parse(&body) {
                prop_assert!(error.status().is_client_error(), "{}", error);
            }
        }
    }
}
