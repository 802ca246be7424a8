//! What a connection does, and when it has been waited for long enough.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use super::settings::ServerSettings;

/// A client that takes less than this while the answer backs up takes nothing: a window that opens byte by byte is no
/// reading.
const SOME_BYTES: u64 = 1024;

/// Signs of life of one connection, noted where they happen and judged by who drives the connection. Times are
/// milliseconds since its start, plus one; 0 is none.
#[derive(Debug)]
pub(super) struct Pulse {
    started: Instant,
    /// Requests whose answer has not ended.
    open_requests: AtomicUsize,
    /// Whether a request ever came.
    is_used: AtomicBool,
    /// Since when no request is open.
    idle_since: AtomicU64,
    /// Since when the head of the next request comes.
    head_since: AtomicU64,
    /// Since when the socket takes nothing.
    blocked_since: AtomicU64,
    /// What it took since, less than [`SOME_BYTES`].
    trickle: AtomicU64,
}

/// Why a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// Its next request does not become whole.
    Headers,
    /// There is no request.
    Idle,
    /// It does not take its answer.
    Stalled,
}

impl Overdue {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
        }
    }
}

impl Pulse {
    /// The pulse of a connection that was accepted at `started`.
    pub(super) fn new(started: Instant) -> Self {
        Self {
            started,
            open_requests: AtomicUsize::new(0),
            is_used: AtomicBool::new(false),
            idle_since: AtomicU64::new(1),
            head_since: AtomicU64::new(1),
            blocked_since: AtomicU64::new(0),
            trickle: AtomicU64::new(0),
        }
    }

    /// When the connection was accepted.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64 + 1
    }

    pub(super) fn request_began(&self) {
        self.open_requests.fetch_add(1, Relaxed);
        self.is_used.store(true, Relaxed);
        self.head_since.store(0, Relaxed);
    }

    pub(super) fn request_ended(&self) {
        self.idle_since.store(self.now(), Relaxed);
        self.open_requests.fetch_sub(1, Relaxed);
    }

    /// Bytes came. Between requests they begin the next head, of which a later byte is no new beginning.
    pub(super) fn read(&self) {
        if self.open_requests.load(Relaxed) == 0 && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// The socket takes no more bytes for now.
    pub(super) fn blocked(&self) {
        if self.blocked_since.load(Relaxed) == 0 {
            self.trickle.store(0, Relaxed);
            self.blocked_since.store(self.now(), Relaxed);
        }
    }

    /// The socket took bytes.
    pub(super) fn wrote(&self, num_bytes: usize) {
        if self.blocked_since.load(Relaxed) == 0 {
            return;
        }
        // Answers that h2 still sends belong to requests that have ended for us.
        self.idle_since.store(self.now(), Relaxed);
        if self.trickle.fetch_add(num_bytes as u64, Relaxed) + num_bytes as u64 >= SOME_BYTES {
            self.blocked_since.store(0, Relaxed);
        }
    }

    /// The socket took all that there was.
    pub(super) fn flushed(&self) {
        if self.blocked_since.load(Relaxed) != 0 {
            self.blocked_since.store(0, Relaxed);
        }
    }

    /// Whether the client has been waited for long enough. `is_http2`: such a connection has heads inside of frames, so
    /// bytes between requests say nothing; until the first request it counts as if its head were coming.
    pub(super) fn overdue(&self, settings: &ServerSettings, is_http2: bool) -> Option<Overdue> {
        let now = self.now();
        let is_past = |since: u64, limit: Duration| since != 0 && now.saturating_sub(since) >= limit.as_millis() as u64;
        if is_past(self.blocked_since.load(Relaxed), settings.stall_timeout) {
            return Some(Overdue::Stalled);
        }
        if self.open_requests.load(Relaxed) > 0 {
            return None;
        }
        let is_head_late = is_past(self.head_since.load(Relaxed), settings.headers_timeout);
        if is_head_late && (!is_http2 || !self.is_used.load(Relaxed)) {
            return Some(Overdue::Headers);
        }
        is_past(self.idle_since.load(Relaxed), settings.idle_timeout).then_some(Overdue::Idle)
    }
}

/// How often a connection is looked at: often enough that each time is kept to a fourth of itself.
pub(super) fn look_every(settings: &ServerSettings) -> Duration {
    let shortest = settings.headers_timeout.min(settings.idle_timeout).min(settings.stall_timeout);
    (shortest / 4).max(Duration::from_millis(25))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ServerSettings {
        let seconds = Duration::from_secs;
        ServerSettings {
            headers_timeout: seconds(10),
            idle_timeout: seconds(60),
            stall_timeout: seconds(30),
            ..Default::default()
        }
    }

    async fn after(pulse: &Pulse, seconds: u64) -> Option<Overdue> {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        pulse.overdue(&settings(), false)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_head_has_its_time_from_the_connection_on_and_later_ones_from_their_first_byte() {
        let pulse = Pulse::new(Instant::now());
        assert_eq!(after(&pulse, 9).await, None);
        pulse.read();
        assert_eq!(after(&pulse, 2).await, Some(Overdue::Headers), "a byte does not extend it");
        pulse.request_began();
        assert_eq!(after(&pulse, 1000).await, None, "an answer may take long");
        pulse.request_ended();
        assert_eq!(after(&pulse, 59).await, None);
        pulse.read();
        assert_eq!(pulse.overdue(&settings(), true), None);
        assert_eq!(after(&pulse, 9).await, Some(Overdue::Idle));
        pulse.request_began();
        pulse.request_ended();
        pulse.read();
        assert_eq!(after(&pulse, 11).await, Some(Overdue::Headers));
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_a_byte_now_and_then_takes_nothing() {
        let pulse = Pulse::new(Instant::now());
        pulse.request_began();
        pulse.blocked();
        for _ in 0..4 {
            assert_eq!(after(&pulse, 7).await, None);
            pulse.wrote(1);
            pulse.blocked();
        }
        assert_eq!(after(&pulse, 7).await, Some(Overdue::Stalled));
        pulse.wrote(2000);
        pulse.blocked();
        assert_eq!(after(&pulse, 29).await, None);
        pulse.flushed();
        assert_eq!(after(&pulse, 29).await, None);
    }
}
