//! The dialer and the receiver over HTTP/2 on the loopback address, with the server that gateways have and a proxy that
//! fails between them.

#![expect(clippy::unwrap_used, reason = "a test fails where something is not as it is set up")]

mod certificates;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use souk_http::serve::{Certificate, Listening, Server, ServerSettings, TlsSettings};
use souk_protocol::{
    Digest, FinishReason, GatewayId, JobEvent, JobId, NodeId, PoolId, RequestId, TokenLogprobs, TokenOut, Usage,
};
use souk_queue::{Closed, EventHub, EventSink, EventSinks as _, Losses, ReplyTo, Subscription};
use souk_testkit::proxy::{Mode, Proxy};
use souk_wire::frame::{FromNode, NodeHello, VERSION};
use souk_wire::{
    Dial as _, DialError, Dialer, HttpDial, NodeIdentity, Receiver, TokenSource, VerifyNode, WireSettings,
};
use tokio::net::TcpListener;
use tokio::time::timeout;

const GOOD: &str = "a node's token";
const SOON: Duration = Duration::from_secs(10);

/// Tells the good token, the second where the first is not wanted any more.
struct Keeper {
    first: &'static str,
    num_asked: AtomicUsize,
}

#[async_trait]
impl TokenSource for Keeper {
    async fn token(&self, refused: Option<&SecretString>) -> Result<SecretString, String> {
        self.num_asked.fetch_add(1, Ordering::Relaxed);
        assert!(refused.is_none_or(|refused| refused.expose_secret() == self.first));
        Ok(if refused.is_some() { GOOD } else { self.first }.into())
    }
}

struct Porter;

#[async_trait]
impl VerifyNode for Porter {
    async fn verify(&self, token: &str) -> Result<String, String> {
        if token == GOOD { Ok("node-1".to_owned()) } else { Err("it is not the good one".to_owned()) }
    }
}

/// A gateway with nothing but its hub and its receiver, on a port of its own.
struct Gateway {
    hub: EventHub,
    receiver: Receiver,
    losses: Losses,
    id: GatewayId,
    url: String,
    _listening: Listening,
}

fn pool() -> PoolId {
    PoolId(Digest::of(b"base"))
}

fn settings() -> WireSettings {
    WireSettings {
        silence: Duration::from_millis(400),
        dial_timeout: Duration::from_millis(500),
        give_up: Duration::from_secs(1),
        ..WireSettings::default()
    }
}

impl Gateway {
    async fn start() -> Self {
        Self::start_with(TlsSettings::default()).await
    }

    /// With TLS, where there is a certificate.
    async fn start_with(tls: TlsSettings) -> Self {
        // Far less patience than by default: a stream of tokens says little, and must not fall under these.
        let server = ServerSettings {
            min_body_rate: 1 << 20,
            body_rate_window: Duration::from_millis(300),
            ..ServerSettings::default()
        };
        let server = Server::new(server, 100);
        let (hub, id) = (EventHub::new(), GatewayId::new());
        let receiver = Receiver::new(settings(), id.clone(), vec![pool()], hub.clone(), Arc::new(Porter));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let certificate = tls.is_on().then(|| Certificate::open(tls).unwrap());
        let scheme = if certificate.is_some() { "https" } else { "http" };
        let listening = server.listen(listener, receiver.router(), certificate).unwrap();
        let url = format!("{scheme}://{}", listening.address);
        Self { losses: hub.losses(), hub, receiver, id, url, _listening: listening }
    }

    fn reply_to(&self, url: &str) -> ReplyTo {
        ReplyTo { gateway: self.id.clone(), advertise: Some(url.to_owned()) }
    }

    fn listen(&self) -> (JobId, Subscription) {
        let job = JobId { request: RequestId::new(), index: 0 };
        (job.clone(), self.hub.subscribe(job, 4000))
    }
}

fn dialer_with(token: &'static str, settings: &WireSettings, pool: PoolId) -> (Dialer, Arc<Keeper>) {
    let keeper = Arc::new(Keeper { first: token, num_asked: AtomicUsize::new(0) });
    let dial = HttpDial::new(settings, Arc::clone(&keeper) as Arc<dyn TokenSource>).unwrap();
    (Dialer::new(settings.clone(), NodeIdentity { node: NodeId::new(), pool }, Arc::new(dial)), keeper)
}

fn dialer() -> Dialer {
    dialer_with(GOOD, &settings(), pool()).0
}

fn tokens(offset: u32, count: u32) -> JobEvent {
    let token = |id| TokenOut { id, logprobs: Some(TokenLogprobs { logprob: -0.25, top: vec![(id, -0.25)] }) };
    JobEvent::Tokens { offset, tokens: (offset..offset + count).map(token).collect() }
}

