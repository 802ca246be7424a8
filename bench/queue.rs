//! What the queue costs a request: submit, claim, renew and settle a second, in memory and through one Redis, with the notice that
//! the gateway hears and the bells that are rung; how long each of them takes at a busy installation's rate; and what a cycle takes
//! of the Redis' own processor. Prints Markdown tables.
//!
//! `cargo bench -p souk-bench --bench queue -- [--quick]`. Redis is measured where Debian's package is installed.

#![expect(clippy::print_stdout, reason = "a benchmark prints its tables")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use souk_protocol::{AdapterUse, Digest, GatewayId, JobId, NodeId, Outcome, PoolId, Usage};
use souk_queue::{
    Claim, JobQueue, LeaseProgress, MemoryQueue, NodeStatus, NoticeKind, Priority, QueueConfig, RedisQueue, Settlement,
    Submission,
};
use souk_redis::RedisSettings;
use souk_testkit::redis::Redis;
use tokio::time::{Instant, interval};

/// Nodes, each with a lane and a process of its own at the store.
const NUM_NODES: usize = 4;
/// Tenants who take turns.
const NUM_TENANTS: usize = 100;
/// Tokens of a prompt.
const PROMPT: usize = 500;
/// Jobs that a node asks for at once.
const AT_ONCE: usize = 8;
/// Jobs that are under way at a time where as many as possible are carried.
const TOGETHER: usize = 64;
/// Cycles a second at which each step is timed.
const RATE: u32 = 500;

fn main() -> anyhow::Result<()> {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let time = Duration::from_millis(if is_quick { 500 } else { 5000 });
    tokio::runtime::Runtime::new()?.block_on(measure(time))
}

async fn measure(time: Duration) -> anyhow::Result<()> {
    println!(
        "| cycles a second, {NUM_TENANTS} tenants, {NUM_NODES} nodes, prompts of {PROMPT} | 1 at a time | {TOGETHER} at a time |"
    );
    println!("| --- | ---: | ---: |");
    let memory: Arc<dyn JobQueue> = Arc::new(MemoryQueue::new(QueueConfig::default()));
    let of_memory = Fleet { gateway: Arc::clone(&memory), nodes: vec![memory; NUM_NODES] };
    println!("| in memory | {:.0} | {:.0} |", alone(&of_memory, time).await?, together(&of_memory, time).await?);
    let Some(server) = Redis::is_installed().then(Redis::that_forgets) else { return Ok(()) };
    let process = || -> anyhow::Result<Arc<dyn JobQueue>> {
        Ok(Arc::new(RedisQueue::new(&RedisSettings::at(server.url()), QueueConfig::default())?))
    };
    let nodes = (0..NUM_NODES).map(|_| process()).collect::<anyhow::Result<Vec<_>>>()?;
    let fleet = Fleet { gateway: process()?, nodes };
    let (one, (before, began)) = (alone(&fleet, time).await?, (processor(&server)?, Instant::now()));
    let many = together(&fleet, time).await?;
    let used = processor(&server)? - before;
    let num_cycles = many * began.elapsed().as_secs_f64();
    println!("| one Redis | {one:.0} | {many:.0} |");

    println!("\n| of one Redis, {TOGETHER} at a time | |");
    println!("| --- | ---: |");
    println!("| milliseconds of its processor for a cycle | {:.3} |", used.as_secs_f64() * 1e3 / num_cycles);
    for (function, calls, micros) in functions(&server)? {
        println!("| {function}, microseconds for each of {calls} calls | {micros:.1} |");
    }

    println!("\n| milliseconds at {RATE} cycles a second through one Redis | median | 99 % | longest |");
    println!("| --- | ---: | ---: | ---: |");
    for (name, mut times) in paced(&fleet, time).await? {
        times.sort_unstable();
        let of = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!("| {name} | {:.3} | {:.3} | {:.3} |", of(0.5), of(0.99), of(1.0));
    }
    Ok(())
}

/// A gateway and nodes at one store.
struct Fleet {
    gateway: Arc<dyn JobQueue>,
    nodes: Vec<Arc<dyn JobQueue>>,
}

