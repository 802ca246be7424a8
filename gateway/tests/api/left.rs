//! What a gateway leaves that is killed, and another that lives finds.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use souk_protocol::{GenerateJob, JobEvent, Outcome, RequestRecord, TokenOut};
use souk_queue::{JobQueue, MemoryQueue, QueueConfig};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::stack::{Around, Script, Stack, Step, answer, pool, says, tokenizer};

const SAYING: &str = "hello world";
/// How long a gateway may say nothing, and for how long a node has a lease.
const SILENCE: Duration = Duration::from_secs(2);
const LEASE: Duration = Duration::from_secs(4);
/// Tokens that have come of an answer that hangs.
const BEGUN: usize = 3;

fn config() -> QueueConfig {
    QueueConfig { heartbeat_timeout: SILENCE, lease: LEASE, ..QueueConfig::default() }
}

/// A gateway in a runtime of its own, with which it ends as a process that is killed: nothing more is said or written by it.
struct Doomed {
    runtime: Runtime,
    stack: Arc<Stack>,
}

impl Doomed {
    async fn start(queue: &Arc<dyn JobQueue>, around: Around) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let queue = Arc::clone(queue);
        let stack = runtime.spawn(async move { Arc::new(Stack::at_queue(queue, around).await) }).await.unwrap();
        Self { runtime, stack }
    }

    /// Asks it; what comes of the answer.
    fn ask(&self, body: Value) -> mpsc::UnboundedReceiver<String> {
        let (texts, heard) = mpsc::unbounded_channel();
        let stack = Arc::clone(&self.stack);
        self.runtime.spawn(async move {
            let mut pieces = stack.open("/v1/completions", body).await;
            while let Some(Ok(piece)) = pieces.next().await {
                let _ = texts.send(String::from_utf8(piece.to_vec()).unwrap());
            }
        });
        heard
    }

    /// Waits until the queue has heard all that is delivered by now.
    async fn told(&self) {
        let (first, mut now) = (signs_of_life(&self.stack).await, 0.0);
        while now < first + 2.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            now = signs_of_life(&self.stack).await;
        }
    }

    fn kill(self) {
        self.runtime.shutdown_background();
    }
}

async fn signs_of_life(stack: &Stack) -> f64 {
    let text = stack.get("/metrics").await.text;
    let line = text.lines().find_map(|line| line.strip_prefix("souk_gateway_signs_of_life_total "));
    line.map_or(0.0, |number| number.parse().unwrap())
}

async fn heard(texts: &mut mpsc::UnboundedReceiver<String>, wanted: &[&str]) {
    let mut text = String::new();
    while !wanted.iter().all(|wanted| text.contains(wanted)) {
        text.push_str(&texts.recv().await.expect("more comes"));
    }
}

fn question(choices: u32) -> Value {
    json!({"model": "tiny", "prompt": [5, 6, 7], "n": choices, "max_tokens": 20, "stream": true})
}

/// The first choice ends, the others come to so many tokens and hang.
fn one_ends() -> Script {
    Arc::new(|job: &GenerateJob, _| {
        let ids = tokenizer().encode(SAYING).unwrap();
        if job.id.index == 0 {
            return answer(job, &ids);
        }
        let tokens = ids.iter().take(BEGUN).map(|id| TokenOut { id: *id, logprobs: None }).collect();
        vec![Step::Send(JobEvent::Started), Step::Send(JobEvent::Tokens { offset: 0, tokens }), Step::Hang]
    })
}

/// Outcomes and charges of a request's jobs.
fn ends(record: &RequestRecord) -> Vec<(Outcome, u32, u32)> {
    let of_job = |job: &souk_protocol::JobRecord| (job.outcome, job.charge().input_tokens, job.charge().output_tokens);
    record.jobs.iter().map(of_job).collect()
}

/// The same data on another machine: a journal of its own.
fn elsewhere(around: &Around) -> Around {
    Around { folder: Arc::new(tempfile::tempdir().unwrap()), ..around.clone() }
}

/// What the next process on the same machine finds, were this one killed now.
fn left_by(around: &Around) -> Around {
    let left = elsewhere(around);
    let (from, to) = (around.folder.path().join("journal/1"), left.folder.path().join("journal/1"));
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    left
}

