//! The events of a job as bytes. A token without logprobs takes one to three.

use souk_protocol::{FinishReason, JobEvent, JobFailure, TokenLogprobs, TokenOut, Usage};

use super::reader::{Malformed, Reader, put_length, put_number, put_text};
use super::words::{MAX_EVENT_TOKENS, MAX_FAILURE_BYTES};

const STARTED: u8 = 0;
const PROMPT_LOGPROBS: u8 = 1;
/// Tokens of which none has logprobs.
const BARE_TOKENS: u8 = 2;
const TOKENS: u8 = 3;
const FINISHED: u8 = 4;
const FAILED: u8 = 5;
/// The first kind that is no event.
pub(super) const NO_EVENT: u8 = 6;

/// Most alternatives of a token: what a job can ask for.
const MAX_TOP: usize = u8::MAX as usize;

/// Hands an event on in parts that are short enough for the wire, almost always as it is.
pub(super) fn in_parts(event: &JobEvent, mut put: impl FnMut(&JobEvent)) {
    match event {
        JobEvent::Tokens { offset, tokens } if tokens.len() > MAX_EVENT_TOKENS => {
            for (part, tokens) in tokens.chunks(MAX_EVENT_TOKENS).enumerate() {
                let offset = offset + u32::try_from(part * MAX_EVENT_TOKENS).unwrap_or(u32::MAX);
                put(&JobEvent::Tokens { offset, tokens: tokens.to_vec() });
            }
        }
        JobEvent::PromptLogprobs(logprobs) if logprobs.len() > MAX_EVENT_TOKENS => {
            logprobs.chunks(MAX_EVENT_TOKENS).for_each(|part| put(&JobEvent::PromptLogprobs(part.to_vec())));
        }
        _ => put(event),
    }
}

/// Writes an event of at most [`MAX_EVENT_TOKENS`] tokens.
pub(super) fn put_event(to: &mut Vec<u8>, event: &JobEvent) {
    match event {
        JobEvent::Started => to.push(STARTED),
        JobEvent::PromptLogprobs(logprobs) => {
            to.push(PROMPT_LOGPROBS);
            put_length(to, logprobs.len());
            logprobs.iter().for_each(|logprobs| put_logprobs(to, logprobs.as_ref()));
        }
        JobEvent::Tokens { offset, tokens } => {
            let are_bare = tokens.iter().all(|token| token.logprobs.is_none());
            to.push(if are_bare { BARE_TOKENS } else { TOKENS });
            put_number(to, *offset);
            put_length(to, tokens.len());
            for token in tokens {
                put_number(to, token.id);
                if !are_bare {
                    put_logprobs(to, token.logprobs.as_ref());
                }
            }
        }
        JobEvent::Finished { reason, usage } => {
            to.push(FINISHED);
            to.push(match reason {
                FinishReason::Stop => 0,
                FinishReason::Length => 1,
                FinishReason::Cancelled => 2,
            });
            for count in [usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens] {
                put_number(to, count);
            }
            to.push(u8::from(usage.prefill_began));
        }
        JobEvent::Failed(failure) => {
            to.push(FAILED);
            put_text(to, &as_json(failure), MAX_FAILURE_BYTES);
        }
    }
}

/// Reads an event of this kind.
pub(super) fn read_event(kind: u8, from: &mut Reader<'_>) -> Result<JobEvent, Malformed> {
    Ok(match kind {
        STARTED => JobEvent::Started,
        PROMPT_LOGPROBS => {
            let length = from.length("the logprobs of an event", MAX_EVENT_TOKENS)?;
            JobEvent::PromptLogprobs((0..length).map(|_| read_logprobs(from)).collect::<Result<_, _>>()?)
        }
        BARE_TOKENS | TOKENS => {
            let offset = from.number("the offset of tokens")?;
            let length = from.length("the tokens of an event", MAX_EVENT_TOKENS)?;
            if offset.checked_add(length as u32).is_none() {
                return Err(Malformed::Value { what: "the offset of tokens", given: offset.into() });
            }
            let token = |_| {
                let id = from.number("a token")?;
                let logprobs = if kind == TOKENS { read_logprobs(from)? } else { None };
                Ok(TokenOut { id, logprobs })
            };
            JobEvent::Tokens { offset, tokens: (0..length).map(token).collect::<Result<_, Malformed>>()? }
        }
        FINISHED => {
            let what = "the reason of an end";
            let reason = match from.byte(what)? {
                0 => FinishReason::Stop,
                1 => FinishReason::Length,
                2 => FinishReason::Cancelled,
                given => return Err(Malformed::Value { what, given: given.into() }),
            };
            let usage = Usage {
                prompt_tokens: from.number("a count of usage")?,
                cached_tokens: from.number("a count of usage")?,
                completion_tokens: from.number("a count of usage")?,
                prefill_began: from.flag("whether prefill began")?,
            };
            JobEvent::Finished { reason, usage }
        }
        FAILED => {
            let json = from.text("a failure", MAX_FAILURE_BYTES)?;
            JobEvent::Failed(serde_json::from_str(json).map_err(|_| Malformed::Text("a failure"))?)
        }
        given => return Err(Malformed::Value { what: "the kind of an event", given: given.into() }),
    })
}

/// A failure as JSON of at most [`MAX_FAILURE_BYTES`]: what it says is cut where it is longer.
fn as_json(failure: &JobFailure) -> String {
    let json = serde_json::to_string(failure).expect("a failure has no map with keys that are no text");
    if json.len() <= MAX_FAILURE_BYTES {
        return json;
    }
    // Each character may take six bytes as JSON writes it.
    let text = failure.to_string();
    let text = &text[..text.floor_char_boundary(MAX_FAILURE_BYTES / 8)];
    serde_json::to_string(&JobFailure::Internal(text.to_owned())).expect("it is a text")
}

fn put_logprobs(to: &mut Vec<u8>, logprobs: Option<&TokenLogprobs>) {
    let Some(TokenLogprobs { logprob, top }) = logprobs else { return to.push(0) };
    to.push(1);
    to.extend_from_slice(&logprob.to_le_bytes());
    let top = &top[..top.len().min(MAX_TOP)];
    put_length(to, top.len());
    for (id, logprob) in top {
        put_number(to, *id);
        to.extend_from_slice(&logprob.to_le_bytes());
    }
}

fn read_logprobs(from: &mut Reader<'_>) -> Result<Option<TokenLogprobs>, Malformed> {
    if !from.flag("whether a token has logprobs")? {
        return Ok(None);
    }
    let logprob = from.float("a logprob")?;
    let length = from.length("the alternatives of a token", MAX_TOP)?;
    let alternative = |_| Ok((from.number("a token")?, from.float("a logprob")?));
    let top = (0..length).map(alternative).collect::<Result<_, Malformed>>()?;
    Ok(Some(TokenLogprobs { logprob, top }))
}
