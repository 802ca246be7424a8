//! One way of routing, from the first request to the last second.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use souk_protocol::{Digest, NodeId, PoolId};
use souk_queue::{LaneStatus, NodeStatus};

use super::arguments::Scale;
use super::chooser::{Chooser, Routing};
use super::clock::{Moment, micros, seconds};
use super::idle::IdleNodes;
use super::lanes::{Lanes, Tenant, Waiting};
use super::node::{Adapter, Found, Job, Node};
use super::shares::Evenness;
use super::tally::{Began, RoutingFigures, Tally};
use crate::random::{Choice, Generator};

/// Time between two heartbeats of a node.
const BEAT_EVERY: Moment = 1_000_000;
/// Silence after which a node counts as lost, as `queue.heartbeat_timeout_s` says.
const LAPSES_AFTER: Moment = 5_000_000;
/// Time after which a lane is behind, as `queue.steal_after_ms` says.
const STEAL_AFTER: Moment = 100_000;
/// Time between two readings of a gateway, or a millisecond for each node, as gateways have it.
const READ_EVERY: Moment = 250_000;
/// Time between two looks at the balance.
const SAMPLE_EVERY: Moment = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A node says how it is.
    Beat(usize),
    /// A gateway reads the lanes.
    Read(usize),
    /// A request comes.
    Arrive,
    /// A lane may be behind.
    Behind,
    /// The attempt of a job on a node ends.
    End { node: usize, job: Job, attempt: u32 },
    /// A node is lost, and another joins.
    Lose,
    /// The heartbeat of a lost node lapses.
    Lapse(usize),
    /// The balance is looked at.
    Sample,
}

struct JobState {
    adapter: Adapter,
    tenant: Tenant,
    gateway: usize,
    arrived: Moment,
    /// What is left of its answer.
    left: Moment,
    /// The node that it was sent to.
    sent: Option<NodeId>,
    attempt: u32,
    /// When its answer begins, of this attempt.
    begins: Moment,
}

pub(super) struct Simulation<'a> {
    scale: &'a Scale,
    routing: Routing,
    epoch: Instant,
    now: Moment,
    events: BinaryHeap<Reverse<(Moment, u64, Event)>>,
    num_events: u64,
    /// What is asked for and who is lost: the same for each way of routing.
    requests: Generator,
    losses: Generator,
    /// All other choices.
    choices: Generator,
    popularity: Choice,
    digests: Vec<Digest>,
    tenant_of: Vec<Tenant>,
    nodes: Vec<Node>,
    by_id: HashMap<NodeId, usize>,
    /// What each said last; `None` of those that are lost.
    said: Vec<Option<NodeStatus>>,
    gateways: Vec<Chooser>,
    lanes: Lanes,
    idle: IdleNodes,
    jobs: Vec<JobState>,
    /// Live nodes that have each adapter.
    copies: Vec<u32>,
    tally: Tally,
}

impl<'a> Simulation<'a> {
    pub(super) fn new(scale: &'a Scale, routing: Routing) -> Self {
        let epoch = Instant::now();
        let mut tenants = Generator::new(scale.seed ^ 0x7e4a);
        let mut simulation = Self {
            scale,
            routing,
            epoch,
            now: 0,
            events: BinaryHeap::new(),
            num_events: 0,
            requests: Generator::new(scale.seed),
            losses: Generator::new(scale.seed ^ 0x1055),
            choices: Generator::new(scale.seed ^ 0xc401),
            popularity: Choice::zipf(scale.adapters, scale.zipf),
            digests: (0..scale.adapters).map(|adapter| Digest::of(&adapter.to_le_bytes())).collect(),
            tenant_of: (0..scale.adapters).map(|_| tenants.index(scale.tenants)).collect(),
            nodes: Vec::new(),
            by_id: HashMap::new(),
            said: Vec::new(),
            gateways: (0..scale.gateways).map(|_| Chooser::new(routing, epoch)).collect(),
            lanes: Lanes::new(scale.tenants),
            idle: IdleNodes::default(),
            jobs: Vec::new(),
            copies: vec![0; scale.adapters],
            tally: Tally::new(scale.tenants),
        };
        (0..scale.nodes).for_each(|_| simulation.join());
        for gateway in 0..scale.gateways {
            // After the first heartbeats, and not all at once.
            simulation.at(simulation.read_every() * gateway as u64 / scale.gateways as u64 + 1, Event::Read(gateway));
        }
        simulation.at(2, Event::Arrive);
        simulation.at(SAMPLE_EVERY, Event::Sample);
        simulation.lose_next();
        simulation
    }

