//! What was seen, summed up as it comes. One thread drives the load, so nothing here is locked.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::histogram::Histogram;
use super::sse::Usage;
use super::workload::{AdapterIndex, TenantIndex};

/// The instants between which a run is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) begin: Instant,
    /// `None` if the run ends by its number of requests.
    pub(crate) end: Option<Instant>,
}

impl Span {
    pub(crate) fn contains(&self, instant: Instant) -> bool {
        instant >= self.begin && self.end.is_none_or(|end| instant < end)
    }
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Failure {
    /// The HTTP status, if there was an answer.
    pub(crate) status: Option<u16>,
    /// The code or type in the answer, or what happened instead of an answer.
    pub(crate) kind: String,
}

/// One request that came to its end.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) adapter: Option<AdapterIndex>,
    pub(crate) is_first_use: bool,
    pub(crate) tenant: TenantIndex,
    /// When the plan wanted it sent; latencies count from here.
    pub(crate) intended: Instant,
    pub(crate) sent: Instant,
    pub(crate) finished: Instant,
    /// What came back, also of a request that failed in the middle.
    pub(crate) received: Received,
    pub(crate) usage: Option<Usage>,
    /// The failure and the server's sentence.
    pub(crate) outcome: Result<(), (Failure, String)>,
}

/// The chunks of text of one answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    /// First and last chunk; `None` before any came and for answers that do not stream.
    pub(crate) first_and_last: Option<(Instant, Instant)>,
    pub(crate) num_chunks: u64,
    /// Those of them that came within the measured span.
    pub(crate) num_measured: u64,
}

/// How many requests failed in one way.
#[derive(Clone, Debug, Default)]
pub(crate) struct FailureCount {
    pub(crate) count: u64,
    /// The first such request's message.
    pub(crate) example: String,
}

/// Sums over the requests of one tenant or one adapter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) tokens_in: f64,
    pub(crate) tokens_out: f64,
    pub(crate) time_to_first_token: Histogram,
    pub(crate) total: Histogram,
}

/// What happened in one second of the measured span.
#[derive(Clone, Debug, Default)]
pub(crate) struct Second {
    pub(crate) chunks: u64,
    /// Tokens of answers that did not stream, in the second of their end.
    pub(crate) whole_tokens: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    /// Of the requests intended in this second.
    pub(crate) time_to_first_token: Histogram,
}

/// Everything recorded in a run.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) span: Span,
    /// From the intended instant to the first chunk of text.
    pub(crate) time_to_first_token: Histogram,
    /// The same for requests that were the first to use their adapter; those of the warm-up too, where most are.
    pub(crate) first_use: Histogram,
    /// Between two chunks of text of one answer.
    pub(crate) between_chunks: Histogram,
    /// Mean time of a token after the first, one value for each request.
    pub(crate) per_output_token: Histogram,
    /// From the intended instant to the end of the answer.
    pub(crate) total: Histogram,
    /// How late the driver sent, against its plan.
    pub(crate) send_delay: Histogram,
    pub(crate) all: Part,
    pub(crate) tenants: Vec<Part>,
    /// Empty unless adapters are reported one by one.
    pub(crate) adapters: Vec<Part>,
    pub(crate) failures: BTreeMap<Failure, FailureCount>,
    pub(crate) seconds: Vec<Second>,
    /// Measured requests whose tokens the server counted, and those whose chunks we counted.
    pub(crate) counted_by_usage: u64,
    pub(crate) counted_by_chunks: u64,
    /// Tokens and chunks of all answers that streamed, to turn chunks into tokens.
    streamed_tokens: u64,
    streamed_chunks: u64,
    /// The last end of a request.
    last_end: Instant,
    /// Chunks seen in all, for the progress line.
    pub(crate) chunks_seen: u64,
}

/// A plan that measures for longer has its later seconds summed into the last: 28 hours.
pub(crate) const MAX_SECONDS: usize = 100_000;

impl Record {
    /// An empty record; `num_adapters` is 0 unless they are reported one by one.
    pub(crate) fn new(span: Span, num_tenants: usize, num_adapters: usize) -> Self {
        Self {
            span,
            time_to_first_token: Histogram::default(),
            first_use: Histogram::default(),
            between_chunks: Histogram::default(),
            per_output_token: Histogram::default(),
            total: Histogram::default(),
            send_delay: Histogram::default(),
            all: Part::default(),
            tenants: vec![Part::default(); num_tenants],
            adapters: vec![Part::default(); num_adapters],
            failures: BTreeMap::new(),
            seconds: Vec::new(),
            counted_by_usage: 0,
            counted_by_chunks: 0,
            streamed_tokens: 0,
            streamed_chunks: 0,
            last_end: span.begin,
            chunks_seen: 0,
        }
    }