fn finished() -> JobEvent {
    let usage = Usage { prompt_tokens: 1, cached_tokens: 0, completion_tokens: 2, prefill_began: true };
    JobEvent::Finished { reason: FinishReason::Length, usage }
}

async fn next(events: &mut Subscription) -> (u32, JobEvent) {
    timeout(SOON, events.next()).await.expect("an event comes").expect("the stream goes on")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < SOON, "it never came to this: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn closed(sink: &dyn EventSink) -> Closed {
    until("the sink is closed", || sink.is_closed()).await;
    sink.closed().unwrap()
}

#[tokio::test]
async fn events_of_many_jobs_come_over_one_stream_which_outlives_silence_between_them() {
    let (gateway, dialer) = (Gateway::start().await, dialer());
    let reply_to = gateway.reply_to(&gateway.url);
    let mut jobs: Vec<_> = (0..20).map(|_| gateway.listen()).collect();
    let sinks: Vec<_> = jobs.iter().map(|(job, _)| dialer.sink(&reply_to, job, 1)).collect();
    for offset in 0..3 {
        for sink in &sinks {
            sink.send(tokens(offset, 1)).unwrap();
        }
        sinks.iter().for_each(|sink| sink.flush());
        // Longer than either side may be silent.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for (sink, (_, events)) in sinks.iter().zip(&mut jobs) {
        sink.send(finished()).unwrap();
        assert_eq!(timeout(SOON, sink.taken()).await.unwrap(), Closed::Complete);
        for offset in 0..3 {
            assert_eq!(next(events).await, (1, tokens(offset, 1)));
        }
        assert_eq!(next(events).await, (1, finished()));
        assert_eq!(events.next().await, None);
    }
    assert_eq!((dialer.num_streams(), gateway.receiver.num_streams()), (1, 1));
    assert_eq!(gateway.receiver.num_attempts(), 0);
    dialer.close().await;
    until("the gateway sees the end", || gateway.receiver.num_streams() == 0).await;
}

#[tokio::test]
async fn a_reader_that_leaves_stops_its_own_job_only() {
    let (gateway, dialer) = (Gateway::start().await, dialer());
    let reply_to = gateway.reply_to(&gateway.url);
    let ((left, events), (stays, mut stays_events)) = (gateway.listen(), gateway.listen());
    let (left, stays) = (dialer.sink(&reply_to, &left, 1), dialer.sink(&reply_to, &stays, 1));
    stays.send(tokens(0, 1)).unwrap();
    stays.flush();
    next(&mut stays_events).await;
    drop(events);
    // It says nothing, and hears all the same that nobody reads.
    assert_eq!(closed(left.as_ref()).await, Closed::Unwanted);
    assert!(left.send(tokens(0, 1)).is_err());
    stays.send(finished()).unwrap();
    assert_eq!(next(&mut stays_events).await.1, finished());
    let unknown = dialer.sink(&reply_to, &JobId { request: RequestId::new(), index: 0 }, 1);
    assert_eq!(closed(unknown.as_ref()).await, Closed::Unwanted, "nobody asked for it here");
}

#[tokio::test]
async fn a_cut_is_seen_at_once_on_both_sides_and_another_stream_is_dialled() {
    let (mut gateway, dialer) = (Gateway::start().await, dialer());
    let proxy = Proxy::before(&gateway.url);
    let reply_to = gateway.reply_to(&proxy.url);
    let (job, mut events) = gateway.listen();
    let sink = dialer.sink(&reply_to, &job, 1);
    sink.send(tokens(0, 2)).unwrap();
    sink.flush();
    assert_eq!(next(&mut events).await, (1, tokens(0, 2)));
    let (began, waiting) = (Instant::now(), sink.taken());
    proxy.set(Mode::Closed);
    let loss = timeout(SOON, gateway.losses.next()).await.unwrap();
    assert!(began.elapsed() < settings().silence, "by the cut and not by silence: {:?}", began.elapsed());
    assert_eq!((&loss.job, loss.attempt, loss.tokens.len()), (&job, 1, 2));
    assert_eq!(timeout(SOON, waiting).await.unwrap(), Closed::Lost);
    assert!(sink.send(tokens(2, 1)).is_err());
    proxy.set(Mode::Pass);
    let again = dialer.sink(&reply_to, &job, 2);
    again.send(tokens(2, 1)).unwrap();
    again.send(finished()).unwrap();
    assert_eq!(next(&mut events).await, (2, tokens(2, 1)));
    assert_eq!(next(&mut events).await, (2, finished()));
    assert_eq!(proxy.accepted(), 2);
}