fn pool() -> PoolId {
    PoolId(Digest::of(b"base"))
}

fn gateway() -> GatewayId {
    GatewayId::from_stored("gateway")
}

fn node(number: usize) -> NodeId {
    NodeId::from_stored(format!("node-{number}"))
}

fn submission(number: usize) -> Submission {
    let mut job = souk_testkit::job::job(&format!("tenant-{}", number % NUM_TENANTS), pool(), PROMPT);
    job.adapters = vec![AdapterUse { digest: Digest::of(&number.to_le_bytes()), weight: 1.0, grant: None }];
    job.time_left = Some(Duration::from_secs(60));
    Submission {
        job,
        lane: Some(node(number % NUM_NODES)),
        reply_to: gateway().into(),
        priority: Priority::ORDINARY,
        account: Some(Bytes::from(vec![b'a'; 400])),
        attempts: 0,
    }
}

fn wish(number: usize, max_jobs: usize) -> Claim {
    Claim { pool: pool(), node: node(number), max_jobs, max_newcomers: 0 }
}

async fn live(fleet: &Fleet) -> anyhow::Result<()> {
    for (number, queue) in fleet.nodes.iter().enumerate() {
        queue.heartbeat(NodeStatus::new(node(number), pool())).await?;
    }
    fleet.gateway.gateway_heartbeat(pool(), &gateway(), &[]).await?;
    Ok(())
}

fn over() -> Settlement {
    let usage = Usage { prompt_tokens: PROMPT as u32, cached_tokens: 0, completion_tokens: 50, prefill_began: true };
    Settlement::Over { outcome: Outcome::Stop, usage }
}

/// How long the four steps of one cycle, and its notice, took.
async fn cycle(fleet: &Fleet, number: usize) -> anyhow::Result<[Duration; 5]> {
    let queue = &fleet.nodes[number % NUM_NODES];
    let began = Instant::now();
    fleet.gateway.submit(submission(number)).await?;
    let submitted = began.elapsed();
    let delivery = queue.claim(wish(number % NUM_NODES, 1)).await?.pop().context("a job waits")?;
    let claimed = began.elapsed();
    let progress = LeaseProgress { lease: delivery.lease.clone(), output_tokens: 25 };
    queue.renew(pool(), &[progress]).await?;
    let renewed = began.elapsed();
    queue.settle(pool(), &delivery.lease, over()).await?;
    let settled = began.elapsed();
    let told = fleet.gateway.next_notices(pool(), &gateway(), Duration::from_secs(5)).await?;
    let heard = began.elapsed();
    acknowledge(fleet, told.into_iter().map(|notice| notice.job).collect()).await?;
    Ok([submitted, claimed - submitted, renewed - claimed, settled - renewed, heard - settled])
}

async fn acknowledge(fleet: &Fleet, jobs: Vec<JobId>) -> anyhow::Result<()> {
    let requests: Vec<_> = jobs.into_iter().map(|job| job.request).collect();
    fleet.gateway.acknowledge(pool(), &requests).await?;
    Ok(())
}

async fn alone(fleet: &Fleet, time: Duration) -> anyhow::Result<f64> {
    live(fleet).await?;
    let (began, mut num) = (Instant::now(), 0_usize);
    while began.elapsed() < time {
        cycle(fleet, num).await?;
        num += 1;
    }
    Ok(num as f64 / began.elapsed().as_secs_f64())
}

