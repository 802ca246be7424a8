//! Calls of the functions, and waits: a look that is a step, a bell, and a look again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Value, cmd};
use souk_protocol::PoolId;
use souk_redis::Servers;
use tokio::time::{Instant, sleep, timeout};

use super::bell::Bell;
use super::wire;
use crate::config::QueueConfig;
use crate::error::QueueError;

/// The way to the pools, which lie where their tags say.
pub(super) struct Pools {
    servers: Arc<Servers>,
    /// What the functions' names begin with.
    prefix: &'static str,
    /// The settings as the functions read them.
    args: String,
    steal_after: Duration,
    bells: Mutex<HashMap<(PoolId, String), Arc<Bell>>>,
    /// The number of the last note of each mailbox that was handed to its reader.
    had: Mutex<HashMap<(PoolId, String), u64>>,
    /// Pools in which somebody will look soon whether lanes are behind.
    looking: Arc<Mutex<HashSet<PoolId>>>,
}

impl Pools {
    pub(super) fn new(servers: Arc<Servers>, config: &QueueConfig, prefix: &'static str) -> Self {
        Self {
            servers,
            prefix,
            args: wire::config(config),
            steal_after: config.steal_after,
            bells: Mutex::default(),
            had: Mutex::default(),
            looking: Arc::default(),
        }
    }

    /// Runs one function on one pool.
    pub(super) async fn call<Arg: AsRef<[u8]>>(
        &self,
        pool: PoolId,
        function: &str,
        args: &[Arg],
    ) -> Result<Value, QueueError> {
        call(&self.servers, self.prefix, &self.args, pool, function, args).await
    }

    /// Looks at each ring of the bells, and whenever time alone may have changed the answer, until something is found or
    /// `timeout` is over. `args` are asked for before each look.
    pub(super) async fn look<Found>(
        &self,
        pool: PoolId,
        function: &str,
        wait: Wait<'_>,
        args: impl Fn() -> Vec<String>,
        found: impl Fn(Value) -> Result<Vec<Found>, QueueError>,
    ) -> Result<Vec<Found>, QueueError> {
        let end = Instant::now() + souk_protocol::deadline::bounded(Some(wait.timeout));
        let bell = (!wait.bells.is_empty()).then(|| self.bell(pool, wait.bells));
        loop {
            let heard = bell.as_ref().map_or(0, |bell| bell.heard());
            let said = self.call(pool, function, &args()).await?;
            let (ring, change, value): (u64, i64, Value) = wire::read(said)?;
            if let Some(bell) = bell.as_ref().filter(|_| ring < heard) {
                bell.begin_anew(ring);
            }
            let found = found(value)?;
            let now = Instant::now();
            if !found.is_empty() || now >= end {
                return Ok(found);
            }
            let nap =
                u64::try_from(change).map_or(end - now, |change| Duration::from_millis(change.max(1)).min(end - now));
            match &bell {
                Some(bell) => _ = timeout(nap, bell.after(ring)).await,
                None => sleep(nap).await,
            }
        }
    }

    fn bell(&self, pool: PoolId, names: &[String]) -> Arc<Bell> {
        let bell = || Arc::new(Bell::new(Arc::clone(&self.servers), wire::tag(pool), names));
        Arc::clone(lock(&self.bells).entry((pool, names.join(" "))).or_insert_with(bell))
    }

    /// Waits for notes in a mailbox. Each is handed over once, when the caller has it: a wait that is dropped takes none.
    pub(super) async fn read_box<Note>(
        &self,
        pool: PoolId,
        mailbox: Mailbox<'_>,
        timeout: Duration,
        note: impl Fn(Value) -> Result<Note, QueueError> + Copy,
    ) -> Result<Vec<Note>, QueueError> {
        let key = (pool, mailbox.bell.clone());
        let end = Instant::now() + souk_protocol::deadline::bounded(Some(timeout));
        loop {
            let args = || vec![mailbox.reader.to_owned(), self.had(&key).to_string()];
            let wait = Wait { bells: std::slice::from_ref(&mailbox.bell), timeout: end - Instant::now().min(end) };
            let notes = self.look(pool, mailbox.function, wait, args, |said| wire::numbered(said, note)).await?;
            let mut had = lock(&self.had);
            let last = had.entry(key.clone()).or_default();
            // Another reader of the same box may have been first.
            let new: Vec<_> = notes.into_iter().filter(|(number, _)| number > last).collect();
            if let Some((number, _)) = new.last() {
                *last = *number;
            }
            if !new.is_empty() || Instant::now() >= end {
                return Ok(new.into_iter().map(|(_, note)| note).collect());
            }
        }
    }

    fn had(&self, key: &(PoolId, String)) -> u64 {
        lock(&self.had).get(key).copied().unwrap_or(0)
    }

    /// Sees to it that somebody looks when a job that waits for one node has waited for too long.
    pub(super) fn look_when_behind(&self, pool: PoolId) {
        if !lock(&self.looking).insert(pool) {
            return;
        }
        let (servers, args, looking) = (Arc::clone(&self.servers), self.args.clone(), Arc::clone(&self.looking));
        let (prefix, steal_after) = (self.prefix, self.steal_after);
        tokio::spawn(async move {
            sleep(steal_after + Duration::from_millis(1)).await;
            lock(&looking).remove(&pool);
            // Should it fail, the next step of anybody sees it as well.
            _ = call::<&str>(&servers, prefix, &args, pool, "tick", &[]).await;
        });
    }
}

/// What somebody waits for: any of these bells, or time alone.
pub(super) struct Wait<'a> {
    pub(super) bells: &'a [String],
    pub(super) timeout: Duration,
}

/// A mailbox and who reads it.
pub(super) struct Mailbox<'a> {
    pub(super) function: &'a str,
    pub(super) bell: String,
    pub(super) reader: &'a str,
}

async fn call<Arg: AsRef<[u8]>>(
    servers: &Servers,
    prefix: &str,
    config: &str,
    pool: PoolId,
    function: &str,
    args: &[Arg],
) -> Result<Value, QueueError> {
    let tag = wire::tag(pool);
    let command = |_: &souk_redis::Live| {
        let mut command = cmd("FCALL");
        command.arg(format!("{prefix}{function}")).arg(1).arg(format!("souk:{{{tag}}}:state")).arg(config);
        for arg in args {
            command.arg(arg.as_ref());
        }
        command
    };
    servers.call(&tag, command).await.map_err(wire::unavailable)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
