//! From a prepared request to jobs on the queue.

use std::sync::Arc;
use std::time::Duration;

use futures::future::select_all;
use souk_protocol::{AdapterUse, Digest, GenerateJob, JobId, KeyId, Outcome, RequestId, TenantId};
use tokio::time::Instant;

use super::authorise::CalledModel;
use super::follow::{Journey, RunningJob};
use super::open_jobs::{Asked, Ending};
use super::prepare::Prepared;
use super::reservation::SharedReservation;
use crate::crash_points::{self, CrashPoint};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::lanes::{Lanes, NoNode, SentJob};
use crate::limits::NodesAre;
use crate::metrics::{self, Stage};
use crate::request::GenerationParams;
use crate::request::sampling::for_choice;

/// All jobs of one request.
pub(crate) struct Order<'a> {
    pub(crate) request: RequestId,
    pub(crate) tenant: TenantId,
    /// The key that asks.
    pub(crate) key: KeyId,
    pub(crate) model: &'a CalledModel,
    /// The components of the hooks around its answers.
    pub(crate) hooks: Vec<Digest>,
    pub(crate) prepared: &'a Prepared,
    /// Alternatives to report per generated token; `None` reports no logprobs.
    pub(crate) logprobs: Option<u8>,
    /// The same for prompt tokens.
    pub(crate) prompt_logprobs: Option<u8>,
    pub(crate) params: &'a GenerationParams,
    /// What they hold together.
    pub(crate) reservation: &'a SharedReservation,
}

/// Queues a job for each choice of each prompt: `index = prompt * n + choice`. If one is refused, those before it are
/// cancelled as they are dropped, and count as refused.
pub(crate) async fn dispatch(gateway: &Gateway, order: Order<'_>) -> Result<Vec<RunningJob>, ApiError> {
    let (base, timeout) = (&order.model.base, gateway.limits().request_timeout);
    let adapters = order.model.adapters.iter();
    let adapters: Vec<AdapterUse> = adapters
        .map(|(adapter, weight)| AdapterUse { digest: adapter.digest, weight: *weight, grant: adapter.grant.clone() })
        .collect();
    let journey = Journey {
        asked: Arc::new(Asked {
            tenant: order.tenant.clone(),
            key: order.key.clone(),
            names: order.model.adapters.iter().map(|(adapter, _)| adapter.name.clone()).collect(),
            hooks: order.hooks,
            at: order.model.asked_at,
        }),
        deadline: Instant::now() + timeout,
        ending: Arc::new(Ending::default()),
        account: (gateway.limits().nodes == NodesAre::Apart).then(|| order.reservation.account()),
    };
    let num_jobs = order.prepared.prompts.len() * order.params.n as usize;
    let lanes = gateway.lanes_of(base);
    let mut sent = send(gateway, lanes, adapters.first(), u32::try_from(num_jobs).unwrap_or(u32::MAX)).await?;
    let (mut running, began) = (Vec::with_capacity(num_jobs), Instant::now());
    for prompt in &order.prepared.prompts {
        metrics::prompt_tokens(prompt.tokens.len());
        for choice in 0..order.params.n {
            let job = GenerateJob {
                id: JobId { request: order.request.clone(), index: u32::try_from(running.len()).unwrap_or(u32::MAX) },
                tenant: order.tenant.clone(),
                pool: base.pool(),
                prompt: prompt.tokens.clone(),
                resume: Vec::new(),
                adapters: adapters.clone(),
                sampling: for_choice(&order.prepared.sampling, choice),
                constraint: order.params.constraint.as_ref().map(|constraint| Arc::clone(&constraint.spec)),
                max_tokens: prompt.max_tokens,
                eos_tokens: order.prepared.eos_tokens.clone(),
                logprobs: order.logprobs,
                prompt_logprobs: order.prompt_logprobs,
                time_left: Some(journey.deadline.saturating_duration_since(Instant::now())),
            };
            let reservation = Arc::clone(order.reservation);
            let sent = sent.jobs.pop();
            let submitted = RunningJob::submit(gateway, job, sent, &journey, order.params.priority, reservation).await;
            running.push(submitted.inspect_err(|_| journey.ending.set(Outcome::Refused))?);
            crash_points::pass(CrashPoint::Queued);
        }
    }
    metrics::stage(Stage::Submit, began.elapsed());
    if sent.waits_for_node && !wait_for_node(lanes, gateway.limits().wait_for_node, &mut running).await {
        journey.ending.set(Outcome::Refused);
        return Err(ApiError::NoNode(base.id.clone()));
    }
    Ok(running)
}

/// Waits for the pool's first node, at most for `limit`; returns whether there is something to follow. There is also where a job has
/// ended meanwhile, by a take-down, a revoked key, its deadline or a drain: its caller hears so at once. Who leaves drops this wait.
async fn wait_for_node(lanes: &Lanes, limit: Duration, running: &mut [RunningJob]) -> bool {
    let heard = select_all(running.iter_mut().map(|job| Box::pin(job.hear())));
    tokio::select! {
        biased;
        has_node = lanes.wait_for_node(limit) => has_node,
        _ = heard => true,
    }
}

/// The lane of a request's jobs.
struct Sent {
    /// One for each job; empty where any node will do.
    jobs: Vec<SentJob>,
    /// There is no node: they wait for one in the queue, where who starts nodes can see them.
    waits_for_node: bool,
}

/// One lane for all jobs of a request, which share adapters and prompts; the first adapter decides. Any node will do for the base
/// model itself.
async fn send(
    gateway: &Gateway,
    lanes: &Arc<Lanes>,
    adapter: Option<&AdapterUse>,
    num_jobs: u32,
) -> Result<Sent, ApiError> {
    match lanes.send(adapter, num_jobs).await {
        Ok(jobs) => Ok(Sent { jobs, waits_for_node: false }),
        Err(NoNode) if gateway.limits().wait_for_node.is_zero() => Err(ApiError::NoNode(lanes.base_id().to_owned())),
        Err(NoNode) => Ok(Sent { jobs: Vec::new(), waits_for_node: true }),
    }
}