/// As many cycles a second as the store carries: the gateway submits what was settled anew, nodes wait at their bells, claim several
/// at once and renew each once.
async fn together(fleet: &Fleet, time: Duration) -> anyhow::Result<f64> {
    live(fleet).await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let nodes: Vec<_> = fleet
        .nodes
        .iter()
        .enumerate()
        .map(|(number, queue)| tokio::spawn(work(Arc::clone(queue), number, Arc::clone(&is_over))))
        .collect();
    let (began, settled) = (Instant::now(), AtomicUsize::new(0));
    for number in 0..TOGETHER {
        fleet.gateway.submit(submission(number)).await?;
    }
    let mut next = TOGETHER;
    while began.elapsed() < time {
        let told = fleet.gateway.next_notices(pool(), &gateway(), Duration::from_secs(1)).await?;
        let jobs: Vec<_> = told
            .into_iter()
            .filter(|notice| matches!(notice.kind, NoticeKind::Settled(_)))
            .map(|notice| notice.job)
            .collect();
        settled.fetch_add(jobs.len(), Ordering::Relaxed);
        let submissions = jobs.iter().enumerate().map(|(place, _)| fleet.gateway.submit(submission(next + place)));
        futures::future::try_join_all(submissions).await?;
        next += jobs.len();
        acknowledge(fleet, jobs).await?;
    }
    let rate = settled.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    is_over.store(true, Ordering::Relaxed);
    for node in nodes {
        node.await??;
    }
    // What is left is taken away, so that the next measurement begins with nothing.
    for (number, queue) in fleet.nodes.iter().enumerate() {
        for delivery in queue.claim(wish(number, usize::MAX)).await? {
            queue.settle(pool(), &delivery.lease, over()).await?;
        }
    }
    let told = fleet.gateway.next_notices(pool(), &gateway(), Duration::from_millis(100)).await?;
    acknowledge(fleet, told.into_iter().map(|notice| notice.job).collect()).await?;
    Ok(rate)
}

async fn work(queue: Arc<dyn JobQueue>, number: usize, is_over: Arc<AtomicBool>) -> anyhow::Result<()> {
    while !is_over.load(Ordering::Relaxed) {
        let deliveries = queue.claim(wish(number, AT_ONCE)).await?;
        if deliveries.is_empty() {
            queue.wait(&wish(number, AT_ONCE), Duration::from_millis(100)).await?;
            continue;
        }
        let progress: Vec<_> = deliveries
            .iter()
            .map(|delivery| LeaseProgress { lease: delivery.lease.clone(), output_tokens: 25 })
            .collect();
        queue.renew(pool(), &progress).await?;
        let settlements = deliveries.iter().map(|delivery| queue.settle(pool(), &delivery.lease, over()));
        futures::future::try_join_all(settlements).await?;
    }
    Ok(())
}

/// How long each step took, at a rate that leaves room.
async fn paced(fleet: &Fleet, time: Duration) -> anyhow::Result<[(&'static str, Vec<Duration>); 5]> {
    live(fleet).await?;
    let mut steps = ["submit", "claim", "renew", "settle", "from there to its notice"].map(|name| (name, Vec::new()));
    let mut ticks = interval(Duration::from_secs(1) / RATE);
    let began = Instant::now();
    let mut number = 0;
    while began.elapsed() < time {
        ticks.tick().await;
        for (step, took) in steps.iter_mut().zip(cycle(fleet, number).await?) {
            step.1.push(took);
        }
        number += 1;
    }
    Ok(steps)
}

/// The processor time that the server has used.
fn processor(server: &Redis) -> anyhow::Result<Duration> {
    let about = server.cli(&["INFO", "cpu"]);
    let seconds = |name: &str| {
        let value = about.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.context("INFO cpu")?.trim().parse::<f64>().context("INFO cpu")
    };
    Ok(Duration::from_secs_f64(seconds("used_cpu_user")? + seconds("used_cpu_sys")?))
}

/// What the server says of its commands that were called most: name, calls, microseconds each.
fn functions(server: &Redis) -> anyhow::Result<Vec<(String, u64, f64)>> {
    let about = server.cli(&["INFO", "commandstats"]);
    let mut all = Vec::new();
    for line in about.lines().filter_map(|line| line.strip_prefix("cmdstat_")) {
        let (name, numbers) = line.split_once(':').context("INFO commandstats")?;
        let number = |key: &str| {
            let value = numbers.trim().split(',').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            value.context("INFO commandstats")?.parse::<f64>().context("INFO commandstats")
        };
        all.push((name.to_owned(), number("calls")? as u64, number("usec_per_call")?));
    }
    all.retain(|(name, _, _)| matches!(name.as_str(), "fcall" | "xread"));
    Ok(all)
}