    /// Notes a chunk of text of an answer.
    pub(crate) fn chunk(&mut self, received: &mut Received, now: Instant) {
        self.chunks_seen += 1;
        received.num_chunks += 1;
        let is_measured = self.span.contains(now);
        if is_measured {
            received.num_measured += 1;
            self.second(now).chunks += 1;
        }
        match &mut received.first_and_last {
            Some((_, last)) => {
                if is_measured {
                    self.between_chunks.record(now - *last);
                }
                *last = now;
            }
            none => *none = Some((now, now)),
        }
    }

    /// Notes the end of a request. Its latencies count if it was intended within the span, its tokens if they came
    /// within the span, its completion if it ended within the span.
    pub(crate) fn finished(&mut self, exchange: &Exchange) {
        if let Err((failure, message)) = &exchange.outcome {
            if self.span.contains(exchange.intended) {
                self.fail(exchange, failure.clone(), message);
            }
            return;
        }
        self.last_end = self.last_end.max(exchange.finished);
        let (tokens_in, tokens_out) = self.tokens(exchange);
        let is_completed_within = self.span.contains(exchange.finished);
        if is_completed_within {
            self.second(exchange.finished).succeeded += 1;
        }
        self.for_parts(exchange, |part| {
            part.tokens_in += tokens_in;
            part.tokens_out += tokens_out;
            part.succeeded += u64::from(is_completed_within);
        });
        if let Some((first, _)) = exchange.received.first_and_last.filter(|_| exchange.is_first_use) {
            self.first_use.record(first - exchange.intended);
        }
        if self.span.contains(exchange.intended) {
            self.latencies(exchange);
        }
    }

    /// Counts requests that nobody waited for any longer.
    pub(crate) fn abandoned(&mut self, count: u64) {
        if count > 0 {
            let failure = Failure { status: None, kind: "unanswered at the end".to_owned() };
            let entry = self.failures.entry(failure).or_default();
            entry.count += count;
            "--drain-s bounds how long the end of the run waits".clone_into(&mut entry.example);
            self.all.failed += count;
        }
    }

    /// Ends the span now, for a run that is interrupted.
    pub(crate) fn close(&mut self, now: Instant) {
        self.span.end = Some(self.span.end.map_or(now, |end| end.min(now)));
    }

    /// Length of the measured span; for a run bound by requests it ends with the last answer.
    pub(crate) fn measured(&self) -> Duration {
        self.span.end.unwrap_or(self.last_end).saturating_duration_since(self.span.begin)
    }

    /// Tokens that one chunk carries in the mean; 1 if no server told.
    pub(crate) fn tokens_per_chunk(&self) -> f64 {
        if self.streamed_chunks == 0 { 1.0 } else { self.streamed_tokens as f64 / self.streamed_chunks as f64 }
    }

    fn fail(&mut self, exchange: &Exchange, failure: Failure, message: &str) {
        self.second(exchange.intended).failed += 1;
        self.for_parts(exchange, |part| part.failed += 1);
        let entry =
            self.failures.entry(failure).or_insert_with(|| FailureCount { count: 0, example: message.to_owned() });
        entry.count += 1;
    }

    /// Tokens in and out of an answer that belong to the span: the prompt's if its first token came within it, and of
    /// the answer's the part that did.
    fn tokens(&mut self, exchange: &Exchange) -> (f64, f64) {
        let Received { first_and_last, num_chunks, num_measured } = exchange.received;
        match exchange.usage {
            Some(_) => self.counted_by_usage += 1,
            None => self.counted_by_chunks += 1,
        }
        let usage = exchange.usage.unwrap_or(Usage { prompt_tokens: 0, completion_tokens: num_chunks });
        let Some((first, _)) = first_and_last else {
            if !self.span.contains(exchange.finished) {
                return (0.0, 0.0);
            }
            self.second(exchange.finished).whole_tokens += usage.completion_tokens;
            return (usage.prompt_tokens as f64, usage.completion_tokens as f64);
        };
        self.streamed_tokens += usage.completion_tokens;
        self.streamed_chunks += num_chunks;
        let tokens_in = if self.span.contains(first) { usage.prompt_tokens as f64 } else { 0.0 };
        (tokens_in, usage.completion_tokens as f64 * num_measured as f64 / num_chunks as f64)
    }

    fn latencies(&mut self, exchange: &Exchange) {
        let total = exchange.finished - exchange.intended;
        self.total.record(total);
        self.send_delay.record(exchange.sent - exchange.intended);
        self.for_parts(exchange, |part| part.total.record(total));
        let Some((first, last)) = exchange.received.first_and_last else { return };
        let to_first = first - exchange.intended;
        self.time_to_first_token.record(to_first);
        self.second(exchange.intended).time_to_first_token.record(to_first);
        self.for_parts(exchange, |part| part.time_to_first_token.record(to_first));
        let num_tokens = exchange.usage.map_or(exchange.received.num_chunks, |usage| usage.completion_tokens);
        if let Some(num_gaps) = num_tokens.checked_sub(1).filter(|gaps| *gaps > 0) {
            self.per_output_token.record((last - first).div_f64(num_gaps as f64));
        }
    }

