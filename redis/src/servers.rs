//! Which server has a key, and calling its functions.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{Cmd, RedisError, Value, cmd};
use tokio::time::timeout;
use tokio_rustls::rustls;

use crate::fault::Fault;
use crate::library::Library;
use crate::own::Own;
use crate::place::Place;
use crate::server::{Live, Server, Timeouts, connect, own};
use crate::settings::Address;
use crate::settings::{RedisSettings, address_of};

/// Most servers that one call is sent to, one after the other.
const MOST_HOPS: usize = 5;
/// Most tags whose server is remembered; past it they are all looked up anew.
const MOST_HOMES: usize = 4096;

/// All servers of one installation. Its clones would have connections of their own; share it.
pub struct Servers {
    place: Place,
    library: Library,
    timeouts: Timeouts,
    /// Where to begin: the URL's server, and further ones of a cluster.
    seeds: Vec<Address>,
    next_seed: AtomicUsize,
    is_cluster: bool,
    sentinels: Option<Sentinels>,
    servers: Mutex<HashMap<Address, Arc<Server>>>,
    /// Which server of a cluster has the slot of a tag, as far as it was heard.
    homes: Mutex<HashMap<String, Address>>,
}

/// Who knows the master, and whom they named last.
struct Sentinels {
    master: String,
    addresses: Vec<Address>,
    named: Mutex<Option<Address>>,
}

impl Servers {
    /// Connects when it is first used.
    ///
    /// # Errors
    /// [`Fault`] if the settings cannot be used.
    pub fn new(settings: &RedisSettings, library: Library) -> Result<Self, Fault> {
        // The client takes the process's cryptography. Whoever has chosen another before keeps it.
        _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let place = Place::new(settings)?;
        let addresses = settings.addresses.iter().map(|address| {
            address_of(address)
                .ok_or_else(|| Fault::Setting(format!("redis.addresses must be host:port each; given {address:?}")))
        });
        let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
        let mut seeds = vec![place.address()?];
        let sentinels = if settings.sentinel_master.is_empty() {
            seeds.extend(addresses);
            None
        } else {
            Some(Sentinels { master: settings.sentinel_master.clone(), addresses, named: Mutex::default() })
        };
        if !settings.cluster {
            seeds.truncate(1);
        }
        Ok(Self {
            place,
            library,
            timeouts: Timeouts { connect: settings.connect_timeout, response: settings.response_timeout },
            seeds,
            next_seed: AtomicUsize::new(0),
            is_cluster: settings.cluster,
            sentinels,
            servers: Mutex::default(),
            homes: Mutex::default(),
        })
    }

    /// The connection to the server that has the keys of `tag`, as far as is known without asking it.
    ///
    /// # Errors
    /// [`Fault`] if it cannot be reached or used.
    pub async fn live(&self, tag: &str) -> Result<Arc<Live>, Fault> {
        let address = self.home(tag).await?;
        self.live_at(tag, &address).await
    }

    /// Sends a command about keys of one slot, which have `tag` in braces, to the server that has them.
    ///
    /// # Errors
    /// [`Fault`]. After one of a connection the command may have been carried out or not.
    pub async fn call(&self, tag: &str, command: impl Fn(&Live) -> Cmd) -> Result<Value, Fault> {
        let mut address = self.home(tag).await?;
        let mut was_empty = false;
        for _ in 0..MOST_HOPS {
            let live = self.live_at(tag, &address).await?;
            let error = match live.ask(&command(&live)).await {
                Ok(said) => return Ok(said),
                Err(error) => error,
            };
            if self.is_cluster
                && let Some((to, _)) = error.redirect_node()
            {
                address = address_of(to).ok_or_else(|| Fault::Redirects(to.to_owned()))?;
                if error.code() == Some("MOVED") {
                    self.moved(tag, address.clone());
                }
            } else if error.to_string().contains("Function not found") && !was_empty {
                // Somebody has emptied the server. It is as a new one to us, and the call had no effect.
                was_empty = true;
                self.server(&address).forget(&live);
            } else {
                return Err(self.lost(tag, &address, &live, error));
            }
        }
        Err(Fault::Redirects(format!("{}:{}", address.0, address.1)))
    }

