//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, rustls};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::body::{LeastRate, steady};
use super::limits::{Connections, Origin, Place};
use super::metrics;
use super::proxy::{self, ClientAddress};
use super::pulse::{Overdue, Pulse, look_every};
use super::settings::ServerSettings;
use super::tls::Certificate;
use super::write::{Answer, OpenRequest, Prefixed, Streams, Watched};
use crate::client_certificate::ClientCertificate;

/// What an HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Streams that a client opened and reset before they were served, and such that we reset for its faults: past it the
/// connection ends. Clients that cancel one request after another have few of them at once.
const MAX_RESETS: usize = 64;
/// How long a connection that is told to close may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// Silence on an HTTP/2 connection after which its client is asked for a sign of life, and how long that may take.
const PING_EVERY: Duration = Duration::from_secs(20);

/// What all connections of a listener share.
pub(super) struct Shared {
    pub(super) settings: Arc<ServerSettings>,
    pub(super) connections: Connections,
    pub(super) router: Router,
    pub(super) certificate: Option<Certificate>,
    pub(super) ending: Ending,
}

/// How all connections end with the process.
#[derive(Clone, Debug, Default)]
pub(super) struct Ending {
    /// They take no more requests.
    pub(super) closing: CancellationToken,
    /// They end as they are.
    pub(super) cut_off: CancellationToken,
}

/// How a connection ended: by itself, or overdue.
type Ended = Result<(), Overdue>;

/// Serves what was accepted, until it ends, is overdue, or is told to close.
pub(super) async fn serve(shared: &Shared, stream: TcpStream, peer: IpAddr) {
    let started = Instant::now();
    // Tokens are small writes; without this each would wait for the client's acknowledgement of the last.
    stream.set_nodelay(true).ok();
    let closing = &shared.ending.closing;
    let let_in = closing.run_until_cancelled(let_in(shared, stream, peer, started)).await;
    let Some((stream, client, place)) = let_in.flatten() else { return };
    let handshake_end = started + shared.settings.handshake_timeout;
    let pulse = Arc::new(Pulse::new(started));
    let stream = Watched::new(stream, Arc::clone(&pulse));
    let ended = match &shared.certificate {
        None => talk(shared, stream, Client { address: client, certificate: None }, &pulse).await,
        Some(certificate) => match shake_hands(shared, certificate, stream, client, handshake_end).await {
            Some((stream, client)) => talk(shared, stream, client, &pulse).await,
            None => return,
        },
    };
    if let Err(overdue) = ended {
        metrics::cut_off(overdue.as_str());
    }
    drop(place);
}

/// Who is at the other end.
#[derive(Clone, Copy)]
struct Client {
    /// The connection's; a trusted proxy's requests may have others.
    address: IpAddr,
    /// Whether it showed a certificate, where it was asked for one.
    certificate: Option<ClientCertificate>,
}

/// Agrees on how the connection is encrypted; `None` where that does not come to be within the time for it.
async fn shake_hands<S>(
    shared: &Shared,
    certificate: &Certificate,
    stream: S,
    address: IpAddr,
    end: Instant,
) -> Option<(TlsStream<S>, Client)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = TlsAcceptor::from(certificate.current()).accept(stream).into_fallible();
    match shared.ending.closing.run_until_cancelled(timeout_at(end, handshake)).await? {
        Ok(Ok(stream)) => {
            let is_shown = stream.get_ref().1.peer_certificates().is_some();
            let shown = if is_shown { ClientCertificate::Shown } else { ClientCertificate::Missing };
            Some((stream, Client { address, certificate: certificate.asks().then_some(shown) }))
        }
        Ok(Err((error, stream))) => {
            refuse_bad_certificate(&error, stream, address).await;
            None
        }
        Err(_) => {
            metrics::cut_off("handshake");
            None
        }
    }
}

/// Says so where a handshake failed for the certificate that the client showed: it is told the same by an alert, and whoever
/// looks for the reason looks here too. Any other handshake that fails is the network's, or a stranger's.
async fn refuse_bad_certificate<S: AsyncRead + AsyncWrite + Unpin>(error: &io::Error, mut stream: S, client: IpAddr) {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let Some(cause @ rustls::Error::InvalidCertificate(_)) = cause else { return };
    metrics::refused("certificate");
    tracing::warn!(%client, "a client's certificate is not accepted: {cause}; see server.tls.client_ca");
    // It believes that all is well, and sends its request already. Closing before that is read would reset the connection, and
    // the alert be lost.
    let read_away = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(GOODBYE, read_away).await;
}