    fn for_parts(&mut self, exchange: &Exchange, mut change: impl FnMut(&mut Part)) {
        change(&mut self.all);
        change(&mut self.tenants[exchange.tenant.0]);
        if let Some(part) = exchange.adapter.and_then(|AdapterIndex(index)| self.adapters.get_mut(index)) {
            change(part);
        }
    }

    fn second(&mut self, instant: Instant) -> &mut Second {
        let since = instant.saturating_duration_since(self.span.begin).as_secs();
        let index = usize::try_from(since).map_or(MAX_SECONDS, |second| second.min(MAX_SECONDS));
        if index >= self.seconds.len() {
            self.seconds.resize_with(index + 1, Second::default);
        }
        &mut self.seconds[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(begin: Instant, length_s: u64) -> Record {
        Record::new(Span { begin, end: Some(begin + Duration::from_secs(length_s)) }, 1, 1)
    }

    fn exchange(begin: Instant, intended_ms: i64, chunks_ms: &[u64], record: &mut Record) -> Exchange {
        let base = begin - Duration::from_secs(100);
        let intended = base + Duration::from_millis(u64::try_from(100_000 + intended_ms).unwrap());
        let mut received = Received::default();
        for ms in chunks_ms {
            record.chunk(&mut received, intended + Duration::from_millis(*ms));
        }
        Exchange {
            adapter: Some(AdapterIndex(0)),
            is_first_use: false,
            tenant: TenantIndex(0),
            intended,
            sent: intended + Duration::from_millis(1),
            finished: intended + Duration::from_millis(chunks_ms.last().copied().unwrap_or(10)),
            received,
            usage: Some(Usage { prompt_tokens: 10, completion_tokens: 2 * chunks_ms.len() as u64 }),
            outcome: Ok(()),
        }
    }

    #[test]
    fn a_request_within_the_span_counts_whole() {
        let begin = Instant::now();
        let mut record = record(begin, 2);
        let exchange = exchange(begin, 100, &[50, 60, 80], &mut record);
        record.finished(&exchange);
        assert_eq!((record.all.tokens_in, record.all.tokens_out, record.all.succeeded), (10.0, 6.0, 1));
        assert_eq!((record.adapters[0].tokens_out, record.tenants[0].succeeded), (6.0, 1));
        let close = |given: Option<f64>, expected: f64| (given.unwrap() - expected).abs() < 0.008 * expected;
        assert!(close(record.time_to_first_token.max_ms(), 50.0));
        assert!(close(record.total.max_ms(), 80.0));
        assert!(close(record.between_chunks.max_ms(), 20.0));
        // 30 ms for five tokens after the first.
        assert!(close(record.per_output_token.max_ms(), 6.0));
        assert_eq!(record.tokens_per_chunk(), 2.0);
        assert_eq!(record.seconds[0].chunks, 3);
    }

    #[test]
    fn a_request_across_an_edge_counts_the_tokens_within() {
        let begin = Instant::now();
        let mut record = record(begin, 2);
        // Sent in the warm-up: two of its four chunks come within the span.
        let mut early = exchange(begin, -100, &[50, 90, 110, 120], &mut record);
        early.is_first_use = true;
        record.finished(&early);
        assert_eq!(record.first_use.count(), 1);
        assert_eq!((record.all.tokens_in, record.all.tokens_out), (0.0, 4.0));
        assert_eq!((record.total.count(), record.all.succeeded), (0, 1));
        // Sent within: it ends after the span, but its latency is that of the load.
        let late = exchange(begin, 1900, &[50, 150], &mut record);
        record.finished(&late);
        assert_eq!((record.all.tokens_in, record.all.tokens_out), (10.0, 6.0));
        assert_eq!((record.total.count(), record.all.succeeded), (1, 1));
        assert_eq!(record.measured(), Duration::from_secs(2));
    }

    #[test]
    fn failures_are_counted_by_status_and_kind_and_give_no_tokens() {
        let begin = Instant::now();
        let mut record = record(begin, 2);
        for message in ["first", "second"] {
            let mut failed = exchange(begin, 0, &[10], &mut record);
            let failure = Failure { status: Some(429), kind: "queue_full".to_owned() };
            failed.outcome = Err((failure, message.to_owned()));
            record.finished(&failed);
        }
        record.abandoned(3);
        let counts: Vec<(u64, &str)> =
            record.failures.values().map(|entry| (entry.count, &entry.example[..5])).collect();
        assert_eq!(counts, [(3, "--dra"), (2, "first")]);
        assert_eq!((record.all.failed, record.all.tokens_out), (5, 0.0));
    }

    #[test]
    fn a_run_bound_by_requests_ends_with_its_last_answer() {
        let begin = Instant::now();
        let mut record = Record::new(Span { begin, end: None }, 1, 0);
        let exchange = exchange(begin, 0, &[500], &mut record);
        record.finished(&exchange);
        assert_eq!(record.measured(), Duration::from_millis(500));
    }
}
