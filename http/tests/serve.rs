//! The listener as its clients meet it, over real sockets: each way of being slow has an end, and nobody else notices.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, and a child that tells its parent")]

use std::io::BufRead as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Router};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use souk_http::serve::{ClientAddress, Listening, Server, ServerSettings, is_too_slow};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

/// Long against every time in [`settings`], so that a busy machine fails no test.
const LONG: Duration = Duration::from_secs(20);

fn settings() -> ServerSettings {
    ServerSettings {
        handshake_timeout: Duration::from_millis(400),
        headers_timeout: Duration::from_millis(400),
        idle_timeout: Duration::from_millis(800),
        stall_timeout: Duration::from_millis(600),
        min_body_rate: 1000,
        body_rate_window: Duration::from_millis(500),
        ..Default::default()
    }
}

/// Answers that hold something until they end.
#[derive(Clone, Default)]
struct Held(Arc<AtomicUsize>);

impl Held {
    fn take(&self) -> Hold {
        self.0.fetch_add(1, Ordering::SeqCst);
        Hold(self.clone())
    }

    async fn becomes(&self, num: usize) {
        let reached = async {
            while self.0.load(Ordering::SeqCst) != num {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, reached).await.unwrap_or_else(|_| panic!("{} are held", self.0.load(Ordering::SeqCst)));
    }
}

struct Hold(Held);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn router(held: Held) -> Router {
    let parts = |State(held): State<Held>, num_parts: usize, bytes: usize| {
        let hold = held.take();
        Body::from_stream(futures::stream::iter(0..num_parts).map(move |_| {
            let _held = &hold;
            Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; bytes]))
        }))
    };
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route(
            "/who",
            get(|Extension(ClientAddress(client)): Extension<ClientAddress>| async move { client.to_string() }),
        )
        .route("/little", get(move |held| async move { parts(held, 3, 10) }))
        .route("/endless", get(move |held| async move { parts(held, usize::MAX, 10_000) }))
        .route(
            "/silent",
            get(|State(held): State<Held>| async move {
                let hold = held.take();
                Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>().map(move |part| {
                    let _held = &hold;
                    part
                }))
            }),
        )
        .route(
            "/read",
            post(|State(held): State<Held>, body: Body| async move {
                let _hold = held.take();
                match body.collect().await {
                    Ok(_) => StatusCode::OK,
                    Err(error) if is_too_slow(&error) => StatusCode::REQUEST_TIMEOUT,
                    Err(_) => StatusCode::BAD_REQUEST,
                }
            }),
        )
        .with_state(held)
}

