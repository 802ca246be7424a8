//! The queue for several gateways and nodes, in one Redis 7.0 or later.
//!
//! Each operation is one call of a function that Redis runs as one step (`redis/*.lua`), so a call that is dropped or whose answer
//! is lost leaves no half of it. The functions are loaded with each connection, under a name that has their version, so processes of
//! two versions share a server.
//!
//! # Where things are
//!
//! All keys of a pool are in one slot, `souk:{q…}:…` after its digest; what each is says the head of `redis/pool.lua`. A pool needs
//! about two kilobytes and what body and account take for a job that waits or runs, a quarter of a kilobyte for one that is over until
//! it is forgotten. `souk:{q…}:backlog` has the consumer group `nodes`, whose lag is the number of jobs that wait: what an autoscaler
//! reads.
//!
//! # Time
//!
//! Redis has no clock that is never set. A pool has one of its own, which each step moves on by what the server's has gone since the
//! last step: by nothing where that was set back, and by two seconds at most. Whoever lives says so each second, so that no more
//! is lost of true time; a server that stands still, or a pool that nobody asks anything, counts two seconds of it. A clock that is
//! set ahead thus takes two seconds off leases and deadlines, once. No time to live of a key decides anything; it only sees to it
//! that what nobody touches for a week is gone, and a clock that is set ahead by a week takes everything with it.
//!
//! # What happens when
//!
//! - **Redis is away or stalls.** Calls fail with [`QueueError::Unavailable`] within its timeouts. Nodes go on with what they have
//!   and renew when it is back; the time of the stall counts for two seconds, so leases outlive it.
//! - **An answer is lost.** Submitting again has no effect; a claim's jobs wait for the end of their leases; a settlement that is
//!   made again is refused as lost, and was made; notices and cancellations are kept until their reader says that it has them.
//! - **Redis loses its data.** It is a new queue, in another [`Life`]: leases are refused, and nodes stop what they run. Gateways
//!   submit again what they hold, numbered after the attempts that were ([`Submission::attempts`]); what is known already stays as
//!   it is.
//! - **A step fails half-way** (memory, a slot that is being moved). What it had written stays; each index is repaired by the next
//!   step that meets it, and a job that no index has any more is lost as with the data.

mod bell;
mod looking;
mod wire;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::Value;
use souk_protocol::{Fetchable, GatewayId, JobId, NodeId, PoolId, RequestId, TokenId};
use souk_redis::{Library, RedisSettings, Servers};

use self::looking::{Mailbox, Pools, Wait};
pub use self::wire::tag;
use crate::config::QueueConfig;
use crate::error::QueueError;
use crate::nodes::{LaneStatus, NodeStatus};
use crate::popular::{self, MOST_POPULAR_NAMED, Popular, most_popular};
use crate::port::JobQueue;
use crate::words::{
    Cancelled, Claim, DeadLetter, Delivered, Delivery, JobState, Lease, LeaseProgress, Life, NodeOrder, Notice,
    NumberedOrder, OrderNumber, Orphan, PoolStats, Settlement, Submission, Submitted,
};

/// The functions, in a library whose name has their version.
pub const LIBRARY: &str = concat!(
    include_str!("redis/pool.lua"),
    include_str!("redis/jobs.lua"),
    include_str!("redis/claim.lua"),
    include_str!("redis/steps.lua"),
    include_str!("redis/gateways.lua"),
    include_str!("redis/popular.lua"),
);
/// What the functions' names begin with.
const PREFIX: &str = "souk_queue_1_";
/// Most jobs that one step hands over or renews, so that no step holds up the others for long.
const CHUNK: usize = 200;
/// Most jobs that a peek looks at.
const MOST_PEEKED: usize = 64;

/// The [`JobQueue`] that several processes have in common. Share it: each has connections of its own.
pub struct RedisQueue {
    config: QueueConfig,
    pools: Pools,
}

impl RedisQueue {
    /// Connects when it is first used.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] if the settings cannot be used.
    pub fn new(settings: &RedisSettings, config: QueueConfig) -> Result<Self, QueueError> {
        let library = Library { code: Cow::Borrowed(LIBRARY) };
        let servers = Servers::new(settings, library).map_err(wire::unavailable)?;
        Ok(Self { config, pools: Pools::new(Arc::new(servers), &config, PREFIX) })
    }
}

