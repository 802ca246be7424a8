//! Gateways and nodes over a network that fails, under virtual time and by a seed: whatever is cut, silent, stopped, killed,
//! drained or started anew, each answer that is followed to its end has all its tokens once and in order, each job is
//! settled once, and nothing is left open.
//!
//! `SOUK_SEED=n` runs one seed, `SOUK_SEEDS=n` so many.

#![expect(clippy::unwrap_used, reason = "a test fails where something is not as it is set up")]

mod gateway;
mod net;
mod node;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use souk_queue::{JobQueue as _, MemoryQueue, QueueConfig};
use souk_testkit::Random;
use souk_wire::WireSettings;
use tokio::time::{Instant, sleep, timeout};

use crate::gateway::{Client, Gateway, pool};
use crate::net::{Mode, Net};
use crate::node::Node;

const ADDRESSES: [&str; 2] = ["gateway-0", "gateway-1"];
const NUM_NODES: usize = 3;
const NUM_JOBS: usize = 14;
const NUM_FAULTS: usize = 10;
/// Longest time between two faults: all of them then happen while there are jobs.
const PAUSE_MS: u64 = 1200;
/// How many seeds the suite runs, in about half a minute.
const NUM_SEEDS: u64 = 2000;

/// Runs what a seed says.
fn simulate(seed: u64) -> Figures {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { timeout(Duration::from_secs(3600), World::new(seed).run()).await.expect("it ends") })
}

/// What a seed came to, so that nobody believes in faults that were none.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    complete: usize,
    left: usize,
    dialled: usize,
    killed_nodes: usize,
    killed_gateways: usize,
    drained: usize,
}

struct World {
    random: Random,
    net: Net,
    queue: Arc<MemoryQueue>,
    settings: WireSettings,
    nodes: Vec<Option<Node>>,
    figures: Figures,
}

impl World {
    fn new(seed: u64) -> Self {
        let net = Net::new(seed ^ 0x006e_6574);
        // Faults count as deliveries; here there are more of them than an operator would stand. The jobs of a gateway that is
        // gone end among the dead letters.
        let config = QueueConfig { max_deliveries: 40, ..QueueConfig::default() };
        let queue = Arc::new(MemoryQueue::new(config));
        let settings = WireSettings { idle: Duration::from_secs(5), ..WireSettings::default() };
        let nodes = (0..NUM_NODES).map(|_| None).collect();
        let mut world = Self { random: Random::new(seed), net, queue, settings, nodes, figures: Figures::default() };
        (0..NUM_NODES).for_each(|number| world.start_node(number));
        world
    }

    fn start_node(&mut self, number: usize) {
        let pace = Duration::from_millis(60 + self.random.below(160));
        self.nodes[number] = Some(Node::start(number, &self.net, &self.queue, &self.settings, pace));
    }

    fn start_gateway(&self, address: &str) -> Gateway {
        Gateway::start(address, &self.net, &self.queue, &self.settings)
    }

    async fn run(mut self) -> Figures {
        let gateways = ADDRESSES.map(|address| Arc::new(self.start_gateway(address)));
        // One that is killed with its clients, and another in its place.
        let doomed = Arc::new(self.start_gateway("gateway-2"));
        let asked: Vec<_> = (0..NUM_JOBS)
            .map(|number| {
                let (gateway, after) = (Arc::clone(&gateways[number % 2]), self.random.below(8000));
                let num_tokens = 1 + self.random.below(30) as u32;
                let client = match self.random.below(8) {
                    0 => Client::Leaves(1 + self.random.below(12) as usize),
                    1 => Client::Reads(Duration::from_millis(self.random.below(300))),
                    _ => Client::Reads(Duration::ZERO),
                };
                tokio::spawn(async move {
                    sleep(Duration::from_millis(after)).await;
                    gateway.ask(num_tokens, client).await
                })
            })
            .collect();
        let theirs = Arc::clone(&doomed);
        let clients = tokio::spawn(async move {
            join_all((0..3).map(|_| theirs.ask(60, Client::Reads(Duration::ZERO)))).await;
        });
        let mut doomed = Some((doomed, clients));
        for _ in 0..NUM_FAULTS {
            sleep(Duration::from_millis(self.random.below(PAUSE_MS))).await;
            self.fail(&mut doomed).await;
        }
        self.heal();
        let answered = timeout(Duration::from_secs(600), join_all(asked)).await.expect("all answers end");
        if let Some((gateway, clients)) = doomed.take() {
            self.kill_gateway(gateway, &clients);
        }
        let mut ids = Vec::new();
        for answer in answered {
            let (id, answered) = answer.unwrap();
            self.figures.complete += usize::from(answered.is_complete);
            self.figures.left += usize::from(!answered.is_complete);
            ids.push(id);
        }
        self.check(&gateways, &ids).await;
        self.figures.dialled = self.net.num_dialled();
        self.figures
    }

