//! One server: the connection that all calls share, made anew when it is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, Value, cmd};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::fault::Fault;
use crate::library::Library;
use crate::own::Own;
use crate::place::Place;
use crate::settings::Address;

/// For how long nobody tries again to connect after a failure: those who came meanwhile are told of it at once.
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How long things may take.
#[derive(Clone, Copy)]
pub(crate) struct Timeouts {
    pub(crate) connect: Duration,
    pub(crate) response: Duration,
}

/// A connection, and which process is at its other end.
pub struct Live {
    connection: MultiplexedConnection,
    run: String,
    /// Whether nobody has called [`is_new`](Self::is_new) yet.
    new: AtomicBool,
}

impl Live {
    /// The id of the server's process: another after each start.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Whether this connection is new; true once.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.new.swap(false, Ordering::Relaxed)
    }

    /// Sends several commands at once and answers what was said to each, errors included.
    ///
    /// # Errors
    /// [`Fault::Redis`] if the connection is lost.
    pub async fn pipe(&self, commands: &mut Pipeline) -> Result<Vec<Result<Value, RedisError>>, Fault> {
        Ok(commands.ignore_errors().query_async(&mut self.connection.clone()).await?)
    }

    pub(crate) async fn ask(&self, command: &Cmd) -> Result<Value, RedisError> {
        command.query_async(&mut self.connection.clone()).await
    }
}

/// One server, connected or not.
#[derive(Default)]
pub(crate) struct Server {
    live: RwLock<Option<Arc<Live>>>,
    /// Held by who connects. When that failed last, and why.
    connecting: Mutex<Option<(Instant, String)>>,
}

impl Server {
    pub(crate) fn forget(&self, lost: &Arc<Live>) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_some_and(|live| Arc::ptr_eq(live, lost)) {
            *live = None;
        }
    }

    pub(crate) fn known(&self) -> Option<Arc<Live>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connection, made if there is none.
    pub(crate) async fn live(
        &self,
        place: &Place,
        address: &Address,
        timeouts: Timeouts,
        library: &Library,
    ) -> Result<Arc<Live>, Fault> {
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
        let opened = timeout(timeouts.connect, open(place, address, timeouts, library)).await;
        match opened.unwrap_or(Err(Fault::Timeout(timeouts.connect))) {
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
}

/// A connection to a server that has the functions.
async fn open(place: &Place, address: &Address, timeouts: Timeouts, library: &Library) -> Result<Live, Fault> {
    let mut connection = connect(&place.client(address)?, timeouts.connect, Some(timeouts.response)).await?;
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
    load.arg("LOAD").arg("REPLACE").arg(&*library.code).query_async::<Value>(&mut connection).await?;
    Ok(Live { connection, run, new: AtomicBool::new(true) })
}

pub(crate) async fn connect(
    client: &Client,
    within: Duration,
    response: Option<Duration>,
) -> Result<MultiplexedConnection, Fault> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(within)).set_response_timeout(response);
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

/// A connection of one's own to the server at this address.
pub(crate) async fn own(place: &Place, address: &Address, within: Duration) -> Result<Own, Fault> {
    let client = place.client(address)?;
    let opened = timeout(within, connect(&client, within, None)).await;
    Ok(Own { connection: opened.unwrap_or(Err(Fault::Timeout(within)))? })
}