    pub(super) fn run(mut self) -> RoutingFigures {
        self.pass();
        self.tally.figures(self.routing.as_str(), &self.copies)
    }

    /// How even it is to tenants.
    pub(super) fn evenness(mut self) -> Option<Evenness> {
        self.pass();
        self.tally.shares.evenness()
    }

    /// Lets all of its time pass.
    fn pass(&mut self) {
        let end = micros(self.scale.warm_up_s + self.scale.measured_s);
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at >= end {
                break;
            }
            self.now = at;
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Beat(node) => self.beat(node),
            Event::Read(gateway) => self.read(gateway),
            Event::Arrive => self.arrive(),
            Event::Behind => self.help(),
            Event::End { node, job, attempt } => self.end(node, job, attempt),
            Event::Lose => self.lose(),
            Event::Lapse(node) => self.lapse(node),
            Event::Sample => self.sample(),
        }
    }

    fn at(&mut self, moment: Moment, event: Event) {
        self.num_events += 1;
        self.events.push(Reverse((moment, self.num_events, event)));
    }

    fn instant(&self) -> Instant {
        self.epoch + Duration::from_micros(self.now)
    }

    fn read_every(&self) -> Moment {
        READ_EVERY.max(1000 * self.scale.nodes as u64)
    }

    /// A node joins, with nothing in memory.
    fn join(&mut self) {
        let at = self.nodes.len();
        let id = NodeId::from_stored(format!("node_{at:06}"));
        self.by_id.insert(id.clone(), at);
        self.nodes.push(Node::new(id, self.scale.places, self.scale.adapters_in_memory));
        self.said.push(None);
        self.beat_now(at);
        let stagger = self.choices.index(BEAT_EVERY as usize) as u64;
        self.at(self.now + 1 + stagger, Event::Beat(at));
        self.claim(at);
    }

    fn beat(&mut self, node: usize) {
        if self.nodes[node].is_live {
            self.beat_now(node);
            self.at(self.now + BEAT_EVERY, Event::Beat(node));
        }
    }

    fn beat_now(&mut self, node: usize) {
        let mut status = self.nodes[node].status(PoolId(Digest::of(b"base")), &self.digests, self.now);
        if !self.gateways[0].reads_residency() {
            status.resident.clear();
        }
        self.said[node] = Some(status);
    }

    fn read(&mut self, gateway: usize) {
        let said = self.said.iter().enumerate();
        let lanes = said.filter_map(|(at, said)| {
            let node = said.clone()?;
            Some(LaneStatus { node, queued: self.lanes.queued(Some(at)) })
        });
        let lanes = lanes.collect();
        let now = self.instant();
        self.gateways[gateway].refresh(lanes, now);
        self.at(self.now + self.read_every(), Event::Read(gateway));
    }

    fn arrive(&mut self) {
        let gap = self.requests.exponential(1.0 / self.scale.requests_per_second());
        self.at(self.now + micros(gap).max(1), Event::Arrive);
        let adapter = self.popularity.draw(&mut self.requests);
        let gateway = self.requests.index(self.scale.gateways);
        let left = micros(self.requests.exponential(self.scale.answer_s)).max(1);
        let (job, now) = (self.jobs.len(), self.instant());
        let sent = self.gateways[gateway].choose(&self.digests[adapter], now, &mut self.choices);
        let lane = sent.as_ref().map(|node| self.by_id[node]);
        let tenant = self.tenant_of[adapter];
        self.tally.shares.asked(tenant, seconds(left));
        self.jobs.push(JobState { adapter, tenant, gateway, arrived: self.now, left, sent, attempt: 0, begins: 0 });
        self.wait(job, lane);
    }

    /// A job waits in a lane, or in everyone's where that lane's node is known to be lost.
    fn wait(&mut self, job: Job, lane: Option<usize>) {
        let lane = lane.filter(|node| self.said[*node].is_some());
        let JobState { tenant, left, .. } = self.jobs[job];
        self.lanes.enqueue(lane, job, tenant, self.now, left as f64);
        let taker = match lane {
            Some(node) => Some(node),
            None => self.idle.draw(&mut self.choices),
        };
        taker.into_iter().for_each(|node| self.claim(node));
        self.at(self.now + STEAL_AFTER, Event::Behind);
    }

    /// Idle nodes take from lanes that are behind.
    fn help(&mut self) {
        while self.now >= STEAL_AFTER && self.lanes.behind(self.now - STEAL_AFTER).is_some() {
            let Some(node) = self.idle.draw(&mut self.choices) else { return };
            self.claim(node);
        }
    }

    /// A node takes what it has places for.
    fn claim(&mut self, node: usize) {
        while self.nodes[node].has_place() {
            let near = self.lanes.take(&[Some(node), None]);
            let next = near.or_else(|| {
                let behind = self.lanes.behind(self.now.checked_sub(STEAL_AFTER)?)?;
                self.lanes.take(&[behind])
            });
            match next {
                Some(waiting) => self.begin(node, waiting),
                None => break,
            }
        }
        self.idle.set(node, self.nodes[node].has_place());
    }

    fn begin(&mut self, node: usize, waiting: Waiting) {
        let job = waiting.job;
        let adapter = self.jobs[job].adapter;
        let found = self.nodes[node].begin(job, adapter, self.now, micros(self.scale.load_s));
        let was_elsewhere = self.copies[adapter] > 0;
        let begins = match found {
            Found::Here => self.now,
            Found::Coming(ready) => ready,
            Found::Nowhere(gone) => {
                gone.iter().for_each(|gone| self.copies[*gone] -= 1);
                self.copies[adapter] += 1;
                self.now + micros(self.scale.load_s)
            }
        };
        let state = &mut self.jobs[job];
        state.attempt += 1;
        state.begins = begins;
        let (attempt, left) = (state.attempt, state.left);
        if attempt == 1 {
            let is_measured = self.now >= micros(self.scale.warm_up_s);
            self.tally.shares.served(state.tenant, seconds(left), is_measured);
        }
        if attempt == 1 && state.arrived >= micros(self.scale.warm_up_s) {
            let was_stolen = state.sent.as_ref().is_none_or(|sent| *sent != self.nodes[node].id);
            let (tenant, waited) = (state.tenant, begins - state.arrived);
            self.tally.began(Began { tenant, waited, found, was_elsewhere, was_stolen });
        }
        self.at(begins + left, Event::End { node, job, attempt });
    }

    fn end(&mut self, node: usize, job: Job, attempt: u32) {
        if !self.nodes[node].is_live || self.jobs[job].attempt != attempt {
            return;
        }
        self.nodes[node].end(job, self.now);
        let JobState { gateway, sent, .. } = &self.jobs[job];
        if let Some(sent) = sent {
            self.gateways[*gateway].ended(sent);
        }
        self.claim(node);
    }

    /// A node is lost, and nobody knows it yet; another joins.
    fn lose(&mut self) {
        let live: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_live).collect();
        let node = live[self.losses.index(live.len())];
        self.nodes[node].is_live = false;
        self.idle.set(node, false);
        let held: Vec<Adapter> = self.nodes[node].held().collect();
        held.iter().for_each(|adapter| self.copies[*adapter] -= 1);
        for job in self.nodes[node].running.keys() {
            // What was answered is not answered again.
            let state = &mut self.jobs[*job];
            state.left = state.left.saturating_sub(self.now.saturating_sub(state.begins)).max(1);
        }
        self.at(self.now + LAPSES_AFTER, Event::Lapse(node));
        self.join();
        self.lose_next();
    }

    fn lose_next(&mut self) {
        let per_second = self.scale.churn_percent / 100.0 * self.scale.nodes as f64 / 60.0;
        if per_second > 0.0 {
            let gap = self.losses.exponential(1.0 / per_second);
            self.at(self.now + micros(gap).max(1), Event::Lose);
        }
    }

    /// The queue notices that a node is lost: what waits for it is everyone's, and what it ran waits again.
    fn lapse(&mut self, node: usize) {
        self.said[node] = None;
        self.lanes.open(node);
        let running: Vec<Job> = std::mem::take(&mut self.nodes[node].running).into_keys().collect();
        running.into_iter().for_each(|job| self.wait(job, None));
        self.help();
    }

    fn sample(&mut self) {
        self.at(self.now + SAMPLE_EVERY, Event::Sample);
        if self.now < micros(self.scale.warm_up_s) {
            return;
        }
        let live = self.nodes.iter().enumerate().filter(|(_, node)| node.is_live);
        let jobs = live.map(|(at, node)| node.running.len() + self.lanes.queued(Some(at)));
        let jobs = jobs.collect();
        self.tally.sample(jobs);
    }
}
