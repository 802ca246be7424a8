//! Ways in which a server fails.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::Response;

pub(crate) type Answer = UnsyncBoxBody<Bytes, io::Error>;

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is refused with this status and code, and not carried out. Its body is read first: a client that still sends
    /// may not hear an answer that comes before.
    Refuse(u16, &'static str),
    /// The connection ends before there is an answer, and it is not carried out.
    Reset,
    /// It is carried out, and the connection ends before there is an answer.
    LoseAnswer,
    /// No answer ever comes.
    Silence,
    /// The connection ends after so many bytes of the answer's body.
    BreakOff(usize),
    /// Nothing more comes after so many bytes of the answer's body.
    Stall(usize),
    /// The body comes in pieces of so many bytes, each after such a pause.
    Slow(usize, Duration),
    /// It is answered by something that is no S3 server.
    WebPage,
}

pub(crate) struct Planned {
    pub(crate) method: &'static str,
    pub(crate) part: &'static str,
    pub(crate) times: usize,
    pub(crate) fault: Fault,
}

/// What the request of this line is to meet with, which is taken from the plan.
pub(crate) fn next(planned: &mut [Planned], line: &str) -> Option<Fault> {
    let meant = |planned: &&mut Planned| {
        let rest = line.strip_prefix(planned.method);
        planned.times > 0 && rest.is_some_and(|rest| rest.contains(planned.part))
    };
    let found = planned.iter_mut().find(meant)?;
    found.times -= 1;
    Some(found.fault.clone())
}

/// What happens in the place of carrying a request out.
pub(crate) enum Instead {
    Answer(Response<Answer>),
    Break,
    Never,
    /// Nothing: it is carried out.
    GoOn,
}

impl Fault {
    pub(crate) fn instead(&self) -> Instead {
        match self {
            Self::Refuse(status, code) => Instead::Answer(error(*status, code, "as the test wants it")),
            Self::WebPage => {
                let page = Response::builder().status(200).header("content-type", "text/html");
                Instead::Answer(page.body(whole("<html><body>Welcome</body></html>")).expect("a valid answer"))
            }
            Self::Reset => Instead::Break,
            Self::Silence => Instead::Never,
            Self::LoseAnswer | Self::BreakOff(_) | Self::Stall(_) | Self::Slow(..) => Instead::GoOn,
        }
    }

    pub(crate) fn spoil(self, answer: Response<Answer>) -> io::Result<Response<Answer>> {
        let (left, breaks_off) = match self {
            Self::LoseAnswer => return Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            Self::BreakOff(bytes) => (bytes, true),
            Self::Stall(bytes) => (bytes, false),
            Self::Slow(bytes, pause) => {
                let next = Box::pin(tokio::time::sleep(pause));
                return Ok(answer.map(|inner| Slow { inner, ahead: Bytes::new(), bytes, pause, next }.boxed_unsync()));
            }
            Self::Refuse(..) | Self::Reset | Self::Silence | Self::WebPage => return Ok(answer),
        };
        let flushed = Box::pin(tokio::time::sleep(Duration::from_millis(200)));
        Ok(answer.map(|inner| Cut { inner, left, breaks_off, flushed }.boxed_unsync()))
    }
}

/// An answer as S3 gives it to what it refuses.
pub(crate) fn error(status: u16, code: &str, message: &str) -> Response<Answer> {
    let message = message.replace('\'', "&apos;");
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let answer = Response::builder().status(status).header("content-type", "application/xml");
    answer.body(whole(text)).expect("a valid answer")
}

/// A body of these bytes.
fn whole(bytes: impl Into<Bytes>) -> Answer {
    http_body_util::Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A body of which only the first bytes come.
struct Cut {
    inner: Answer,
    left: usize,
    breaks_off: bool,
    flushed: Pin<Box<tokio::time::Sleep>>,
}

impl Body for Cut {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            // Nobody wakes this: the connection stays as it is until the client gives it up.
            if !self.breaks_off {
                return Poll::Pending;
            }
            // What came before is sent first: an end in the same breath would take it along.
            let Poll::Ready(()) = self.flushed.as_mut().poll(context) else { return Poll::Pending };
            return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::ConnectionReset))));
        }
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) else { return Poll::Pending };
        let Some(Ok(Ok(mut bytes))) = frame.map(|frame| frame.map(Frame::into_data)) else { return Poll::Ready(None) };
        bytes.truncate(self.left);
        self.left -= bytes.len();
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body that comes piece by piece.
struct Slow {
    inner: Answer,
    /// What has come and is not passed on yet.
    ahead: Bytes,
    bytes: usize,
    pause: Duration,
    next: Pin<Box<tokio::time::Sleep>>,
}

impl Body for Slow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        while self.ahead.is_empty() {
            match std::task::ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Ok(frame)) => self.ahead = frame.into_data().unwrap_or_default(),
                end => return Poll::Ready(end),
            }
        }
        std::task::ready!(self.next.as_mut().poll(context));
        let pause = self.pause;
        self.next.as_mut().reset(tokio::time::Instant::now() + pause);
        let num_bytes = self.bytes.clamp(1, self.ahead.len());
        Poll::Ready(Some(Ok(Frame::data(self.ahead.split_to(num_bytes)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
