//! A base model as the gateway serves it: how its text becomes ids, and what identifies it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use souk_protocol::{BaseModel, Digest, PoolId, TokenId};

use crate::error::{ApiError, PromptLength};
use crate::limits::GatewayLimits;
use crate::text::template::TemplateMessage;
use crate::text::{ChatTemplate, TemplateError, Tokenizer, TokenizerError};
use crate::text_work::TenantTexts;
use crate::version_template::VersionTemplate;

/// Why a base model cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// Its tokenizer cannot be built.
    #[error("base model `{id}`")]
    Tokenizer {
        /// The model.
        id: String,
        /// Why.
        #[source]
        source: TokenizerError,
    },
    /// Its chat template cannot be compiled.
    #[error("base model `{id}`")]
    Template {
        /// The model.
        id: String,
        /// Why.
        #[source]
        source: TemplateError,
    },
    /// A gateway without a base model can answer nothing.
    #[error("no base model is given")]
    NoBase,
}

/// A base model that requests can name.
pub struct ServedBase {
    /// The id that callers write in `model`.
    pub id: String,
    /// Digest of the weights; also the pool.
    pub digest: Digest,
    /// Turns text into ids and back.
    pub tokenizer: Tokenizer,
    /// Source of the chat template, for those who render it themselves.
    pub chat_template: Option<String>,
    /// Tokens that end an answer.
    pub eos_tokens: Vec<TokenId>,
    /// The token that begins a text.
    pub bos_token: Option<TokenId>,
    /// The padding token.
    pub pad_token: Option<TokenId>,
    template: Option<ChatTemplate>,
    /// The model's own context, or less where this gateway caps it.
    most_context_tokens: usize,
    /// What every live node takes; 0 while none says.
    nodes_context_tokens: AtomicUsize,
    /// The same of adapters' ranks.
    nodes_max_rank: AtomicU32,
}

impl ServedBase {
    /// Builds the tokenizer and compiles the template of `model`.
    ///
    /// # Errors
    /// [`BaseError`] naming the model.
    pub fn new(model: &BaseModel, limits: &GatewayLimits) -> Result<Self, BaseError> {
        let id = || model.id.clone();
        let tokenizer = Tokenizer::new(model).map_err(|source| BaseError::Tokenizer { id: id(), source })?;
        let (bos, eos) = marks(&tokenizer, model.bos_token, &model.eos_tokens);
        let template =
            model.chat_template.as_deref().map(|source| ChatTemplate::new(source, bos, eos, limits.template));
        let template = template.transpose().map_err(|source| BaseError::Template { id: id(), source })?;
        let context = model.shape.context_length;
        Ok(Self {
            id: model.id.clone(),
            digest: model.digest,
            chat_template: model.chat_template.clone(),
            eos_tokens: model.eos_tokens.clone(),
            bos_token: model.bos_token,
            pad_token: model.pad_token,
            most_context_tokens: limits.context_tokens.map_or(context, |cap| cap.min(context)),
            nodes_context_tokens: AtomicUsize::new(0),
            nodes_max_rank: AtomicU32::new(0),
            template,
            tokenizer,
        })
    }

    /// The pool that runs this model.
    #[must_use]
    pub const fn pool(&self) -> PoolId {
        PoolId(self.digest)
    }

    /// Prompt and answer together have at most this many tokens: what the model has, and what each of its nodes has room for, since
    /// any of them may get the job.
    #[must_use]
    pub fn context_tokens(&self) -> usize {
        match self.nodes_context_tokens.load(Ordering::Relaxed) {
            0 => self.most_context_tokens,
            nodes => nodes.min(self.most_context_tokens),
        }
    }

    /// The largest rank of an adapter that each of its nodes takes; `None` while none says.
    pub(crate) fn max_rank(&self) -> Option<u32> {
        Some(self.nodes_max_rank.load(Ordering::Relaxed)).filter(|rank| *rank > 0)
    }

    /// Says what every live node takes, in tokens of a context and in ranks of an adapter; `None` while none says.
    pub(crate) fn set_what_nodes_take(&self, context_tokens: Option<usize>, max_rank: Option<u32>) {
        self.nodes_context_tokens.store(context_tokens.unwrap_or_default(), Ordering::Relaxed);
        self.nodes_max_rank.store(max_rank.unwrap_or_default(), Ordering::Relaxed);
    }

    /// What `system_fingerprint` says: answers may differ only if this differs.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("fp_{}", &self.digest.hex()[..12])
    }

    /// The texts that begin and end a conversation, as templates know them; empty where the model has none.
    pub(crate) fn marks(&self) -> (String, String) {
        marks(&self.tokenizer, self.bos_token, &self.eos_tokens)
    }

    /// Encodes a raw prompt that a user wrote. A long one takes long.
    pub(crate) fn encode_prompt(&self, text: &str, begin: Begin) -> Result<Vec<TokenId>, ApiError> {
        self.check_bytes("prompt", text.len())?;
        Ok(match begin {
            Begin::AsModelWants => self.tokenizer.encode_prompt(text)?,
            Begin::Bare => self.tokenizer.encode(text)?,
        })
    }

    /// Renders and encodes a conversation, by the template that a version brings along or by the model's own.
    pub(crate) async fn encode_chat(
        self: &Arc<Self>,
        texts: TenantTexts<'_>,
        messages: Vec<TemplateMessage>,
        own: Option<Arc<VersionTemplate>>,
        add_generation_prompt: bool,
    ) -> Result<Vec<TokenId>, ApiError> {
        // A template may leave a text out, and may as well write it; so all count.
        let fields = |message: &TemplateMessage| message.fields.iter().map(|(_, text)| text.len()).sum::<usize>();
        let num_bytes = messages.iter().map(|message| message.content.len() + fields(message)).sum();
        self.check_bytes("messages", num_bytes)?;
        let (base, is_strangers) = (Arc::clone(self), own.is_some());
        let work = move || {
            let controls = base.tokenizer.control_texts();
            let rendered = match (own, &base.template) {
                (Some(own), _) => own.render(&messages, add_generation_prompt, controls)?,
                (None, Some(template)) => template.render(&messages, add_generation_prompt, controls)?,
                (None, None) => {
                    let message = format!("The model `{}` has no chat template; use /v1/completions.", base.id);
                    return Err(ApiError::unsupported("model", message));
                }
            };
            Ok(base.tokenizer.encode_rendered(&rendered.text, rendered.marker)?)
        };
        // However short the messages are, what a stranger's template does with them may take long.
        if is_strangers { texts.run_apart(work).await } else { texts.run(num_bytes, work).await }
    }

    /// Refuses a text that cannot fit before time is spent on counting its tokens.
    fn check_bytes(&self, param: &'static str, num_bytes: usize) -> Result<(), ApiError> {
        let at_least = num_bytes / self.tokenizer.vocabulary().longest_bytes().max(1);
        if at_least <= self.context_tokens() {
            return Ok(());
        }
        Err(ApiError::ContextLength {
            param,
            limit: self.context_tokens(),
            prompt: PromptLength::AtLeast(at_least),
            completion: None,
        })
    }
}

fn marks(tokenizer: &Tokenizer, bos: Option<TokenId>, eos: &[TokenId]) -> (String, String) {
    let text = |token: Option<TokenId>| token.map(|token| tokenizer.vocabulary().text(token)).unwrap_or_default();
    (text(bos), text(eos.first().copied()))
}

/// What stands before a raw prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// The token that begins a text, where the model wants one.
    AsModelWants,
    /// Nothing.
    Bare,
}
