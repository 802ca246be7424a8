//! Answers on their way out, and clients that do not take them.
//!
//! HTTP/1 has one answer at a time, and who does not read blocks the socket, which [`Watched`] sees. HTTP/2 has many,
//! each with a window: where a client leaves it at 0, hyper does not ask for the answer's next part, and nothing is
//! polled that could notice. So each stream runs in a task of ours, which does notice, and ends the stream alone.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::metrics;
use super::pulse::Pulse;

/// A socket whose reads and writes are noted. It lies below TLS, which takes more than the socket does.
pub(super) struct Watched {
    stream: TcpStream,
    pulse: Arc<Pulse>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, pulse: Arc<Pulse>) -> Self {
        Self { stream, pulse }
    }

    fn note_written(&self, polled: &Poll<io::Result<usize>>) {
        match polled {
            Poll::Pending => self.pulse.blocked(),
            Poll::Ready(Ok(num_bytes)) => self.pulse.wrote(*num_bytes),
            Poll::Ready(Err(_)) => {}
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.pulse.read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_written(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note_written(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket has nothing to flush: this is called when all was written.
        self.pulse.flushed();
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A stream that first reads the bytes which were taken from it to tell the version.
pub(super) struct Prefixed<S> {
    pub(super) stream: S,
    pub(super) first: Bytes,
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let num_bytes = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first.split_to(num_bytes));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Counts a request as open until its answer has ended or is given up.
pub(super) struct OpenRequest(Arc<Pulse>);

impl OpenRequest {
    pub(super) fn new(pulse: Arc<Pulse>) -> Self {
        pulse.request_began();
        Self(pulse)
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

/// An answer's body: it holds its request open, and notes when the client is waited for.
pub(super) struct Answer {
    body: Body,
    outflow: Option<Arc<Outflow>>,
    _open: OpenRequest,
}

impl Answer {
    /// The body of an answer; on HTTP/2 it is made within its stream's task.
    pub(super) fn new(body: Body, open: OpenRequest) -> Self {
        let outflow = OUTFLOW.try_with(Arc::clone).ok();
        if let Some(outflow) = &outflow {
            outflow.given();
        }
        Self { body, outflow, _open: open }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Some(outflow) = &self.outflow {
            if polled.is_pending() { outflow.asked() } else { outflow.given() }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

tokio::task_local! {
    /// The outflow of the HTTP/2 stream whose task this is.
    static OUTFLOW: Arc<Outflow>;
}

/// Since when the client of a stream is waited for: milliseconds since its start plus one, or 0 while we are.
struct Outflow {
    started: Instant,
    since: AtomicU64,
}

impl Outflow {
    /// A part of the answer was handed over; until the next is asked for, the client is waited for.
    fn given(&self) {
        self.since.store(self.started.elapsed().as_millis() as u64 + 1, Relaxed);
    }

    /// The next part was asked for and is not there yet.
    fn asked(&self) {
        self.since.store(0, Relaxed);
    }

    fn since(&self) -> Option<Instant> {
        let since = self.since.load(Relaxed).checked_sub(1)?;
        Some(self.started + Duration::from_millis(since))
    }
}

/// Runs the streams of HTTP/2 connections, each until its client takes nothing for `stall_timeout`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    pub(super) stall_timeout: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let started = Instant::now();
        let outflow = Arc::new(Outflow { started, since: AtomicU64::new(0) });
        let task = StreamTask {
            stream: Box::pin(OUTFLOW.scope(Arc::clone(&outflow), stream)),
            outflow,
            stall_timeout: self.stall_timeout,
            look: Box::pin(tokio::time::sleep(self.stall_timeout)),
        };
        tokio::spawn(task);
    }
}

/// A stream. What ends it early is dropping it: h2 then resets the stream, and the answer's body goes with it, with all
/// that the answer held.
struct StreamTask<F> {
    stream: Pin<Box<F>>,
    outflow: Arc<Outflow>,
    stall_timeout: Duration,
    /// When to look again; kept while parts flow, so that they cost no timer.
    look: Pin<Box<Sleep>>,
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        while self.look.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let overdue_at = self.outflow.since().unwrap_or(now) + self.stall_timeout;
            if overdue_at <= now {
                metrics::stream_cut_off();
                return Poll::Ready(());
            }
            self.look.as_mut().reset(overdue_at);
        }
        Poll::Pending
    }
}
