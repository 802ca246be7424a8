//! One request: send it, read the answer as it comes, note the instants.

use std::cell::RefCell;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Response, StatusCode, Url};
use tokio::time::Instant;

use super::record::{Exchange, Failure, Received, Record};
use super::sse::{DataLines, Payload, Usage, explain_error};
use super::target::Target;
use super::tenants::Tenant;
use super::workload::{AdapterIndex, Order};

/// Most of a whole answer or an error that is read.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// What every request needs.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) http: reqwest::Client,
    pub(crate) target: Target,
    pub(crate) url: Url,
    pub(crate) adapters: Vec<String>,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) request_timeout: Duration,
}

/// Memory that a request borrows and the next one uses again.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    lines: DataLines,
    /// The payload that has the usage; servers send it once, at the end, or with every chunk.
    usage: Vec<u8>,
    error: Vec<u8>,
}

/// The failure and the server's sentence.
type Failed = (Failure, String);

impl Sender {
    /// Sends `order` now and records its end; true if it succeeded.
    pub(crate) async fn send(
        &self,
        order: Order,
        intended: Instant,
        buffers: &mut Buffers,
        record: &RefCell<Record>,
    ) -> bool {
        let sent = Instant::now();
        let mut answer = Answer { record, buffers, received: Received::default(), usage: None, ended: None };
        let outcome = match tokio::time::timeout(self.request_timeout, self.converse(&order, &mut answer)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(failure(None, "timeout", format!("no end within {:?}", self.request_timeout))),
        };
        let Answer { received, usage, ended, .. } = answer;
        let exchange = Exchange {
            adapter: order.adapter,
            is_first_use: order.is_first_use,
            tenant: order.tenant,
            intended,
            sent,
            finished: ended.unwrap_or_else(Instant::now),
            received,
            usage,
            outcome,
        };
        record.borrow_mut().finished(&exchange);
        exchange.outcome.is_ok()
    }

    /// Sends one short request to an adapter, so that the server has it loaded.
    ///
    /// # Errors
    /// The failure and the server's sentence.
    pub(crate) async fn touch(&self, adapter: AdapterIndex) -> Result<(), Failed> {
        let body = self.target.body(Some(&self.adapters[adapter.0]), "the", 1);
        let response = self.post(body, &self.tenants[0]).await?;
        let status = response.status();
        let bytes = read_whole(response).await?;
        if status.is_success() { Ok(()) } else { Err(refusal(status, &bytes)) }
    }

    async fn converse(&self, order: &Order, answer: &mut Answer<'_>) -> Result<(), Failed> {
        let adapter = order.adapter.map(|AdapterIndex(index)| self.adapters[index].as_str());
        let body = self.target.body(adapter, &order.prompt, order.max_tokens);
        let mut response = self.post(body, &self.tenants[order.tenant.0]).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(refusal(status, &read_whole(response).await?));
        }
        if !self.target.stream {
            let bytes = read_whole(response).await?;
            return answer.whole(&bytes);
        }
        answer.buffers.lines.restart();
        answer.buffers.usage.clear();
        answer.buffers.error.clear();
        // Reading to the end, past [DONE], lets the connection be used again.
        while let Some(bytes) = response.chunk().await.map_err(|error| transport(&error))? {
            answer.piece(&bytes, Instant::now())?;
        }
        answer.finish(Instant::now())
    }

    async fn post(&self, body: Vec<u8>, tenant: &Tenant) -> Result<Response, Failed> {
        let mut request = self.http.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(body);
        if let Some(authorization) = &tenant.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.send().await.map_err(|error| transport(&error))
    }
}

/// An answer as it comes.
struct Answer<'a> {
    record: &'a RefCell<Record>,
    buffers: &'a mut Buffers,
    received: Received,
    usage: Option<Usage>,
    /// When the answer said that it is complete.
    ended: Option<Instant>,
}

impl Answer<'_> {
    /// Reads a piece of the stream that came at `now`.
    fn piece(&mut self, bytes: &[u8], now: Instant) -> Result<(), Failed> {
        let Self { record, buffers, received, ended, .. } = self;
        let Buffers { lines, usage, error } = &mut **buffers;
        lines
            .feed(bytes, |payload| note(payload, now, record, received, ended, usage, error))
            .map_err(|error| failure(None, "bad stream", error.to_string()))
    }

    fn finish(&mut self, now: Instant) -> Result<(), Failed> {
        let Self { record, buffers, received, ended, usage: total } = self;
        let Buffers { lines, usage, error } = &mut **buffers;
        lines.finish(|payload| note(payload, now, record, received, ended, usage, error));
        *total = Usage::parse(usage);
        if !error.is_empty() {
            let (kind, message) = explain_error(error);
            return Err(failure(
                None,
                &kind.map_or("error in stream".into(), |kind| format!("in stream: {kind}")),
                message,
            ));
        }
        if ended.is_none() {
            return Err(failure(None, "broke off", "the stream ended without [DONE]".to_owned()));
        }
        Ok(())
    }

    /// Reads an answer that did not stream.
    fn whole(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        self.ended = Some(Instant::now());
        let found = Payload::look(bytes);
        if found.has_error || serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_err() {
            let (kind, message) = explain_error(bytes);
            return Err(failure(None, kind.as_deref().unwrap_or("bad answer"), message));
        }
        self.usage = Usage::parse(bytes);
        Ok(())
    }
}

/// Sorts one payload. Text is only counted; usage and errors are copied, to be parsed at the end.
fn note(
    payload: &[u8],
    now: Instant,
    record: &RefCell<Record>,
    received: &mut Received,
    ended: &mut Option<Instant>,
    usage: &mut Vec<u8>,
    error: &mut Vec<u8>,
) {
    let found = Payload::look(payload);
    if found.has_text {
        record.borrow_mut().chunk(received, now);
    }
    if found.has_usage {
        usage.clear();
        usage.extend_from_slice(payload);
    }
    if found.has_error {
        error.clear();
        error.extend_from_slice(payload);
    }
    if found.is_end {
        *ended = Some(now);
    }
}

fn failure(status: Option<StatusCode>, kind: &str, message: String) -> Failed {
    (Failure { status: status.map(|status| status.as_u16()), kind: kind.to_owned() }, message)
}

fn refusal(status: StatusCode, body: &[u8]) -> Failed {
    let (kind, message) = explain_error(body);
    failure(Some(status), kind.as_deref().or(status.canonical_reason()).unwrap_or("refused"), message)
}

fn transport(error: &reqwest::Error) -> Failed {
    let kind = if error.is_connect() { "cannot connect" } else { "connection lost" };
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    failure(None, kind, cause.to_string())
}

async fn read_whole(mut response: Response) -> Result<Vec<u8>, Failed> {
    let mut whole = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(|error| transport(&error))? {
        if whole.len() + bytes.len() > MAX_ANSWER_BYTES {
            return Err(failure(None, "bad answer", format!("the answer is longer than {MAX_ANSWER_BYTES} bytes")));
        }
        whole.extend_from_slice(&bytes);
    }
    Ok(whole)
}
