//! Bodies on their way in, and clients that send them more slowly than the least rate.

use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::metrics;
use super::settings::ServerSettings;

/// The least rate of a request's body, among the request's extensions, for a handler to waive: where what is sent is a
/// stream whose sender shows in a way of its own that it is there.
#[derive(Clone, Debug, Default)]
pub struct LeastRate {
    is_waived: Arc<AtomicBool>,
}

impl LeastRate {
    /// Lets the body come as slowly as it may.
    pub fn waive(&self) {
        self.is_waived.store(true, Ordering::Relaxed);
    }

    fn is_waived(&self) -> bool {
        self.is_waived.load(Ordering::Relaxed)
    }
}

/// A request's body that must come at a least rate. Only the time counts in which somebody waits for it: a handler that
/// is busy with what it has read makes no client slow.
pub(super) struct Steady<B> {
    body: B,
    pace: Pace,
    least_rate: LeastRate,
    timer: Pin<Box<Sleep>>,
    /// Since when the client is waited for.
    waiting: Option<Instant>,
}

/// What came in the window of time that is looked at.
#[derive(Clone, Copy, Debug)]
struct Pace {
    window: Duration,
    /// Bytes that must come in it.
    least: u64,
    waited: Duration,
    num_bytes: u64,
}

/// The body came more slowly than the least rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TooSlow {
    least: u64,
    window: Duration,
}

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the body brought less than {} bytes in {:?}", self.least, self.window)
    }
}

impl std::error::Error for TooSlow {}

/// Whether reading a body failed because it came more slowly than the least rate.
#[must_use]
pub fn is_too_slow(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<TooSlow>())
}

impl Pace {
    /// Counts time that the client was waited for; past a window it is judged and the next one begins.
    fn wait(&mut self, waited: Duration) -> Result<(), TooSlow> {
        self.waited += waited;
        if self.waited < self.window {
            return Ok(());
        }
        if self.num_bytes < self.least {
            return Err(TooSlow { least: self.least, window: self.window });
        }
        (self.waited, self.num_bytes) = (Duration::ZERO, 0);
        Ok(())
    }
}

impl<B> Steady<B> {
    pub(super) fn new(body: B, settings: &ServerSettings, least_rate: LeastRate) -> Self {
        let window = settings.body_rate_window;
        let least = (settings.min_body_rate as f64 * window.as_secs_f64()).ceil() as u64;
        let pace = Pace { window, least, waited: Duration::ZERO, num_bytes: 0 };
        Self { body, pace, least_rate, timer: Box::pin(tokio::time::sleep(window)), waiting: None }
    }
}

impl<B> HttpBody for Steady<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(context);
        let now = Instant::now();
        if this.least_rate.is_waived() {
            return polled.map(|frame| frame.map(|frame| frame.map_err(Into::into)));
        }
        if let Some(since) = this.waiting.take()
            && let Err(slow) = this.pace.wait(now - since)
            && polled.is_pending()
        {
            metrics::slow_body();
            return Poll::Ready(Some(Err(slow.into())));
        }
        match polled {
            Poll::Ready(frame) => {
                if let Some(Ok(frame)) = &frame {
                    this.pace.num_bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                this.waiting = Some(now);
                // What came with the window's end left it unjudged: then there is nothing to wait for.
                this.timer.as_mut().reset(now + this.pace.window.saturating_sub(this.pace.waited));
                // Its waker is kept; that it is past its time is seen at the next poll.
                if this.timer.as_mut().poll(context).is_ready() {
                    context.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body as handlers read it.
pub(super) fn steady(body: hyper::body::Incoming, settings: &ServerSettings, least_rate: LeastRate) -> Body {
    if body.is_end_stream() { Body::empty() } else { Body::new(Steady::new(body, settings, least_rate)) }
}

#[cfg(test)]
mod tests {
    use axum::BoxError;
    use futures::StreamExt as _;

    use super::*;

    /// Reads a body that brings `num_bytes` every `pause`, taking `busy` between parts, and says how many parts came.
    async fn read(num_bytes: usize, pause: Duration, busy: Duration, parts: usize) -> Result<usize, BoxError> {
        read_at(LeastRate::default(), num_bytes, pause, busy, parts).await
    }

    async fn read_at(
        least_rate: LeastRate,
        num_bytes: usize,
        pause: Duration,
        busy: Duration,
        parts: usize,
    ) -> Result<usize, BoxError> {
        let settings =
            ServerSettings { min_body_rate: 100, body_rate_window: Duration::from_secs(10), ..Default::default() };
        let parts = futures::stream::iter(0..parts).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, BoxError>(Bytes::from(vec![0; num_bytes]))
        });
        let body = Body::new(Steady::new(Body::from_stream(parts), &settings, least_rate));
        let mut parts = body.into_data_stream();
        let mut num_parts = 0;
        while let Some(part) = parts.next().await {
            part?;
            num_parts += 1;
            tokio::time::sleep(busy).await;
        }
        Ok(num_parts)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_refused_and_one_at_the_rate_is_read() {
        let second = Duration::from_secs(1);
        let error = read(1, second, Duration::ZERO, 100).await.unwrap_err();
        assert!(is_too_slow(error.as_ref()), "{error}");
        assert!(error.to_string().ends_with("less than 1000 bytes in 10s"), "{error}");
        assert!(is_too_slow(read(500, 60 * second, Duration::ZERO, 3).await.unwrap_err().as_ref()), "silence");
        assert_eq!(read(150, second, Duration::ZERO, 100).await.unwrap(), 100);
        assert_eq!(read(1, second, Duration::ZERO, 9).await.unwrap(), 9, "a short body may be slow for a window");
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_is_seen_together_with_the_end_of_the_window_is_read_and_the_next_wait_judged() {
        let reading = tokio::spawn(read(1, Duration::from_millis(10_500), Duration::ZERO, 3));
        tokio::task::yield_now().await;
        // The window's end and the part behind it are seen at once, as where a thread was busy.
        tokio::time::advance(Duration::from_secs(11)).await;
        let error = reading.await.unwrap().unwrap_err();
        assert!(is_too_slow(error.as_ref()), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_least_rate_is_waived_may_be_silent() {
        let (rate, minute) = (LeastRate::default(), Duration::from_secs(60));
        rate.waive();
        assert_eq!(read_at(rate, 1, minute, Duration::ZERO, 5).await.unwrap(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_is_busy_makes_no_client_slow() {
        let (brief, long) = (Duration::from_millis(1), Duration::from_secs(20));
        assert_eq!(read(1, brief, long, 50).await.unwrap(), 50);
    }
}
