//! What a gateway holds for each stream and each answer that is under way, said and bounded.

#![expect(clippy::unwrap_used, reason = "a test fails where something is not as it is set up")]

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{BoxStream, unfold};
use souk_protocol::{Digest, GatewayId, JobEvent, JobId, NodeId, PoolId, RequestId, TokenOut};
use souk_queue::EventHub;
use souk_testkit::CountingAllocator;
use souk_wire::frame::{FlowId, FromNode, NodeHello, Said, Saying, VERSION};
use souk_wire::{Receiver, VerifyNode, WireSettings};
use tokio::sync::mpsc;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// Most that a further open stream of a client may take at the gateway, all of its parts together.
const MOST_BYTES: usize = 48 << 10;
const COUNT: usize = 500;
/// Tokens that a client of the last figure has not read.
const UNREAD: u32 = 100;

struct Anybody;

#[async_trait::async_trait]
impl VerifyNode for Anybody {
    async fn verify(&self, _token: &str) -> Result<String, String> {
        Ok("node".to_owned())
    }
}

fn pool() -> PoolId {
    PoolId(Digest::of(b"base"))
}

/// A node's end of a stream.
async fn dial(receiver: &Receiver) -> (mpsc::Sender<Bytes>, BoxStream<'static, Bytes>) {
    let (up, pieces) = mpsc::channel::<Bytes>(2);
    let hello = NodeHello { version: VERSION, node: NodeId::new(), pool: pool(), stream: 1 };
    up.send(FromNode::Hello(hello).encode().into()).await.unwrap();
    let pieces = unfold(pieces, |mut pieces| async { Some((Ok(pieces.recv().await?), pieces)) });
    let down = receiver.accept(pieces.boxed()).await.map_err(|refused| refused.to_string()).unwrap();
    (up, down)
}

async fn step(up: &mpsc::Sender<Bytes>, said: Vec<Said>) {
    up.send(FromNode::Step(said).encode().into()).await.unwrap();
    // The one thread that there is goes on with what was sent.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// Bytes that each of `COUNT` took since there were `before`.
fn each_since(before: usize) -> usize {
    ALLOCATOR.used().saturating_sub(before) / COUNT
}

#[tokio::test]
async fn a_stream_and_an_answer_take_little() {
    let hub = EventHub::new();
    let verify: Arc<dyn VerifyNode> = Arc::new(Anybody);
    let receiver = Receiver::new(WireSettings::default(), GatewayId::new(), vec![pool()], hub.clone(), verify);
    let before = ALLOCATOR.used();
    let mut nodes = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        nodes.push(dial(&receiver).await);
    }
    let of_node = each_since(before);
    let before = ALLOCATOR.used();
    let mut answers = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        let job = JobId { request: RequestId::new(), index: 0 };
        answers.push(hub.subscribe(job, 4096));
    }
    for (place, answer) in answers.iter().enumerate() {
        let open = Saying::Open { job: answer.job().clone(), attempt: 1 };
        step(&nodes[0].0, vec![Said { flow: FlowId(place as u32 + 1), saying: open }]).await;
    }
    assert_eq!(receiver.num_attempts(), COUNT);
    let of_answer = each_since(before);
    let before = ALLOCATOR.used();
    for offset in 0..UNREAD {
        let tokens = vec![TokenOut { id: offset, logprobs: None }];
        let event = |flow| Said {
            flow: FlowId(flow as u32),
            saying: Saying::Event(JobEvent::Tokens { offset, tokens: tokens.clone() }),
        };
        step(&nodes[0].0, (1..=COUNT).map(event).collect()).await;
    }
    let of_unread = each_since(before);
    println!(
        "a node's stream: {of_node} bytes; an answer that is open: {of_answer}; {UNREAD} tokens of it that nobody has \
         read: {of_unread}"
    );
    assert!(of_node < MOST_BYTES && of_answer + of_unread < MOST_BYTES);
    for mut answer in answers {
        let mut count = 0;
        while let Some((_, JobEvent::Tokens { tokens, .. })) = answer.try_next() {
            count += tokens.len();
        }
        assert_eq!(count, UNREAD as usize);
    }
}