fn wish(claim: &Claim, most: usize) -> Vec<String> {
    let (jobs, newcomers) = (claim.max_jobs.min(most), claim.max_newcomers.min(most));
    vec![claim.node.to_string(), jobs.to_string(), newcomers.to_string()]
}

#[async_trait]
impl JobQueue for RedisQueue {
    async fn submit(&self, submission: Submission) -> Result<Submitted, QueueError> {
        let pool = submission.job.pool;
        let said = self.pools.call(pool, "submit", &wire::submission(&submission)?).await?;
        let submitted = wire::submitted(said)?;
        if submission.lane.is_some() {
            self.pools.look_when_behind(pool);
        }
        Ok(submitted)
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Delivery>, QueueError> {
        let said = self.pools.call(claim.pool, "claim", &wish(&claim, CHUNK)).await?;
        wire::deliveries(self.config.lease, said)
    }

    async fn wait(&self, claim: &Claim, timeout: Duration) -> Result<bool, QueueError> {
        let bells = ["work".to_owned(), format!("w:{}", claim.node)];
        let wait = Wait { bells: &bells, timeout };
        let found =
            self.pools.look(claim.pool, "look_work", wait, || wish(claim, CHUNK), wire::read::<Vec<u8>>).await?;
        Ok(!found.is_empty())
    }

    async fn peek(&self, pool: PoolId, node: &NodeId, max_jobs: usize) -> Result<Vec<Fetchable>, QueueError> {
        let args = [node.to_string(), max_jobs.min(MOST_PEEKED).to_string()];
        wire::adapters(self.pools.call(pool, "peek", &args).await?)
    }

    async fn renew(&self, pool: PoolId, progress: &[LeaseProgress]) -> Result<Vec<Lease>, QueueError> {
        let mut lost = Vec::new();
        for progress in progress.chunks(CHUNK) {
            let words = |LeaseProgress { lease, output_tokens }: &LeaseProgress| {
                [lease.job.to_string(), lease.attempt.to_string(), output_tokens.to_string()]
            };
            let args: Vec<_> = progress.iter().flat_map(words).collect();
            let places: Vec<usize> = wire::read(self.pools.call(pool, "renew", &args).await?)?;
            lost.extend(places.into_iter().filter_map(|place| progress.get(place)).map(|one| one.lease.clone()));
        }
        Ok(lost)
    }

    async fn settle(&self, pool: PoolId, lease: &Lease, settlement: Settlement) -> Result<(), QueueError> {
        let mut args = vec![lease.job.to_string(), lease.attempt.to_string()];
        args.extend(wire::settlement(&settlement));
        let is_live: bool = wire::read(self.pools.call(pool, "settle", &args).await?)?;
        let lost = || QueueError::LeaseLost { job: lease.job.clone(), attempt: lease.attempt };
        is_live.then_some(()).ok_or_else(lost)
    }

    async fn cancel(&self, pool: PoolId, job: &JobId) -> Result<Cancelled, QueueError> {
        let state: String = wire::read(self.pools.call(pool, "cancel", &[job.to_string()]).await?)?;
        Ok(match wire::state(&state)? {
            JobState::Queued => Cancelled::Queued,
            JobState::Running => Cancelled::Running,
            JobState::Over => Cancelled::Over,
        })
    }

    async fn next_cancelled(&self, pool: PoolId, node: &NodeId, timeout: Duration) -> Result<Vec<Lease>, QueueError> {
        let mailbox = Mailbox { function: "look_cancelled", bell: wire::cancellations(node), reader: node.as_str() };
        self.pools.read_box(pool, mailbox, timeout, wire::lease).await
    }

    async fn order(&self, pool: PoolId, order: NodeOrder) -> Result<(), QueueError> {
        let (kind, about) = match &order {
            NodeOrder::TakeDown(digest) => ("t", digest.to_string()),
            NodeOrder::Pin(_) => ("p", String::new()),
            NodeOrder::Drain(node) => ("d", node.to_string()),
        };
        let text = serde_json::to_string(&order).map_err(wire::unavailable)?;
        self.pools.call(pool, "order", &[kind, &about, &text]).await?;
        Ok(())
    }

    async fn next_orders(
        &self,
        pool: PoolId,
        after: OrderNumber,
        timeout: Duration,
    ) -> Result<Vec<NumberedOrder>, QueueError> {
        let wait = Wait { bells: &["orders".to_owned()], timeout };
        let order = |text: Value| {
            let text: String = wire::read(text)?;
            serde_json::from_str::<NodeOrder>(&text).map_err(wire::unavailable)
        };
        let found = |said| wire::numbered(said, order);
        let orders = self.pools.look(pool, "look_orders", wait, || vec![after.0.to_string()], found).await?;
        Ok(orders.into_iter().map(|(number, order)| NumberedOrder { number: OrderNumber(number), order }).collect())
    }

    async fn next_notices(
        &self,
        pool: PoolId,
        gateway: &GatewayId,
        timeout: Duration,
    ) -> Result<Vec<Notice>, QueueError> {
        let mailbox = Mailbox { function: "look_notices", bell: wire::notices(gateway), reader: gateway.as_str() };
        self.pools.read_box(pool, mailbox, timeout, wire::notice).await
    }

    async fn resume(&self, pool: PoolId, job: &JobId, tokens: Vec<TokenId>) -> Result<bool, QueueError> {
        let args = [job.to_string().into_bytes(), tokens.len().to_string().into_bytes(), wire::tokens(&tokens)];
        wire::read(self.pools.call(pool, "resume", &args).await?)
    }

    async fn take_back(
        &self,
        pool: PoolId,
        job: &JobId,
        attempt: u32,
        tokens: Vec<TokenId>,
    ) -> Result<bool, QueueError> {
        let words = [job.to_string(), attempt.to_string(), tokens.len().to_string()];
        let mut args: Vec<_> = words.into_iter().map(String::into_bytes).collect();
        args.push(wire::tokens(&tokens));
        wire::read(self.pools.call(pool, "take_back", &args).await?)
    }

    async fn heartbeat(&self, status: NodeStatus) -> Result<OrderNumber, QueueError> {
        let text = serde_json::to_string(&status).map_err(wire::unavailable)?;
        let newest = self.pools.call(status.pool, "heartbeat", &[status.node.as_str(), &text]).await?;
        Ok(OrderNumber(wire::read(newest)?))
    }

    async fn retire(&self, pool: PoolId, node: &NodeId) -> Result<(), QueueError> {
        self.pools.call(pool, "retire", &[node.as_str()]).await?;
        Ok(())
    }

    async fn lanes(&self, pool: PoolId) -> Result<Vec<LaneStatus>, QueueError> {
        let said: Vec<(String, usize)> = wire::read(self.pools.call::<&str>(pool, "lanes", &[]).await?)?;
        // What a node of another version says may not be understood; it takes work all the same.
        let lanes = said.into_iter().filter_map(|(text, queued)| Some((serde_json::from_str(&text).ok()?, queued)));
        let mut lanes: Vec<_> = lanes.map(|(node, queued)| LaneStatus { node, queued }).collect();
        lanes.sort_by(|one, other| one.node.node.cmp(&other.node.node));
        Ok(lanes)
    }

    async fn dead_letters(&self, pool: PoolId) -> Result<Vec<DeadLetter>, QueueError> {
        let (mut letters, mut after) = (Vec::new(), Some("0".to_owned()));
        while let Some(number) = after {
            let (some, last) = wire::letters(self.pools.call(pool, "dead_letters", &[number]).await?)?;
            letters.extend(some);
            after = last;
        }
        Ok(letters)
    }

    async fn replay(&self, pool: PoolId, job: &JobId) -> Result<(), QueueError> {
        let was_dead: bool = wire::read(self.pools.call(pool, "replay", &[job.to_string()]).await?)?;
        was_dead.then_some(()).ok_or_else(|| QueueError::NotDead(job.clone()))
    }

    async fn stats(&self, pool: PoolId) -> Result<PoolStats, QueueError> {
        wire::stats(self.pools.call::<&str>(pool, "stats", &[]).await?)
    }

    async fn say_popular(
        &self,
        pool: PoolId,
        gateway: &GatewayId,
        mut adapters: Vec<Popular>,
    ) -> Result<(), QueueError> {
        adapters.truncate(MOST_POPULAR_NAMED);
        let text = serde_json::to_string(&adapters).map_err(wire::unavailable)?;
        self.pools.call(pool, "say_popular", &[gateway.as_str(), &text]).await?;
        Ok(())
    }

    async fn popular(&self, pool: PoolId, most: usize) -> Result<Vec<Fetchable>, QueueError> {
        let texts: Vec<String> = wire::read(self.pools.call::<&str>(pool, "popular", &[]).await?)?;
        Ok(most_popular(popular::read(&texts), most))
    }

    async fn gateway_heartbeat(
        &self,
        pool: PoolId,
        gateway: &GatewayId,
        delivered: &[Delivered],
    ) -> Result<Life, QueueError> {
        let mut chunks = delivered.chunks(CHUNK);
        loop {
            let told = chunks.next().unwrap_or_default();
            let words = told.iter().flat_map(|one| [one.job.to_string(), one.tokens.to_string()]);
            let args: Vec<_> = std::iter::once(gateway.to_string()).chain(words).collect();
            let born = wire::read(self.pools.call(pool, "gateway_heartbeat", &args).await?)?;
            if told.len() < CHUNK {
                return Ok(Life(born));
            }
        }
    }

    async fn next_orphaned(
        &self,
        pool: PoolId,
        gateway: &GatewayId,
        timeout: Duration,
    ) -> Result<Vec<Orphan>, QueueError> {
        // Nobody rings when a gateway is gone: time alone says so.
        let wait = Wait { bells: &[], timeout };
        let found = |said| wire::read::<Vec<Value>>(said)?.into_iter().map(wire::orphan).collect();
        self.pools.look(pool, "look_orphaned", wait, || vec![gateway.to_string()], found).await
    }

    async fn acknowledge(&self, pool: PoolId, requests: &[RequestId]) -> Result<(), QueueError> {
        for requests in requests.chunks(CHUNK) {
            let args: Vec<_> = requests.iter().map(RequestId::as_str).collect();
            self.pools.call(pool, "acknowledge", &args).await?;
        }
        Ok(())
    }

    async fn unposted(&self, pool: PoolId, requests: &[RequestId]) -> Result<Vec<RequestId>, QueueError> {
        let mut unposted = Vec::new();
        for requests in requests.chunks(CHUNK) {
            let args: Vec<_> = requests.iter().map(RequestId::as_str).collect();
            let places: Vec<usize> = wire::read(self.pools.call(pool, "unposted", &args).await?)?;
            unposted.extend(places.into_iter().filter_map(|place| requests.get(place)).cloned());
        }
        Ok(unposted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_have_one_version() {
        let name = PREFIX.trim_end_matches('_');
        assert!(LIBRARY.starts_with(&format!("#!lua name={name}\n")));
        assert!(LIBRARY.contains(&format!("function_name = '{PREFIX}' .. name")));
    }

    #[test]
    fn the_functions_keep_as_much_as_the_port_says() {
        let numbers = [
            ("ORDERS_KEPT", crate::ORDERS_KEPT),
            ("UNPOSTED_KEPT", crate::UNPOSTED_KEPT),
            ("WRITE_DOWN_MS", crate::WRITE_DOWN.as_millis() as usize),
            ("POPULAR_FOR_MS", crate::POPULAR_FOR.as_millis() as usize),
            ("NEVER_MS", souk_protocol::deadline::NEVER.as_millis() as usize),
        ];
        for (name, number) in numbers {
            let line = LIBRARY.lines().find_map(|line| line.strip_prefix(&format!("local {name} = ")));
            let product: usize =
                line.expect(name).split(" * ").map(|factor| factor.parse::<usize>().expect(name)).product();
            assert_eq!(product, number, "{name}");
        }
    }
}
