//! One connection that all calls share, made anew when it is lost.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, Value, cmd};
use souk_protocol::{Digest, TenantId};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_rustls::rustls;

use super::settings::RedisSettings;
use crate::error::LimitsError;

/// The functions, in a library whose name has their version.
const LIBRARY: &str = include_str!("limits.lua");
/// What the functions' names begin with.
const PREFIX: &str = "souk_limits_1_";

/// How many shards there are. Another number would look for what is held elsewhere.
pub(super) const NUM_SHARDS: u8 = 64;

/// For how long nobody tries again to connect after a failure: those who came meanwhile are told of it at once.
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The part of the keys that a tenant's are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shard(u8);

impl Shard {
    /// The same for all gateways and for ever.
    pub(super) fn of(tenant: &TenantId) -> Self {
        Self(Digest::of(tenant.as_str().as_bytes()).as_bytes()[0] % NUM_SHARDS)
    }

    fn all() -> impl Iterator<Item = Self> {
        (0..NUM_SHARDS).map(Self)
    }
}

/// Why Redis gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("redis: {0}")]
    Redis(#[from] RedisError),
    #[error("no connection to redis within {0:?}")]
    Timeout(Duration),
    #[error("no connection to redis a moment ago: {0}")]
    Recent(String),
    #[error("redis forgets by itself (maxmemory-policy is {0}); it has to be noeviction")]
    Evicts(String),
    #[error("redis answers what nobody asked: {0}")]
    Answer(redis::ParsingError),
    #[error("redis answers {0}")]
    Unexpected(String),
    #[error("what is to be sent is no JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<Fault> for LimitsError {
    fn from(fault: Fault) -> Self {
        Self(Box::new(fault))
    }
}

/// The way to the server.
pub(super) struct Connection {
    client: Client,
    connect_timeout: Duration,
    response_timeout: Duration,
    live: RwLock<Option<Arc<Live>>>,
    /// Held by who connects. When that failed last, and why.
    connecting: Mutex<Option<(Instant, String)>>,
}

/// A connection, and which process is at its other end.
struct Live {
    connection: MultiplexedConnection,
    run: String,
}

impl Connection {
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, Fault> {
        // The client takes the process's cryptography. Whoever has chosen another before keeps it.
        _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Ok(Self {
            client: Client::open(settings.url.as_str())?,
            connect_timeout: settings.connect_timeout,
            response_timeout: settings.response_timeout,
            live: RwLock::default(),
            connecting: Mutex::default(),
        })
    }

    /// Connects, if it is not.
    pub(super) async fn connect(&self) -> Result<(), LimitsError> {
        self.live().await?;
        Ok(())
    }

    /// Runs one function on one shard.
    pub(super) async fn call(&self, function: &str, shard: Shard, args: &[&[u8]]) -> Result<Value, LimitsError> {
        let live = self.live().await?;
        match live.call(function, shard, args).await {
            // Somebody has emptied the server. It is as a new one to us, and the call had no effect.
            Err(error) if error.to_string().contains("Function not found") => {
                self.forget(&live);
                let live = self.live().await?;
                live.call(function, shard, args).await.map_err(|error| self.lost(&live, error).into())
            }
            said => said.map_err(|error| self.lost(&live, error).into()),
        }
    }

    /// Lets go of a connection after an error that is more than an answer.
    fn lost(&self, live: &Arc<Live>, error: RedisError) -> Fault {
        let is_other_server = error.code() == Some("READONLY");
        if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || is_other_server {
            self.forget(live);
        }
        Fault::Redis(error)
    }

    fn forget(&self, lost: &Arc<Live>) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_some_and(|live| Arc::ptr_eq(live, lost)) {
            *live = None;
        }
    }

    fn known(&self) -> Option<Arc<Live>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn live(&self) -> Result<Arc<Live>, Fault> {
        if let Some(live) = self.known() {
            return Ok(live);
        }
        let mut failed = self.connecting.lock().await;
        if let Some(live) = self.known() {
            return Ok(live);
        }
        if let Some((_, why)) = failed.as_ref().filter(|(at, _)| at.elapsed() < CONNECT_AGAIN_AFTER) {
            return Err(Fault::Recent(why.clone()));
        }
        let opened = timeout(self.connect_timeout, self.open()).await;
        match opened.unwrap_or(Err(Fault::Timeout(self.connect_timeout))) {
            Ok(live) => {
                let live = Arc::new(live);
                *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&live));
                Ok(live)
            }
            Err(fault) => {
                *failed = Some((Instant::now(), fault.to_string()));
                Err(fault)
            }
        }
    }

    /// A connection to a server that has the functions and all shards.
    async fn open(&self) -> Result<Live, Fault> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(self.response_timeout));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let about: String = cmd("INFO").arg("server").arg("memory").query_async(&mut connection).await?;
        let field = |name: &str| {
            let value = about.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.ok_or_else(|| Fault::Unexpected(format!("INFO without {name}")))
        };
        let policy = field("maxmemory_policy")?;
        if policy != "noeviction" && field("maxmemory")? != "0" {
            return Err(Fault::Evicts(policy.to_owned()));
        }
        let run = field("run_id")?.chars().take(16).collect();
        let mut load = cmd("FUNCTION");
        load.arg("LOAD").arg("REPLACE").arg(LIBRARY).query_async::<Value>(&mut connection).await?;
        let live = Live { connection, run };
        let mut touches = redis::pipe();
        for shard in Shard::all() {
            touches.add_command(live.command("touch", shard, &[]));
        }
        touches.query_async::<Value>(&mut live.connection.clone()).await?;
        Ok(live)
    }
}

impl fmt::Debug for Connection {
    /// Without the URL, which may have a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("is_live", &self.known().is_some()).finish_non_exhaustive()
    }
}

impl Live {
    async fn call(&self, function: &str, shard: Shard, args: &[&[u8]]) -> Result<Value, RedisError> {
        self.command(function, shard, args).query_async(&mut self.connection.clone()).await
    }

    fn command(&self, function: &str, Shard(shard): Shard, args: &[&[u8]]) -> Cmd {
        let mut command = cmd("FCALL");
        command.arg(format!("{PREFIX}{function}")).arg(1).arg(format!("souk:{{l{shard}}}:{}:clock", self.run));
        command.arg(args);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{IDLE, LEASE};
    use crate::repeats::KEPT_FOR;

    #[test]
    fn the_functions_count_with_the_same_times_and_have_one_version() {
        for (name, time) in [("LEASE_MS", LEASE), ("IDLE_MS", IDLE), ("KEPT_FOR_MS", KEPT_FOR)] {
            assert!(LIBRARY.contains(&format!("local {name} = {}\n", time.as_millis())), "{name}");
        }
        let name = PREFIX.trim_end_matches('_');
        assert!(LIBRARY.starts_with(&format!("#!lua name={name}\n")));
        assert!(LIBRARY.contains(&format!("function_name = '{PREFIX}' .. name")));
    }

    #[test]
    fn a_tenants_shard_never_changes() {
        assert_eq!(Shard::of(&TenantId::from_stored("ten_1")), Shard(Digest::of(b"ten_1").as_bytes()[0] % 64));
        assert_eq!(Shard::all().count(), 64);
    }
}
