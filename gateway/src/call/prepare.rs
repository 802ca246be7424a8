//! From what a caller wrote to what a node can run: token ids that fit, and how to choose what follows them.

use std::sync::Arc;

use souk_protocol::{SamplingParams, TokenId};

use super::authorise::CalledModel;
use super::gates::Holder;
use crate::error::{ApiError, PromptLength};
use crate::gateway::Gateway;
use crate::request::{ChatMessage, GenerationParams, Prompt};
use crate::served::{Begin, ServedBase};
use crate::text_work::TenantTexts;

/// What is to be answered.
pub(crate) enum Input {
    /// A conversation, rendered by the model's template.
    Chat(Vec<ChatMessage>),
    /// Texts or tokens to continue.
    Prompts {
        prompts: Vec<Prompt>,
        /// Whether their text is wanted back.
        echo: bool,
    },
}

impl Input {
    /// The texts of prompts that are wanted back.
    pub(crate) fn echoes(&self, base: &ServedBase) -> Vec<String> {
        match self {
            Self::Prompts { prompts, echo: true } => prompts.iter().map(|prompt| prompt.text(base)).collect(),
            _ => Vec::new(),
        }
    }

    /// How many prompts there are.
    pub(crate) const fn num_prompts(&self) -> usize {
        match self {
            Self::Chat(_) => 1,
            Self::Prompts { prompts, .. } => prompts.len(),
        }
    }
}

/// How long an answer is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Length {
    /// Exactly this, or an error if it does not fit.
    AtMost(u64),
    /// This, or what the context leaves if that is less.
    Default(u64),
    /// The same, and said by a hook, for which nobody is to be blamed who asks.
    Wanted(u64),
    /// What the context leaves.
    Rest,
}

/// How long answers may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// What the caller wants.
    pub(crate) length: Length,
    /// Most tokens that the caller's limits let one answer have, whatever is wanted.
    pub(crate) ceiling: Option<u32>,
}

/// What the jobs of one request are made of.
pub(crate) struct Prepared {
    pub(crate) prompts: Vec<PreparedPrompt>,
    /// Before the choices' seeds are set.
    pub(crate) sampling: SamplingParams,
    /// Tokens that end an answer; none with `ignore_eos`.
    pub(crate) eos_tokens: Vec<TokenId>,
}

/// A prompt that fits, with the length that its answers may have.
pub(crate) struct PreparedPrompt {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) max_tokens: u32,
    /// Its text where that is wanted back, else empty.
    pub(crate) text: String,
}

/// Encodes the prompts and checks them against vocabulary and context.
pub(crate) async fn prepare(
    gateway: &Gateway,
    holder: &Holder,
    model: &CalledModel,
    input: Input,
    room: Room,
    params: &GenerationParams,
) -> Result<Prepared, ApiError> {
    let (base, texts) = (&model.base, gateway.texts_of(holder));
    let prompts = match input {
        Input::Chat(messages) => {
            let own = model.template(gateway).await?;
            let messages = messages.into_iter().map(Into::into).collect();
            let tokens = base.encode_chat(texts, messages, own, true).await?;
            vec![PreparedPrompt::new(base, "messages", tokens, String::new(), room)?]
        }
        Input::Prompts { prompts, echo } => {
            let most_echoed = echo.then(|| gateway.limits().max_body_bytes / params.n.max(1) as usize);
            encode_prompts(base, texts, prompts, most_echoed, room).await?
        }
    };
    params.check_vocabulary(base.tokenizer.vocabulary().len())?;
    let eos_tokens = if params.ignore_eos { Vec::new() } else { base.eos_tokens.clone() };
    Ok(Prepared { prompts, sampling: params.sampling(), eos_tokens })
}

/// Encodes the prompts of a request in one piece of work: many short ones take as long as a long one. Their texts are
/// kept where they are wanted back, up to so many bytes.
async fn encode_prompts(
    base: &Arc<ServedBase>,
    texts: TenantTexts<'_>,
    prompts: Vec<Prompt>,
    most_echoed: Option<usize>,
    room: Room,
) -> Result<Vec<PreparedPrompt>, ApiError> {
    let num_bytes = prompts.iter().map(Prompt::num_bytes).sum();
    let base = Arc::clone(base);
    let (echo, mut num_echoed) = (most_echoed.is_some(), 0);
    let encode = move |prompt| {
        let (text, tokens) = match prompt {
            Prompt::Text(text) => {
                let tokens = base.encode_prompt(&text, Begin::AsModelWants)?;
                (if echo { text } else { String::new() }, tokens)
            }
            Prompt::Tokens(tokens) if echo => (base.tokenizer.decode(&tokens), tokens),
            Prompt::Tokens(tokens) => (String::new(), tokens),
        };
        num_echoed += text.len();
        if let Some(most) = most_echoed.filter(|most| num_echoed > *most) {
            let message = format!("'echo' can repeat {most} bytes of prompts for each of 'n' choices; they have more.");
            return Err(ApiError::invalid("echo", message));
        }
        PreparedPrompt::new(&base, "prompt", tokens, text, room)
    };
    texts.run(num_bytes, move || prompts.into_iter().map(encode).collect()).await
}

impl PreparedPrompt {
    /// Checks a prompt against vocabulary and context. `param` is the field that it came from.
    fn new(
        base: &ServedBase,
        param: &'static str,
        tokens: Vec<TokenId>,
        text: String,
        room: Room,
    ) -> Result<Self, ApiError> {
        let vocab_size = base.tokenizer.vocabulary().len();
        if tokens.is_empty() {
            return Err(ApiError::invalid(param, format!("'{param}' must have at least one token.")));
        }
        if let Some(id) = tokens.iter().find(|id| **id as usize >= vocab_size) {
            let message = format!("'{param}' has token {id}; the vocabulary has the ids 0 to {}.", vocab_size - 1);
            return Err(ApiError::invalid(param, message));
        }
        let (limit, given) = (base.context_tokens(), tokens.len());
        let too_long =
            |completion| ApiError::ContextLength { param, limit, prompt: PromptLength::Tokens(given), completion };
        let rest = limit.checked_sub(given).ok_or_else(|| too_long(None))? as u64;
        let max_tokens = match room.length {
            Length::AtMost(0) => 0,
            _ if rest == 0 => return Err(too_long(None)),
            Length::AtMost(wanted) if wanted > rest => return Err(too_long(Some(wanted))),
            Length::AtMost(wanted) => wanted,
            Length::Default(wanted) | Length::Wanted(wanted) => wanted.min(rest),
            Length::Rest => rest,
        };
        let max_tokens = u32::try_from(max_tokens).unwrap_or(u32::MAX).min(room.ceiling.unwrap_or(u32::MAX));
        Ok(Self { tokens, max_tokens, text })
    }
}