/// Finds who the client is and takes its place among the connections.
async fn let_in(
    shared: &Shared,
    mut stream: TcpStream,
    peer: IpAddr,
    started: Instant,
) -> Option<(TcpStream, IpAddr, Place)> {
    let trusted = &shared.settings.trusted_proxies;
    if !trusted.contain(peer) {
        let place = shared.connections.enter(Origin::of(peer)).ok()?;
        return Some((stream, peer, place));
    }
    let place = shared.connections.enter(Origin::Proxy).ok()?;
    match timeout_at(started + shared.settings.handshake_timeout, proxy::read_header(&mut stream)).await {
        // Its client is known and counts as if it had come itself.
        Ok(Ok(Some(client))) => {
            let place = shared.connections.enter(Origin::of(client)).ok()?;
            Some((stream, client, place))
        }
        Ok(Ok(None)) => Some((stream, peer, place)),
        Ok(Err(_)) => {
            metrics::refused("proxy");
            None
        }
        Err(_) => {
            metrics::cut_off("handshake");
            None
        }
    }
}

/// Tells the version and serves requests.
async fn talk<S>(shared: &Shared, mut stream: S, client: Client, pulse: &Arc<Pulse>) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (settings, closing) = (&shared.settings, &shared.ending.closing);
    let first = timeout_at(pulse.started() + settings.headers_timeout, first_bytes(&mut stream));
    let first = match closing.run_until_cancelled(first).await {
        Some(Ok(Ok(first))) => first,
        Some(Err(_)) => return Err(Overdue::Headers),
        None | Some(Ok(Err(_))) => return Ok(()),
    };
    let is_http2 = first.starts_with(PREFACE);
    let io = TokioIo::new(Prefixed { stream, first });
    let answer =
        Answerer { router: shared.router.clone(), settings: Arc::clone(settings), client, pulse: Arc::clone(pulse) };
    if is_http2 {
        let mut builder = http2::Builder::new(Streams { stall_timeout: settings.stall_timeout });
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(settings.max_streams)
            .max_header_list_size(u32::try_from(settings.max_header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(MAX_RESETS)
            .max_local_error_reset_streams(MAX_RESETS)
            // What a client may send unread, of a request and of a connection.
            .initial_stream_window_size(256 << 10)
            .initial_connection_window_size(1 << 20)
            .max_send_buf_size(256 << 10)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY);
        let connection = builder.serve_connection(io, answer);
        drive(connection, |connection| connection.graceful_shutdown(), pulse, settings, true, closing).await
    } else {
        let mut builder = http1::Builder::new();
        // The pulse has the times: hyper's own takes a connection between requests for one that sends a head.
        builder.timer(TokioTimer::new()).header_read_timeout(None).max_header_size(settings.max_header_bytes);
        let connection = builder.serve_connection(io, answer);
        drive(connection, |connection| connection.graceful_shutdown(), pulse, settings, false, closing).await
    }
}

/// Reads until the version is clear: as long as what came may be the beginning of [`PREFACE`].
async fn first_bytes<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(1024);
    while bytes.len() < PREFACE.len() && PREFACE.starts_with(&bytes) {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(bytes.into())
}

/// What hyper calls with each request of a connection.
struct Answerer {
    router: Router,
    settings: Arc<ServerSettings>,
    client: Client,
    pulse: Arc<Pulse>,
}

impl Service<Request<Incoming>> for Answerer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let open = OpenRequest::new(Arc::clone(&self.pulse));
        let client = proxy::client_of(self.client.address, request.headers(), &self.settings.trusted_proxies);
        let least_rate = LeastRate::default();
        let mut request = request.map(|body| steady(body, &self.settings, least_rate.clone()));
        request.extensions_mut().insert(ClientAddress(client));
        request.extensions_mut().insert(least_rate);
        if let Some(certificate) = self.client.certificate {
            request.extensions_mut().insert(certificate);
        }
        let router = self.router.clone();
        Box::pin(async move {
            let response = router.oneshot(request).await?;
            Ok(response.map(|body| Body::new(Answer::new(body, open))))
        })
    }
}

/// Polls a connection until it ends, and ends it when it is overdue or told to close.
async fn drive<C, E>(
    connection: C,
    say_goodbye: impl Fn(Pin<&mut C>),
    pulse: &Pulse,
    settings: &ServerSettings,
    is_http2: bool,
    closing: &CancellationToken,
) -> Ended
where
    C: Future<Output = Result<(), E>>,
{
    let mut connection = pin!(connection);
    let mut is_closing = false;
    loop {
        tokio::select! {
            // What breaks a connection is its client's, or the network's.
            _ = connection.as_mut() => return Ok(()),
            () = closing.cancelled(), if !is_closing => {
                is_closing = true;
                say_goodbye(connection.as_mut());
            }
            () = tokio::time::sleep(look_every(settings)) => {
                let Some(overdue) = pulse.overdue(settings, is_http2) else { continue };
                if overdue == Overdue::Idle {
                    say_goodbye(connection.as_mut());
                    tokio::time::timeout(GOODBYE, connection).await.ok();
                }
                return Err(overdue);
            }
        }
    }
}