    /// Something happens.
    async fn fail(&mut self, doomed: &mut Option<(Arc<Gateway>, tokio::task::JoinHandle<()>)>) {
        let number = self.random.below(NUM_NODES as u64) as usize;
        let address = ADDRESSES[self.random.below(2) as usize];
        match self.random.below(8) {
            0 => self.net.set(Mode::Cut, |node, to| node == number && to == address),
            1 => self.net.set(Mode::Cut, |_, to| to == address),
            2 => {
                self.net.set(Mode::Silent, |node, _| node == number);
                sleep(Duration::from_millis(self.random.below(4000))).await;
                self.net.set(Mode::Pass, |_, _| true);
            }
            3 => {
                // As by a signal: neither the process nor what it was sent moves on.
                if let Some(node) = &self.nodes[number] {
                    node.stop(true);
                }
                self.net.set(Mode::Silent, |node, _| node == number);
                sleep(Duration::from_millis(self.random.below(20_000))).await;
                self.heal();
            }
            4 => {
                self.nodes[number] = None;
                self.net.set(Mode::Cut, |node, _| node == number);
                self.figures.killed_nodes += 1;
                sleep(Duration::from_millis(self.random.below(2000))).await;
                self.start_node(number);
            }
            5 => {
                if let Some(node) = self.nodes[number].take() {
                    node.drain().await;
                    self.figures.drained += 1;
                }
                self.start_node(number);
            }
            6 => {
                if let Some((gateway, clients)) = doomed.take() {
                    self.kill_gateway(gateway, &clients);
                }
            }
            _ => {
                self.net.set(Mode::Silent, |_, to| to == address);
                sleep(Duration::from_millis(self.random.below(1500))).await;
                self.net.set(Mode::Cut, |node, to| node == number && to == address);
                self.net.set(Mode::Pass, |_, _| true);
            }
        }
    }

    fn kill_gateway(&mut self, gateway: Arc<Gateway>, clients: &tokio::task::JoinHandle<()>) {
        clients.abort();
        self.net.set(Mode::Cut, |_, to| to == "gateway-2");
        self.net.listen("gateway-2", None);
        drop(gateway);
        self.figures.killed_gateways += 1;
        if self.random.below(2) == 0 {
            // Another is at the same address at once, and wants none of the old one's jobs.
            let another = self.start_gateway("gateway-2");
            tokio::spawn(async move {
                sleep(Duration::from_secs(3600)).await;
                drop(another);
            });
        }
    }

    fn heal(&self) {
        self.net.set(Mode::Pass, |_, _| true);
        self.nodes.iter().flatten().for_each(|node| node.stop(false));
    }

    /// That nothing is left, and each job counted once.
    async fn check(&self, gateways: &[Arc<Gateway>], ids: &[souk_protocol::JobId]) {
        let began = Instant::now();
        loop {
            let stats = self.queue.stats(pool()).await.unwrap();
            let held: usize = self.nodes.iter().flatten().map(Node::num_held).sum();
            if stats.queued + stats.running + held == 0 {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(600), "left: {stats:?}, {held} held");
            sleep(Duration::from_millis(100)).await;
        }
        // Streams without a job are closed.
        sleep(self.settings.idle * 2).await;
        let streams: usize = self.nodes.iter().flatten().map(Node::num_streams).sum();
        assert_eq!(streams, 0, "streams are left at nodes");
        for gateway in gateways {
            let Gateway { receiver, hub, .. } = &**gateway;
            let left = (receiver.num_streams(), receiver.num_attempts(), hub.num_subscriptions());
            assert_eq!(left, (0, 0, 0), "streams, attempts and subscriptions are left");
        }
        let settled: Vec<_> = gateways.iter().map(|gateway| gateway.settlements()).collect();
        for id in ids {
            let times: usize = settled.iter().filter_map(|settled| settled.get(id)).sum();
            assert_eq!(times, 1, "{id} is settled once");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "which seeds a test runs is no setting of the server")]
fn wanted(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn answers_are_whole_and_jobs_count_once_whatever_fails() {
    let seeds = match (wanted("SOUK_SEED"), wanted("SOUK_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(NUM_SEEDS),
    };
    let mut all = Figures::default();
    for seed in seeds {
        let figures = std::panic::catch_unwind(|| simulate(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        all.complete += figures.complete;
        all.left += figures.left;
        all.dialled += figures.dialled;
        all.killed_nodes += figures.killed_nodes;
        all.killed_gateways += figures.killed_gateways;
        all.drained += figures.drained;
    }
    println!("{all:?}");
    assert!(all.complete > 0 && all.dialled > 0);
}