    /// A connection of one's own to the server that has the keys of `tag`, for reads that block. Call something with the same
    /// tag before, so that the server is known.
    ///
    /// # Errors
    /// [`Fault`] if it cannot be reached.
    pub async fn own(&self, tag: &str) -> Result<Own, Fault> {
        let address = self.home(tag).await?;
        own(&self.place, &address, self.timeouts.connect).await
    }

    /// Whether some server is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        lock(&self.servers).values().any(|server| server.known().is_some())
    }

    async fn live_at(&self, tag: &str, address: &Address) -> Result<Arc<Live>, Fault> {
        let server = self.server(address);
        let live = server.live(&self.place, address, self.timeouts, &self.library).await;
        live.inspect_err(|_| self.look_elsewhere(tag))
    }

    /// Lets go of a connection after an error that is more than an answer.
    fn lost(&self, tag: &str, address: &Address, live: &Arc<Live>, error: RedisError) -> Fault {
        let is_other_server = matches!(error.code(), Some("READONLY" | "CLUSTERDOWN" | "MASTERDOWN" | "LOADING"));
        if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || is_other_server {
            self.server(address).forget(live);
            self.look_elsewhere(tag);
        }
        Fault::Redis(error)
    }

    /// What was known of where the keys of a tag are may be so no longer.
    fn look_elsewhere(&self, tag: &str) {
        lock(&self.homes).remove(tag);
        self.next_seed.fetch_add(1, Ordering::Relaxed);
        if let Some(sentinels) = &self.sentinels {
            *lock(&sentinels.named) = None;
        }
    }

    fn server(&self, address: &Address) -> Arc<Server> {
        let mut servers = lock(&self.servers);
        match servers.get(address) {
            Some(server) => Arc::clone(server),
            None => Arc::clone(servers.entry(address.clone()).or_default()),
        }
    }

    fn moved(&self, tag: &str, address: Address) {
        let mut homes = lock(&self.homes);
        if homes.len() >= MOST_HOMES {
            homes.clear();
        }
        homes.insert(tag.to_owned(), address);
    }

    async fn home(&self, tag: &str) -> Result<Address, Fault> {
        if let Some(sentinels) = &self.sentinels {
            return sentinels.master(&self.place, self.timeouts).await;
        }
        if let Some(home) = lock(&self.homes).get(tag) {
            return Ok(home.clone());
        }
        let next = self.next_seed.load(Ordering::Relaxed);
        Ok(self.seeds[next % self.seeds.len()].clone())
    }
}

impl fmt::Debug for Servers {
    /// Without what may have a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers").field("is_connected", &self.is_connected()).finish_non_exhaustive()
    }
}

impl Sentinels {
    /// The master that was named last, or that the first sentinel names who knows one.
    async fn master(&self, place: &Place, timeouts: Timeouts) -> Result<Address, Fault> {
        if let Some(named) = lock(&self.named).clone() {
            return Ok(named);
        }
        let mut why = "nobody was asked".to_owned();
        for address in &self.addresses {
            match timeout(timeouts.connect, self.ask(place, address, timeouts)).await {
                Ok(Ok(master)) => {
                    *lock(&self.named) = Some(master.clone());
                    return Ok(master);
                }
                Ok(Err(fault)) => why = fault.to_string(),
                Err(_) => why = format!("{}:{} does not answer", address.0, address.1),
            }
        }
        Err(Fault::NoMaster { master: self.master.clone(), why })
    }

    async fn ask(&self, place: &Place, address: &Address, timeouts: Timeouts) -> Result<Address, Fault> {
        let client = place.sentinel(address)?;
        let mut connection = connect(&client, timeouts.connect, Some(timeouts.response)).await?;
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        let named: Option<(String, u16)> = question.query_async(&mut connection).await?;
        let (host, port) =
            named.ok_or_else(|| Fault::Unexpected(format!("that it does not know {:?}", self.master)))?;
        Ok((host.into(), port))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
