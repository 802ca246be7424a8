//! What one gateway and one request may use.

use std::time::Duration;

use crate::text::TemplateLimits;

/// Bounds on requests. Each is checked before the work that it bounds.
#[derive(Clone, Copy, Debug)]
pub struct GatewayLimits {
    /// Longest request body; longer ones are answered 413. The default holds the 8192 tokens of the demo's model some
    /// fifty times over.
    pub body_bytes: usize,
    /// How long a client may take to send its body; then 408.
    pub body_timeout: Duration,
    /// Requests that may be under way at once, streams included; past it 503. Each holds its parsed body, its prompt and
    /// up to its answer in memory: some 100 KiB at 8192 tokens, so the default is about 100 MiB.
    pub in_flight_requests: usize,
    /// How long an answer may take from the arrival of its request, waiting included. Travels with the job as its
    /// deadline.
    pub request_timeout: Duration,
    /// Silence on a stream after which a comment is sent, so that proxies keep the connection.
    pub keep_alive: Duration,
    /// Caps the model's own context length, prompt and answer together. `None` leaves the model's.
    pub context_tokens: Option<usize>,
    /// Messages in one chat.
    pub messages: usize,
    /// Prompts in one completion request.
    pub prompts: usize,
    /// Choices (`n`) for one prompt.
    pub choices: u32,
    /// Prompts times choices: the jobs of one request.
    pub jobs: usize,
    /// Adapters that may act on one request together.
    pub adapters: usize,
    /// Stop strings in one request.
    pub stops: usize,
    /// Longest stop string.
    pub stop_bytes: usize,
    /// Entries in `logit_bias`.
    pub logit_biases: usize,
    /// Bytes of a constraint's source: a JSON schema, regular expression, grammar, or all choices together.
    pub constraint_bytes: usize,
    /// Entries in `guided_choice`.
    pub constraint_choices: usize,
    /// Alternatives reported per token.
    pub top_logprobs: u8,
    /// What rendering a chat template may use.
    pub template: TemplateLimits,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            body_bytes: 4 << 20,
            body_timeout: Duration::from_secs(30),
            in_flight_requests: 1024,
            request_timeout: Duration::from_secs(600),
            keep_alive: Duration::from_secs(15),
            context_tokens: None,
            messages: 2048,
            prompts: 128,
            choices: 16,
            jobs: 128,
            adapters: 8,
            stops: 16,
            stop_bytes: 1024,
            logit_biases: 300,
            constraint_bytes: 64 << 10,
            constraint_choices: 1024,
            top_logprobs: 20,
            template: TemplateLimits::default(),
        }
    }
}