async fn is_written_down_by_another(queue: Arc<dyn JobQueue>) {
    let around = Around::limited(&[(souk_protocol::Policy::TokensPerMonth, 1000)]);
    let first = Doomed::start(&queue, around.clone()).await;
    let node = Arc::clone(&first.stack);
    node.add_node(one_ends()).await;
    node.until_ready().await;
    let mut texts = first.ask(question(2));
    heard(&mut texts, &["\"finish_reason\":\"", "\"index\":1"]).await;
    first.told().await;
    // Only now, since figures are of a process: until here all signs of life were the first one's.
    let other = Stack::at_queue(Arc::clone(&queue), elsewhere(&around)).await;
    let left = left_by(&around);
    first.kill();
    let rows = around.rows.wait_for(1).await;
    let whole = u32::try_from(tokenizer().encode(SAYING).unwrap().len()).unwrap() + 1;
    // What the one had is known from its end, of the other what its gateway has said. The prompt counts once.
    assert_eq!(ends(&rows[0]), [(Outcome::Stop, 3, whole), (Outcome::CallerLeft, 0, BEGUN as u32)]);
    other.accounting.close(Duration::from_secs(5)).await;
    assert_eq!(around.limits.holdings(), 0, "its reservation is let go as it is counted");
    // The first starts again, and its journal says only that it had begun.
    let writes = around.rows.num_writes();
    let again = Stack::at_queue(Arc::clone(&queue), left).await;
    while around.rows.num_writes() == writes {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    again.accounting.close(Duration::from_secs(5)).await;
    assert_eq!(around.rows.all(), rows);
    assert_eq!(queue.unposted(pool(), &[rows[0].request.clone()]).await.unwrap(), []);
}

async fn what_waits_ends_free(queue: Arc<dyn JobQueue>) {
    let around = Around::default();
    let first = Doomed::start(&queue, around.clone()).await;
    let _other = Stack::at_queue(Arc::clone(&queue), elsewhere(&around)).await;
    // A node that is there and takes nothing.
    queue.heartbeat(souk_queue::NodeStatus::new(souk_protocol::NodeId::from_stored("node_1"), pool())).await.unwrap();
    first.stack.until_ready().await;
    let _texts = first.ask(question(1));
    while queue.stats(pool()).await.unwrap().queued == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.kill();
    let rows = around.rows.wait_for(1).await;
    assert_eq!(ends(&rows[0]), [(Outcome::CallerLeft, 0, 0)]);
    assert_eq!(queue.stats(pool()).await.unwrap().queued, 0);
}

async fn what_was_over_and_not_written_is_charged(queue: Arc<dyn JobQueue>) {
    let around = Around::default();
    // Its registries are away, so that its rows are in its journal alone.
    let cut_off = Around { rows: Arc::default(), ..around.clone() };
    cut_off.rows.go_away(true);
    let first = Doomed::start(&queue, cut_off).await;
    let node = Arc::clone(&first.stack);
    node.add_node(says(SAYING)).await;
    node.until_ready().await;
    let _other = Stack::at_queue(Arc::clone(&queue), elsewhere(&around)).await;
    heard(&mut first.ask(question(1)), &["[DONE]"]).await;
    while first.stack.accounting.num_unwritten() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.kill();
    let rows = around.rows.wait_for(1).await;
    let whole = u32::try_from(tokenizer().encode(SAYING).unwrap().len()).unwrap() + 1;
    assert_eq!(ends(&rows[0]), [(Outcome::Stop, 3, whole)]);
}

macro_rules! at_every_queue {
    ($($case:ident),+ $(,)?) => {
        mod memory {
            use super::*;

            $(#[tokio::test]
            async fn $case() {
                super::$case(Arc::new(MemoryQueue::new(config()))).await;
            })+
        }

        #[cfg(has_redis)]
        mod redis {
            use souk_queue::RedisQueue;
            use souk_redis::RedisSettings;
            use souk_testkit::redis::Redis;

            use super::*;

            $(#[tokio::test]
            async fn $case() {
                let server = Redis::that_forgets();
                super::$case(Arc::new(RedisQueue::new(&RedisSettings::at(server.url()), config()).unwrap())).await;
            })+
        }
    };
}

at_every_queue!(is_written_down_by_another, what_waits_ends_free, what_was_over_and_not_written_is_charged);
