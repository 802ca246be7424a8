//! Users in process: each leases an adapter, generates, and asks for the next.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use souk_engine::{Engine, EngineRequest, RequestHandle};
use souk_node::adapters::AdapterStore;
use souk_protocol::{AdapterUse, Digest, GenerateJob, JobEvent, PoolId, TokenId};
use souk_queue::{EventSink, Gone};
use souk_runner::DeviceAdapter;
use souk_testkit::hash;
use souk_testkit::job::job;

/// The node under test.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) store: AdapterStore,
    pub(crate) pool: PoolId,
    pub(crate) vocab_size: u32,
}

/// One answer: when it was asked for and when each token came.
pub(crate) struct Answer {
    pub(crate) asked: Instant,
    pub(crate) tokens: Vec<Instant>,
}

/// What users got.
#[derive(Default)]
pub(crate) struct Served {
    pub(crate) answers: Vec<Answer>,
    /// Tokens that came while all users were there.
    pub(crate) num_tokens: usize,
}

impl Served {
    pub(crate) fn add(&mut self, other: Self) {
        self.answers.extend(other.answers);
        self.num_tokens += other.num_tokens;
    }
}

/// What a request is.
#[derive(Clone, Copy)]
pub(crate) struct Length {
    pub(crate) prompt_tokens: usize,
    pub(crate) max_tokens: u32,
}

impl Answer {
    /// From the request, adapter included, to the first token.
    pub(crate) fn first_token(&self) -> Duration {
        self.tokens.first().map_or(Duration::ZERO, |first| first.duration_since(self.asked))
    }
}

impl Node {
    /// Asks once, as the node would: the adapter first, then the engine.
    pub(crate) async fn ask(&self, adapter: Option<&Digest>, length: Length, seed: u64) -> Answer {
        let asked = Instant::now();
        let lease = match adapter {
            Some(digest) => Some(self.store.acquire(digest).await.expect("the adapter is sound and finds room")),
            None => None,
        };
        let adapters: Vec<_> = lease.iter().map(|lease| (Arc::clone(lease), 1.0)).collect();
        let mut running = self.submit(adapters, length, seed);
        running.handle.ended().await.outcome.unwrap_or_else(|failure| panic!("{failure}"));
        Answer { asked, tokens: running.tokens() }
    }

    /// An answer of the base that is cut off after a while.
    pub(crate) async fn ask_for(&self, time: Duration, length: Length, seed: u64) -> Answer {
        let asked = Instant::now();
        let mut running = self.submit(Vec::new(), length, seed);
        tokio::time::sleep(time).await;
        running.handle.cancel();
        running.handle.ended().await;
        Answer { asked, tokens: running.tokens() }
    }

    fn submit(&self, adapters: Vec<(Arc<DeviceAdapter>, f32)>, length: Length, seed: u64) -> Running {
        let (tokens, sink) = Clock::start();
        let job = self.job(&adapters.iter().map(|(one, _)| one.digest).collect::<Vec<_>>(), length, seed);
        let request = EngineRequest { job, adapters, constraint: None, sink };
        let handle = self.engine.submit(request).unwrap_or_else(|rejected| panic!("refused: {}", rejected.error));
        Running { handle, tokens }
    }

    fn job(&self, adapters: &[Digest], length: Length, seed: u64) -> GenerateJob {
        let token = |at: usize| (hash(seed * 100_003 + at as u64) % u64::from(self.vocab_size - 64)) as TokenId + 64;
        GenerateJob {
            prompt: (0..length.prompt_tokens).map(token).collect(),
            adapters: adapters.iter().map(|digest| AdapterUse { digest: *digest, weight: 1.0, grant: None }).collect(),
            max_tokens: length.max_tokens,
            ..job("bench", self.pool, 0)
        }
    }

    /// Lets so many users ask one request after the other for a while, each for the adapter that `choose` gives for a
    /// random number, and returns all answers, also those that ended later.
    pub(crate) async fn serve(
        &self,
        num_users: u64,
        time: Duration,
        length: Length,
        choose: Arc<dyn Fn(u64) -> Digest + Send + Sync>,
    ) -> Served {
        let end = Instant::now() + time;
        let users: Vec<_> = (0..num_users)
            .map(|user| {
                let (node, choose) = (self.clone(), Arc::clone(&choose));
                tokio::spawn(async move {
                    let mut answers = Vec::new();
                    let mut seed = hash(user);
                    while Instant::now() < end {
                        seed = hash(seed);
                        answers.push(node.ask(Some(&choose(seed)), length, seed % (1 << 40)).await);
                    }
                    answers
                })
            })
            .collect();
        let mut answers = Vec::new();
        for user in users {
            answers.extend(user.await.expect("a user does not panic"));
        }
        let tokens = answers.iter().flat_map(|answer: &Answer| &answer.tokens);
        let num_tokens = tokens.filter(|at| **at <= end).count();
        Served { answers, num_tokens }
    }
}

/// An answer under way.
struct Running {
    handle: RequestHandle,
    tokens: Arc<Mutex<Vec<Instant>>>,
}

impl Running {
    fn tokens(&self) -> Vec<Instant> {
        std::mem::take(&mut *self.tokens.lock().expect("nobody panics with it"))
    }
}

/// Notes when tokens come.
struct Clock(Arc<Mutex<Vec<Instant>>>);

impl Clock {
    fn start() -> (Arc<Mutex<Vec<Instant>>>, Box<dyn EventSink>) {
        let tokens = Arc::default();
        (Arc::clone(&tokens), Box::new(Self(tokens)))
    }
}

impl EventSink for Clock {
    fn send(&self, event: JobEvent) -> Result<(), Gone> {
        if let JobEvent::Tokens { tokens, .. } = event {
            let now = Instant::now();
            self.0.lock().expect("nobody panics with it").extend(tokens.iter().map(|_| now));
        }
        Ok(())
    }

    fn is_closed(&self) -> bool {
        false
    }
}
