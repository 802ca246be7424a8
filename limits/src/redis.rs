//! Limits for several gateways, in one Redis 7.0 or later.
//!
//! Each operation is one call of a function that Redis runs as one step (`limits.lua`), so a future that is dropped or an answer
//! that is lost leaves no half of it; what was perhaps done may be done again. The functions are loaded with each connection,
//! under a name that has their version, so gateways of two versions share a server.
//!
//! # Where things are
//!
//! All keys of a tenant are in one of 64 shards, and those of a shard in one slot (`souk:{l17}:…`). After its slot a key has the
//! id of the server's process: what a server reads from its disk when it starts again, or a replica knows that takes over, may be
//! older than what was promised, and counting with it would overshoot. So each start is a loss of the data, and persistence is
//! of no use here. What lies under the names of a process that is gone is forgotten with its time to live.
//!
//! # After a loss
//!
//! A shard knows when it began. Budgets of its tenants are shut until a [lease](crate::port::LEASE) has passed since, within
//! which each gateway has restored what it holds; buckets begin empty. A gateway begins all shards that are not there
//! with each connection that it makes ([`RedisLimits::connect`] at its start), so that the lease does not begin when the first
//! request of a tenant comes.
//!
//! # What the server has to do
//!
//! `maxmemory-policy` has to be `noeviction` where `maxmemory` is set: a server that forgets as it likes is refused. A tenant,
//! team, member or key takes about half a kilobyte for a day after it was last used, a request under way as much until it is
//! counted. Ended repeats take what the settings say.

mod connection;
mod repeats;
mod wire;

use std::collections::BTreeMap;

use async_trait::async_trait;
use souk_protocol::{RequestId, TenantId, Total};
use souk_redis::{Fault, RedisSettings};

use self::connection::{Connection, Shard};
use crate::error::{LimitsError, ReserveError};
use crate::port::Limits;
use crate::words::{Amounts, Ask, Held, Reserved};

/// Most requests that one step renews or restores, so that no step holds up the others for long.
const CHUNK: usize = 200;

/// [`Limits`] and [`Repeats`](crate::Repeats) that several gateways have in common. Its clones' connection is one.
#[derive(Debug)]
pub struct RedisLimits {
    connection: Connection,
    max_repeat_bytes: usize,
}

impl RedisLimits {
    /// Connects when it is first used. What ended requests that are kept for repeats take may be `max_repeat_bytes` in all;
    /// each shard has a 64th of it, and what ended first is forgotten first.
    ///
    /// # Errors
    /// [`LimitsError`] if the settings cannot be used.
    pub fn new(settings: &RedisSettings, max_repeat_bytes: usize) -> Result<Self, LimitsError> {
        Ok(Self { connection: Connection::new(settings)?, max_repeat_bytes })
    }

    /// Connects now, and begins all shards that are not there. A gateway does it before it takes requests.
    ///
    /// # Errors
    /// [`LimitsError`] if the server cannot be reached or used.
    pub async fn connect(&self) -> Result<(), LimitsError> {
        self.connection.connect().await
    }
}

#[async_trait]
impl Limits for RedisLimits {
    async fn reserve(&self, ask: &Ask) -> Result<Reserved, ReserveError> {
        let args = wire::ask(ask)?;
        let args: Vec<_> = args.iter().map(String::as_bytes).collect();
        let said = self.connection.call("reserve", Shard::of(&ask.tenant), &args).await?;
        wire::said(ask, &said)
    }

    async fn settle(&self, tenant: &TenantId, request: &RequestId, used: Amounts) -> Result<(), LimitsError> {
        let args = wire::used(tenant, request, used);
        let args: Vec<_> = args.iter().map(String::as_bytes).collect();
        self.connection.call("settle", Shard::of(tenant), &args).await?;
        Ok(())
    }

    async fn count(&self, tenant: &TenantId, totals: &[Total], written: &[RequestId]) -> Result<(), LimitsError> {
        let text = wire::counted(tenant, totals, written)?;
        self.connection.call("count", Shard::of(tenant), &[text.as_bytes()]).await?;
        Ok(())
    }

    async fn renew(&self, tenant: &TenantId, requests: &[RequestId]) -> Result<Vec<RequestId>, LimitsError> {
        let mut unknown = Vec::new();
        for requests in requests.chunks(CHUNK) {
            let ids: Vec<_> = requests.iter().map(|request| wire::id(tenant, request)).collect();
            let ids: Vec<_> = ids.iter().map(String::as_bytes).collect();
            let said = self.connection.call("renew", Shard::of(tenant), &ids).await?;
            let places: Vec<usize> = redis::from_redis_value(said).map_err(Fault::Answer)?;
            unknown.extend(places.into_iter().filter_map(|place| requests.get(place)).cloned());
        }
        Ok(unknown)
    }

    async fn restore(&self, held: &[Held]) -> Result<(), LimitsError> {
        let mut by_shard: BTreeMap<Shard, Vec<&Held>> = BTreeMap::new();
        for held in held {
            by_shard.entry(Shard::of(&held.ask.tenant)).or_default().push(held);
        }
        for (shard, held) in by_shard {
            for held in held.chunks(CHUNK) {
                self.connection.call("restore", shard, &[wire::held(held)?.as_bytes()]).await?;
            }
        }
        Ok(())
    }
}
