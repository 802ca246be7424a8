//! A node that runs no model: queue, leases, token path and settlements are those of any node.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use souk_protocol::{FinishReason, JobEvent, NodeId, PoolId, TokenId, TokenOut, Usage};
use souk_queue::{
    Claim, Delivery, EventSink, EventSinks as _, JobQueue, Lease, LeaseProgress, NodeCapacity, NodeLimits, NodeStatus,
    QueueConfig, RedisQueue, Settlement,
};
use souk_redis::RedisSettings;
use souk_registries::{KeySource, Registries, Settings};
use souk_wire::{Dialer, HttpDial, NodeIdentity, TokenSource, WireSettings};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::NodeArgs;

/// Jobs that it takes at a time, and places that it says it has.
const AT_ONCE: usize = 64;
const PLACES: u32 = 32_768;
/// How often it says that it lives, and how far its jobs are.
const BEAT: Duration = Duration::from_secs(1);
/// Tokens that are plain words for any vocabulary of a usual size, in turns.
const WORDS: std::ops::Range<TokenId> = 1000..1500;

/// A job that is answered.
struct Running {
    lease: Lease,
    sink: Box<dyn EventSink>,
    usage: Usage,
    max_tokens: u32,
}

/// The node's own parts, for its tasks.
struct Node {
    queue: RedisQueue,
    dialer: Dialer,
    pool: PoolId,
    id: NodeId,
}

/// Runs until it is killed.
///
/// # Errors
/// If the settings cannot be used or the registry gives no token.
pub(crate) async fn run(arguments: NodeArgs) -> anyhow::Result<()> {
    let NodeArgs { id, base, redis, registry, key, pace } = arguments;
    let (id, pool) = (NodeId::from_stored(id), PoolId(base));
    let registries = Registries::new(&Settings {
        section: "node",
        addresses: vec![registry],
        root_cert: None,
        client_cert: None,
        key: KeySource::Text(key.into()),
        stale: Duration::ZERO,
        id_of_key: |_| None,
    })?;
    let wire = WireSettings::default();
    let dial = HttpDial::new(&wire, Arc::new(Token(registries)))?;
    let identity = NodeIdentity { node: id.clone(), pool };
    let dialer = Dialer::new(wire, identity, Arc::new(dial));
    let queue = RedisQueue::new(&RedisSettings::at(redis), QueueConfig::default())?;
    let node = Arc::new(Node { queue, dialer, pool, id });
    node.beat().await?;
    println!("takes jobs");
    let (begin, begun) = mpsc::unbounded_channel();
    let answering = tokio::spawn(Arc::clone(&node).answer(begun, pace.step()));
    let beating = {
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(BEAT).await;
                node.beat().await?;
            }
        })
    };
    tokio::select! {
        ended = node.claim(begin) => ended,
        ended = answering => ended?,
        ended = beating => ended?,
    }
}

impl Node {
    async fn beat(&self) -> anyhow::Result<()> {
        let mut status = NodeStatus::new(self.id.clone(), self.pool);
        status.capacity = NodeCapacity { places: PLACES, kv_blocks: u32::MAX, adapter_bytes: 1 << 40 };
        status.limits = NodeLimits { context_tokens: 8192, max_rank: 128 };
        status.load.free_slots = PLACES;
        status.load.free_kv_blocks = u32::MAX;
        self.queue.heartbeat(status).await.context("a heartbeat")?;
        Ok(())
    }

    async fn claim(&self, begin: mpsc::UnboundedSender<Running>) -> anyhow::Result<()> {
        let wish = Claim { pool: self.pool, node: self.id.clone(), max_jobs: AT_ONCE, max_newcomers: 0 };
        loop {
            for delivery in self.queue.claim(wish.clone()).await? {
                begin.send(self.begin(delivery)?).ok().context("the node ends")?;
            }
            self.queue.wait(&wish, BEAT).await?;
        }
    }

    fn begin(&self, delivery: Delivery) -> anyhow::Result<Running> {
        let Delivery { job, lease, reply_to, .. } = delivery;
        let sink = self.dialer.sink(&reply_to, &job.id, lease.attempt);
        // One that nobody wants is noticed at the next step.
        sink.send(JobEvent::Started).ok();
        let prompt_tokens = u32::try_from(job.prompt.len())?;
        let completion_tokens = u32::try_from(job.resume.len())?;
        let usage = Usage { prompt_tokens, cached_tokens: 0, completion_tokens, prefill_began: true };
        Ok(Running { lease, sink, usage, max_tokens: job.max_tokens })
    }

    /// Answers what has begun, a token in each step, and says how far it is.
    async fn answer(
        self: Arc<Self>,
        mut begun: mpsc::UnboundedReceiver<Running>,
        step: Duration,
    ) -> anyhow::Result<()> {
        let (mut running, mut steps, mut beats) = (Vec::new(), interval(step), interval(BEAT));
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                one = begun.recv() => running.push(one.context("the node ends")?),
                _ = steps.tick() => self.step(&mut running),
                _ = beats.tick() => {
                    let progress: Vec<_> = running.iter().map(Running::progress).collect();
                    let node = Arc::clone(&self);
                    tokio::spawn(async move { node.queue.renew(node.pool, &progress).await });
                }
            }
        }
    }

    fn step(self: &Arc<Self>, running: &mut Vec<Running>) {
        for mut one in running.extract_if(.., Running::next) {
            let node = Arc::clone(self);
            tokio::spawn(async move {
                let over = one.last();
                one.sink.flush();
                one.sink.taken().await;
                // A lease that was lost is nobody's error here.
                drop(node.queue.settle(node.pool, &one.lease, over).await);
            });
        }
        running.iter().for_each(|one| one.sink.flush());
    }
}

impl Running {
    fn progress(&self) -> LeaseProgress {
        LeaseProgress { lease: self.lease.clone(), output_tokens: self.usage.completion_tokens }
    }

    /// Sends the next token; whether it was the last, or nobody wants it.
    fn next(&mut self) -> bool {
        let offset = self.usage.completion_tokens;
        let tokens = vec![TokenOut { id: WORDS.start + offset % (WORDS.end - WORDS.start), logprobs: None }];
        let is_sent = self.sink.send(JobEvent::Tokens { offset, tokens }).is_ok();
        self.usage.completion_tokens += u32::from(is_sent);
        !is_sent || self.usage.completion_tokens >= self.max_tokens
    }

    /// Says that it is over.
    fn last(&mut self) -> Settlement {
        let reason = if self.sink.is_closed() { FinishReason::Cancelled } else { FinishReason::Length };
        self.sink.send(JobEvent::Finished { reason, usage: self.usage }).ok();
        Settlement::Over { outcome: reason.outcome(), usage: self.usage }
    }
}

/// The node's token, which registries give.
struct Token(Registries);

#[async_trait]
impl TokenSource for Token {
    async fn token(&self, refused: Option<&SecretString>) -> Result<SecretString, String> {
        let refused = refused.map(|token| token.expose_secret());
        self.0.service_token(refused).await.map_err(|error| error.to_string())
    }
}