async fn start(settings: ServerSettings) -> (Server, Listening, Held) {
    let (server, held) = (Server::new(settings, u64::MAX), Held::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listening = server.listen(listener, router(held.clone()), None).unwrap();
    (server, listening, held)
}

async fn connect(to: &Listening) -> TcpStream {
    TcpStream::connect(to.address).await.unwrap()
}

async fn connect_from(address: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// All that the server sends until it hangs up; a reset counts as that.
async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("the server hangs up").ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn get_once(stream: &mut TcpStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: souk\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok();
    read_all(stream).await
}

#[tokio::test]
async fn who_sends_nothing_or_half_a_head_is_hung_up_on() {
    let (_server, listening, _) = start(settings()).await;
    for begin in ["", "GET / HTTP/1.1\r\nhost: so", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let began = Instant::now();
        let mut stream = connect(&listening).await;
        stream.write_all(begin.as_bytes()).await.unwrap();
        read_all(&mut stream).await;
        assert!(began.elapsed() >= Duration::from_millis(390), "{begin:?} had {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_head_that_drips_is_hung_up_on_though_each_byte_is_a_sign_of_life() {
    let (_server, listening, _) = start(settings()).await;
    let mut stream = connect(&listening).await;
    let drip = async {
        stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        while stream.write_all(b"y").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, drip).await.expect("the server hangs up");
}

#[tokio::test]
async fn a_connection_is_kept_between_requests_and_ended_when_idle() {
    let (_server, listening, _) = start(settings()).await;
    let mut stream = connect(&listening).await;
    for _ in 0..2 {
        // Longer than a head may take, which has not begun.
        stream.write_all(b"GET / HTTP/1.1\r\nhost: souk\r\n\r\n").await.unwrap();
        let mut answer = [0; 2048];
        let len = timeout(LONG, stream.read(&mut answer)).await.unwrap().unwrap();
        assert!(answer[..len].ends_with(b"hello"));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(read_all(&mut stream).await, "");
}

#[tokio::test]
async fn a_body_that_drips_is_refused() {
    let (_server, listening, held) = start(settings()).await;
    let (mut reader, mut writer) = connect(&listening).await.into_split();
    writer.write_all(b"POST /read HTTP/1.1\r\nhost: souk\r\ncontent-length: 100000\r\n\r\n").await.unwrap();
    held.becomes(1).await;
    let drip = tokio::spawn(async move {
        while writer.write_all(b"y").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let answer = read_all(&mut reader).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    held.becomes(0).await;
    drip.abort();
}

#[tokio::test]
async fn who_does_not_read_a_long_answer_loses_it() {
    let (server, listening, held) = start(settings()).await;
    let mut stream = connect(&listening).await;
    stream.write_all(b"GET /endless HTTP/1.1\r\nhost: souk\r\n\r\n").await.unwrap();
    held.becomes(1).await;
    held.becomes(0).await;
    assert_eq!(server.open_connections(), 0);
}

#[tokio::test]
async fn an_answer_that_is_silent_for_long_is_nobodys_fault() {
    let (_server, listening, held) = start(settings()).await;
    let mut stream = connect(&listening).await;
    stream.write_all(b"GET /silent HTTP/1.1\r\nhost: souk\r\n\r\n").await.unwrap();
    held.becomes(1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(held.0.load(Ordering::SeqCst), 1);
    drop(stream);
    held.becomes(0).await;
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream];
    frame.extend(payload);
    frame
}

/// `GET path` on a stream: method, scheme and the begin of path are entries of HPACK's table.
fn get_frame(stream: u8, path: &str) -> Vec<u8> {
    let mut head = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    head.extend(path.as_bytes());
    head.extend(b"\x41\x04souk");
    frame(1, 0b101, stream, &head)
}

/// Reads frames until one of this kind, and returns its payload.
async fn next_frame(stream: &mut TcpStream, kind: u8) -> Vec<u8> {
    let read = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
            stream.read_exact(&mut payload).await.unwrap();
            if head[3] == kind {
                return payload;
            }
        }
    };
    timeout(LONG, read).await.unwrap_or_else(|_| panic!("no frame of kind {kind}"))
}

/// A connection whose streams have a window of nothing.
async fn connect_without_window(to: &Listening) -> TcpStream {
    let mut stream = connect(to).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    // INITIAL_WINDOW_SIZE is setting 4.
    stream.write_all(&frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])).await.unwrap();
    stream
}

#[tokio::test]
async fn a_stream_whose_window_stays_shut_is_reset_and_the_connection_lives() {
    let (_server, listening, held) = start(settings()).await;
    let mut stream = connect_without_window(&listening).await;
    stream.write_all(&get_frame(1, "/little")).await.unwrap();
    stream.write_all(&get_frame(3, "/silent")).await.unwrap();
    held.becomes(2).await;
    // RST_STREAM: only the first has an answer that could be taken.
    assert_eq!(next_frame(&mut stream, 3).await.len(), 4);
    held.becomes(1).await;
    stream.write_all(&frame(6, 0, 0, b"are you?")).await.unwrap();
    assert_eq!(next_frame(&mut stream, 6).await, b"are you?");
    assert_eq!(held.0.load(Ordering::SeqCst), 1, "the silent one waits for us");
}

#[tokio::test]
async fn too_many_resets_end_a_connection() {
    let (_server, listening, _) = start(settings()).await;
    let mut stream = connect_without_window(&listening).await;
    let mut burst = Vec::new();
    for id in (1..=255).step_by(2) {
        burst.extend(get_frame(id, "/silent"));
        burst.extend(frame(3, 0, id, &[0, 0, 0, 8]));
    }
    stream.write_all(&burst).await.unwrap();
    // GOAWAY, with the code ENHANCE_YOUR_CALM.
    assert_eq!(next_frame(&mut stream, 7).await[4..8], [0, 0, 0, 0xb]);
}

#[tokio::test]
async fn an_address_has_its_number_of_connections_and_others_theirs() {
    let most =
        ServerSettings { max_connections_per_address: 3, idle_timeout: LONG, headers_timeout: LONG, ..settings() };
    let (server, listening, _) = start(most).await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.push(connect_from("127.0.0.5", listening.address).await);
    }
    while server.open_connections() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut fourth = connect_from("127.0.0.5", listening.address).await;
    assert_eq!(get_once(&mut fourth, "/").await, "");
    let mut other = connect_from("127.0.0.6", listening.address).await;
    assert!(get_once(&mut other, "/").await.ends_with("hello"));
    kept.pop();
    let again = async {
        while !get_once(&mut connect_from("127.0.0.5", listening.address).await, "/").await.ends_with("hello") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, again).await.expect("a place that was given back is had again");
}

/// The settings of the page with a proxy that is trusted.
fn trusting(proxy: &str) -> ServerSettings {
    let mut page: toml::Table = toml::from_str(souk_protocol::settings::PAGE).unwrap();
    page["server"]["trusted_proxies"] = vec![proxy.to_owned()].into();
    page["server"].clone().try_into().unwrap()
}

#[tokio::test]
async fn a_proxys_word_counts_if_it_is_trusted() {
    let (_server, listening, _) = start(trusting("127.0.0.7")).await;
    let ask = async |from: &str, begin: &str, header: &str| {
        let mut stream = connect_from(from, listening.address).await;
        let request = format!("{begin}GET /who HTTP/1.1\r\nhost: souk\r\nconnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        read_all(&mut stream).await
    };
    let proxied = "PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n";
    assert!(ask("127.0.0.7", proxied, "").await.ends_with("\r\n203.0.113.9"));
    assert!(ask("127.0.0.7", "", "x-forwarded-for: 203.0.113.8\r\n").await.ends_with("\r\n203.0.113.8"));
    assert!(ask("127.0.0.7", "", "").await.ends_with("\r\n127.0.0.7"));
    assert!(ask("127.0.0.8", "", "x-forwarded-for: 203.0.113.8\r\n").await.ends_with("\r\n127.0.0.8"));
    assert!(ask("127.0.0.8", proxied, "").await.starts_with("HTTP/1.1 400"));
    assert_eq!(ask("127.0.0.7", "PROXY nonsense\r\n", "").await, "");
}

#[tokio::test]
async fn closing_lets_answers_end_and_cuts_off_what_hangs_at_the_deadline() {
    let (server, listening, held) = start(ServerSettings { idle_timeout: LONG, ..settings() }).await;
    let mut hung = connect(&listening).await;
    hung.write_all(b"GET /silent HTTP/1.1\r\nhost: souk\r\n\r\n").await.unwrap();
    held.becomes(1).await;
    let mut idle = connect(&listening).await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: souk\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        assert_ne!(idle.read_buf(&mut answer).await.unwrap(), 0, "the answer comes before the end");
    }
    let (began, deadline) = (Instant::now(), Duration::from_secs(1));
    let closing = tokio::spawn(server.close(began + deadline));
    assert_eq!(read_all(&mut idle).await, "", "an idle connection is closed at once");
    assert_eq!(timeout(LONG, closing).await.unwrap().unwrap(), 1);
    assert!(began.elapsed() >= deadline);
    held.becomes(0).await;
    read_all(&mut hung).await;
}

#[tokio::test]
async fn closing_waits_for_no_handshake() {
    let (server, listening, _) = start(trusting("127.0.0.1")).await;
    let mut stream = connect(&listening).await;
    stream.write_all(b"PROXY TCP4").await.unwrap();
    while server.open_connections() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = Instant::now();
    assert_eq!(server.close(began + LONG).await, 0);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    read_all(&mut stream).await;
}

/// Runs itself in a process with few descriptors, uses them up, and asks from here.
#[test]
fn without_descriptors_clients_are_hung_up_on_and_the_listener_goes_on() {
    const CHILD: &str = "SOUK_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(CHILD).is_some() {
        return serve_with_few_descriptors();
    }
    let name = "without_descriptors_clients_are_hung_up_on_and_the_listener_goes_on";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut line_with = |word: &str| lines.find_map(|line| Some(line.split_once(word)?.1.to_owned())).unwrap();
    let address: SocketAddr = line_with("listening on ").parse().unwrap();
    let ask = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { get_once(&mut TcpStream::connect(address).await.unwrap(), "/").await })
    };
    for _ in 0..3 {
        assert_eq!(ask(), "", "hung up on, not left waiting");
    }
    drop(child.stdin.take());
    line_with("descriptors are free");
    let answer = ask();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(answer.ends_with("hello"), "{answer:?}");
}

fn serve_with_few_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let few = Rlimit { current: Some(64), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, few).unwrap();
    runtime.block_on(async {
        let (_server, listening, _) = start(settings()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        println!("listening on {}", listening.address);
        tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await.unwrap().unwrap();
        drop(files);
        println!("descriptors are free");
        std::future::pending::<()>().await;
    });
}
