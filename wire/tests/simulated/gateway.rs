//! A gateway without HTTP and texts: clients that follow their jobs as the real one's do, the real receiver, the real hub,
//! and what takes lost jobs back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use souk_protocol::{
    Digest, GatewayId, GenerateJob, JobEvent, JobId, PoolId, RequestId, SamplingParams, TenantId, TokenId,
};
use souk_queue::{
    EventHub, JobQueue, MemoryQueue, NoticeKind, Priority, ReplyTo, Settled, Submission, take_back_losses,
};
use souk_wire::{Receiver, VerifyNode, WireSettings};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::net::Net;

pub(crate) fn pool() -> PoolId {
    PoolId(Digest::of(b"base"))
}

/// The token at a place of a job's answer: as with sampling by seed and position, every attempt yields the same.
pub(crate) fn token_at(job: &JobId, place: u32) -> TokenId {
    let mixed = job
        .request
        .as_str()
        .bytes()
        .fold(u64::from(job.index), |mixed, byte| mixed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    (souk_testkit::hash(mixed.wrapping_add(u64::from(place))) % 50_000) as TokenId
}

/// Lets everybody in: tokens are no matter of the network.
pub(crate) struct Anybody;

#[async_trait::async_trait]
impl VerifyNode for Anybody {
    async fn verify(&self, _token: &str) -> Result<String, String> {
        Ok("node".to_owned())
    }
}

/// One process. Dropping it is killing it.
pub(crate) struct Gateway {
    pub(crate) hub: EventHub,
    pub(crate) receiver: Receiver,
    reply_to: ReplyTo,
    queue: Arc<MemoryQueue>,
    open: OpenJobs,
    settled: Arc<Mutex<HashMap<JobId, usize>>>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

/// Who hears what the queue says of a job.
type OpenJobs = Arc<Mutex<HashMap<JobId, mpsc::UnboundedSender<NoticeKind>>>>;

/// How a client takes its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Client {
    /// All of it, at this pace for each event.
    Reads(Duration),
    /// It leaves after so many events.
    Leaves(usize),
}

impl Gateway {
    pub(crate) fn start(address: &str, net: &Net, queue: &Arc<MemoryQueue>, settings: &WireSettings) -> Self {
        let (hub, id) = (EventHub::new(), GatewayId::new());
        let receiver = Receiver::new(settings.clone(), id.clone(), vec![pool()], hub.clone(), Arc::new(Anybody));
        net.listen(address, Some(receiver.clone()));
        let (open, settled): (OpenJobs, Arc<Mutex<HashMap<JobId, usize>>>) = Default::default();
        let failover = {
            let (open, queue) = (Arc::clone(&open), Arc::clone(queue) as Arc<dyn JobQueue>);
            let pool_of = move |job: &JobId| open.lock().unwrap().contains_key(job).then(pool);
            take_back_losses(hub.losses(), queue, pool_of, |_| {})
        };
        let notices = carry(Arc::clone(queue), id.clone(), Arc::clone(&open), Arc::clone(&settled));
        let tasks = vec![AbortOnDropHandle::new(tokio::spawn(failover)), AbortOnDropHandle::new(tokio::spawn(notices))];
        let reply_to = ReplyTo { gateway: id, advertise: Some(address.to_owned()) };
        Self { hub, receiver, reply_to, queue: Arc::clone(queue), open, settled, _tasks: tasks }
    }

    /// Submits a job of so many tokens and follows it to its settlement, as a client that behaves so.
    pub(crate) async fn ask(&self, num_tokens: u32, client: Client) -> (JobId, Answered) {
        let job = job(num_tokens);
        let id = job.id.clone();
        let (sender, mut notices) = mpsc::unbounded_channel();
        self.open.lock().unwrap().insert(id.clone(), sender);
        let mut events = self.hub.subscribe(id.clone(), EventHub::capacity_for(&job));
        let (reply_to, priority) = (self.reply_to.clone(), Priority::ORDINARY);
        let submission = Submission { job, lane: None, reply_to, priority, account: None, attempts: 0 };
        self.queue.submit(submission).await.unwrap();
        let (mut tokens, mut num_events, mut settled, mut is_complete) = (Vec::new(), 0, None, false);
        loop {
            let due = async {
                match settled {
                    // What the queue calls over and the node has said has to be here, or on its way within that time.
                    Some(at) => tokio::time::sleep_until(at + Duration::from_secs(5)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                event = events.next() => match event.expect("the stream ends with its last event").1 {
                    JobEvent::Started | JobEvent::PromptLogprobs(_) => {}
                    JobEvent::Tokens { offset, tokens: new } => {
                        assert_eq!(offset as usize, tokens.len(), "no gap and no repeat in {id}");
                        tokens.extend(new.iter().map(|token| token.id));
                    }
                    JobEvent::Finished { .. } => is_complete = true,
                    JobEvent::Failed(failure) => panic!("{id} failed: {failure}"),
                },
                notice = notices.recv() => {
                    match notice.expect("it is open") {
                        NoticeKind::Requeued => {
                            self.queue.resume(pool(), &id, events.tokens()).await.unwrap();
                        }
                        NoticeKind::Settled(Settled { untold, .. }) => {
                            assert_eq!(untold, None, "{id} has an end of its own");
                            settled = Some(Instant::now());
                        }
                    }
                    continue;
                }
                () = due => panic!("{id} is over, and its last event did not come"),
            }
            num_events += 1;
            let leaves = match client {
                Client::Reads(pace) => {
                    sleep(pace).await;
                    false
                }
                Client::Leaves(after) => num_events >= after,
            };
            if is_complete || leaves {
                break;
            }
        }
        let expected: Vec<_> = (0..tokens.len() as u32).map(|place| token_at(&id, place)).collect();
        assert_eq!(tokens, expected, "{id}");
        assert!(!is_complete || tokens.len() == num_tokens as usize, "{id} is complete");
        drop(events);
        if settled.is_none() {
            self.settle(&id, &mut notices, is_complete).await;
        }
        self.open.lock().unwrap().remove(&id);
        (id, Answered { is_complete })
    }

    /// Waits for the settlement as an account does: what is still under way is cancelled.
    async fn settle(&self, id: &JobId, notices: &mut mpsc::UnboundedReceiver<NoticeKind>, is_complete: bool) {
        if !is_complete {
            self.queue.cancel(pool(), id).await.unwrap();
        }
        loop {
            let notice = timeout(Duration::from_secs(120), notices.recv()).await;
            match notice.unwrap_or_else(|_| panic!("{id} was never settled")).expect("it is open") {
                NoticeKind::Settled(_) => return,
                NoticeKind::Requeued => {
                    self.queue.cancel(pool(), id).await.unwrap();
                }
            }
        }
    }

    /// How often each job was settled.
    pub(crate) fn settlements(&self) -> HashMap<JobId, usize> {
        self.settled.lock().unwrap().clone()
    }
}

/// What came of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) is_complete: bool,
}

async fn carry(queue: Arc<MemoryQueue>, id: GatewayId, open: OpenJobs, settled: Arc<Mutex<HashMap<JobId, usize>>>) {
    loop {
        for notice in queue.next_notices(pool(), &id, Duration::from_secs(30)).await.unwrap() {
            if matches!(notice.kind, NoticeKind::Settled(_)) {
                *settled.lock().unwrap().entry(notice.job.clone()).or_default() += 1;
            }
            if let Some(listener) = open.lock().unwrap().get(&notice.job) {
                let _ = listener.send(notice.kind);
            }
        }
    }
}

fn job(num_tokens: u32) -> GenerateJob {
    GenerateJob {
        id: JobId { request: RequestId::new(), index: 0 },
        tenant: TenantId::from_stored("tenant"),
        pool: pool(),
        prompt: vec![1, 2, 3],
        resume: Vec::new(),
        adapters: Vec::new(),
        sampling: SamplingParams::greedy(),
        constraint: None,
        max_tokens: num_tokens,
        eos_tokens: Vec::new(),
        logprobs: None,
        prompt_logprobs: None,
        time_left: None,
    }
}