#[tokio::test]
async fn a_silent_stream_is_given_up_on_both_sides_after_the_limit() {
    let (mut gateway, dialer) = (Gateway::start().await, dialer());
    let proxy = Proxy::before(&gateway.url);
    let (job, mut events) = gateway.listen();
    let sink = dialer.sink(&gateway.reply_to(&proxy.url), &job, 1);
    sink.send(tokens(0, 1)).unwrap();
    sink.flush();
    next(&mut events).await;
    proxy.set(Mode::Silent);
    assert_eq!(timeout(SOON, gateway.losses.next()).await.unwrap().tokens, [0]);
    assert_eq!(closed(sink.as_ref()).await, Closed::Lost);
}

#[tokio::test]
async fn an_attempt_that_is_handed_over_ends_when_its_job_was_taken_back() {
    let (mut gateway, dialer) = (Gateway::start().await, dialer());
    let reply_to = gateway.reply_to(&gateway.url);
    let (job, _events) = gateway.listen();
    let sink = dialer.sink(&reply_to, &job, 1);
    sink.send(tokens(0, 3)).unwrap();
    let handed_over = tokio::spawn(dialer.hand_over(&reply_to, &job, 1));
    assert!(sink.send(tokens(3, 1)).is_err(), "what comes after is the next attempt's");
    let loss = timeout(SOON, gateway.losses.next()).await.unwrap();
    assert_eq!(loss.tokens, [0, 1, 2], "with all that was sent before");
    assert!(!handed_over.is_finished() && !sink.is_closed());
    drop(loss);
    timeout(SOON, handed_over).await.unwrap().unwrap();
    assert_eq!(sink.closed(), Some(Closed::Lost));
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_given_up_and_a_new_one_in_its_place_wants_nothing() {
    let (gateway, dialer) = (Gateway::start().await, dialer());
    let job = JobId { request: RequestId::new(), index: 0 };
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = ReplyTo { gateway: GatewayId::new(), advertise: Some(format!("http://{free}")) };
    let sink = dialer.sink(&nobody, &job, 1);
    sink.send(tokens(0, 1)).unwrap();
    let Closed::Unreachable(told) = closed(sink.as_ref()).await else { panic!() };
    assert!(told.contains(&free.to_string()) && told.contains("refused"), "{told}");
    let former = ReplyTo { gateway: GatewayId::new(), advertise: Some(gateway.url.clone()) };
    assert_eq!(closed(dialer.sink(&former, &job, 1).as_ref()).await, Closed::Unwanted);
    let nowhere = ReplyTo { gateway: GatewayId::new(), advertise: None };
    let Some(Closed::Unreachable(told)) = dialer.sink(&nowhere, &job, 1).closed() else { panic!() };
    assert!(told.contains("gateway.advertise"), "{told}");
}

#[tokio::test]
async fn who_may_not_come_in_is_told_why() {
    let gateway = Gateway::start().await;
    let reply_to = gateway.reply_to(&gateway.url);
    let told = async |dialer: &Dialer| {
        let (job, _events) = gateway.listen();
        match closed(dialer.sink(&reply_to, &job, 1).as_ref()).await {
            Closed::Unreachable(told) => told,
            other => panic!("{other:?}"),
        }
    };
    let (renews, keeper) = dialer_with("an old token", &settings(), pool());
    let (job, mut events) = gateway.listen();
    let sink = renews.sink(&reply_to, &job, 1);
    sink.send(finished()).unwrap();
    assert_eq!(next(&mut events).await.1, finished());
    assert_eq!(keeper.num_asked.load(Ordering::Relaxed), 2, "one that is not taken is renewed, once");
    let other = dialer_with(GOOD, &settings(), PoolId(Digest::of(b"other"))).0;
    let said = told(&other).await;
    assert!(said.contains("409") && said.contains("other_base") && said.contains(&pool().0.to_string()), "{said}");
    // A hello of another version, by hand.
    let keeper = Arc::new(Keeper { first: GOOD, num_asked: AtomicUsize::new(0) });
    let dial = HttpDial::new(&settings(), keeper).unwrap();
    let hello = |version, stream, node: &NodeId| {
        let hello = NodeHello { version, node: node.clone(), pool: pool(), stream };
        Bytes::from(FromNode::Hello(hello).encode())
    };
    let node = NodeId::new();
    let Err(DialError::Refused(said)) = dial.dial(&gateway.url, hello(VERSION + 1, 1, &node)).await else { panic!() };
    assert!(said.contains("other_version") && said.contains("version 2 of the frames"), "{said}");
    let _newer = dial.dial(&gateway.url, hello(VERSION, 7, &node)).await.map_err(|error| error.to_string()).unwrap();
    let Err(DialError::Refused(said)) = dial.dial(&gateway.url, hello(VERSION, 6, &node)).await else { panic!() };
    assert!(said.contains("stale_stream") && said.contains("stream 6"), "{said}");
    let Err(DialError::Refused(said)) = dial.dial(&gateway.url, Bytes::from_static(&[1, 0, 0, 0, 2])).await else {
        panic!()
    };
    assert!(said.contains("no_hello"), "{said}");
    gateway.receiver.close().await;
    let Err(DialError::Away(said)) = dial.dial(&gateway.url, hello(VERSION, 8, &node)).await else { panic!() };
    assert!(said.contains("shutting_down"), "{said}");
}

#[tokio::test]
async fn a_malformed_frame_ends_its_own_stream_only() {
    let (gateway, dialer) = (Gateway::start().await, dialer());
    let reply_to = gateway.reply_to(&gateway.url);
    let (job, mut events) = gateway.listen();
    let sink = dialer.sink(&reply_to, &job, 1);
    sink.send(tokens(0, 1)).unwrap();
    sink.flush();
    next(&mut events).await;
    let keeper = Arc::new(Keeper { first: GOOD, num_asked: AtomicUsize::new(0) });
    let dial = HttpDial::new(&settings(), keeper).unwrap();
    let hello = NodeHello { version: VERSION, node: NodeId::new(), pool: pool(), stream: 1 };
    let stream = dial.dial(&gateway.url, FromNode::Hello(hello).encode().into()).await;
    let stream = stream.map_err(|error| error.to_string()).unwrap();
    until("both are open", || gateway.receiver.num_streams() == 2).await;
    stream.up.send(Bytes::from_static(&[3, 0, 0, 0, 3, 1, 99])).await.unwrap();
    until("the malformed one is closed", || gateway.receiver.num_streams() == 1).await;
    sink.send(finished()).unwrap();
    assert_eq!(next(&mut events).await.1, finished());
}

#[tokio::test]
async fn a_client_that_reads_nothing_slows_nobody_and_loses_nothing() {
    let (gateway, dialer) = (Gateway::start().await, dialer());
    let reply_to = gateway.reply_to(&gateway.url);
    let ((slow, mut slow_events), (quick, mut quick_events)) = (gateway.listen(), gateway.listen());
    let (slow, quick) = (dialer.sink(&reply_to, &slow, 1), dialer.sink(&reply_to, &quick, 1));
    for offset in 0..3000 {
        slow.send(tokens(offset, 1)).unwrap();
        quick.send(tokens(offset, 1)).unwrap();
        quick.flush();
        // The quick one has each before the next is made; the slow one reads none.
        assert_eq!(next(&mut quick_events).await.1, tokens(offset, 1));
    }
    for offset in 0..3000 {
        assert_eq!(next(&mut slow_events).await.1, tokens(offset, 1));
    }
}

#[tokio::test]
async fn a_gateway_that_takes_nothing_loses_its_stream_and_no_other_gateway_notices() {
    let (mut gateway, other) = (Gateway::start().await, Gateway::start().await);
    let small = WireSettings { max_unsent_bytes: 1 << 20, ..settings() };
    let dialer = dialer_with(GOOD, &small, pool()).0;
    let proxy = Proxy::before(&gateway.url);
    let ((stuck, mut stuck_events), (quick, mut quick_events)) = (gateway.listen(), other.listen());
    let stuck = dialer.sink(&gateway.reply_to(&proxy.url), &stuck, 1);
    let quick = dialer.sink(&other.reply_to(&other.url), &quick, 1);
    stuck.send(tokens(0, 1)).unwrap();
    stuck.flush();
    next(&mut stuck_events).await;
    proxy.set(Mode::Silent);
    let mut offset = 0;
    while stuck.send(tokens(1 + 200 * offset, 200)).is_ok() {
        assert!(offset < 10_000, "what waits is bounded");
        quick.send(tokens(offset, 1)).unwrap();
        quick.flush();
        assert_eq!(next(&mut quick_events).await.1, tokens(offset, 1));
        offset += 1;
    }
    assert_eq!(stuck.closed(), Some(Closed::Lost));
    quick.send(finished()).unwrap();
    assert_eq!(next(&mut quick_events).await.1, finished());
    assert_eq!(timeout(SOON, gateway.losses.next()).await.unwrap().tokens, [0]);
}
