//! Doorbells: how whoever waits hears that it should look again.
//!
//! The functions ring by adding one entry to a stream of one, with the pool's next number as id. A look says the number of the last
//! ring, so nothing rings unheard between a look and the wait for what comes after it. Each bell has a task with a connection of
//! its own, since a blocking read holds up all that comes behind it and cannot be taken back; it reads only while somebody waits.
//! Whoever drops a wait leaves the read to the next who waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Cmd, Value, cmd, from_redis_value};
use souk_redis::{Fault, Own, Servers};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long one read waits. Short enough that a connection which is dead without a word is noticed.
const BLOCK: Duration = Duration::from_secs(5);
/// For how long an answer may be late.
const LATE: Duration = Duration::from_secs(2);
/// Shortest and longest pause after a read that failed.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// One bell, or several that are heard as one.
pub(super) struct Bell {
    line: Arc<Line>,
    task: JoinHandle<()>,
}

struct Line {
    servers: Arc<Servers>,
    tag: String,
    keys: Vec<String>,
    num_waiting: AtomicUsize,
    /// Somebody began to wait.
    begun: Notify,
    /// Numbers begin anew.
    anew: Notify,
    /// The ring after which is read. 0: nobody has waited yet.
    from: Mutex<u64>,
    heard: watch::Sender<Heard>,
}

/// What was heard last.
#[derive(Clone, Copy, Default, PartialEq)]
struct Heard {
    ring: u64,
    /// Grows when rings may have been missed.
    gap: u64,
}

impl Bell {
    /// The bells of these names in one pool.
    pub(super) fn new(servers: Arc<Servers>, tag: String, names: &[String]) -> Self {
        let keys = names.iter().map(|name| format!("souk:{{{tag}}}:bell:{name}")).collect();
        let line = Arc::new(Line {
            servers,
            tag,
            keys,
            num_waiting: AtomicUsize::new(0),
            begun: Notify::new(),
            anew: Notify::new(),
            from: Mutex::new(0),
            heard: watch::Sender::new(Heard::default()),
        });
        let task = tokio::spawn(listen(Arc::clone(&line)));
        Self { line, task }
    }

    /// The number of the last ring that was heard.
    pub(super) fn heard(&self) -> u64 {
        self.line.heard.borrow().ring
    }

    /// Numbers begin anew after this one: a look that began after a higher one was heard has said so, and the store has lost its
    /// own.
    pub(super) fn begin_anew(&self, ring: u64) {
        *self.line.from() = ring;
        self.line.heard.send_modify(|heard| heard.ring = ring);
        self.line.anew.notify_one();
    }

    /// Waits for a ring after the one with this number, or until rings may have been missed.
    pub(super) async fn after(&self, ring: u64) {
        let line = &*self.line;
        let mut heard = line.heard.subscribe();
        let gap = heard.borrow_and_update().gap;
        let _waiting = Waiting::begin(line, ring);
        // The sender is in `line`, so this ends by a ring only.
        _ = heard.wait_for(|heard| heard.ring > ring || heard.gap != gap).await;
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Somebody who waits.
struct Waiting<'a>(&'a Line);

impl<'a> Waiting<'a> {
    fn begin(line: &'a Line, ring: u64) -> Self {
        line.num_waiting.fetch_add(1, Ordering::Relaxed);
        let mut from = line.from();
        if *from == 0 {
            *from = ring;
        }
        line.begun.notify_one();
        Self(line)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.num_waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn listen(line: Arc<Line>) {
    let (mut own, mut pause) = (None, PAUSES[0]);
    loop {
        if line.num_waiting.load(Ordering::Relaxed) == 0 {
            line.begun.notified().await;
            continue;
        }
        let from = *line.from();
        let heard = tokio::select! {
            heard = read(&line, &mut own, from) => heard,
            // The read is dropped, and its connection with it.
            () = line.anew.notified() => continue,
        };
        match heard {
            Ok(ring) => {
                pause = PAUSES[0];
                if let Some(ring) = ring {
                    line.hear(from, ring);
                }
            }
            // Who waits looks for itself, and hears what is wrong.
            Err(_) => {
                line.heard.send_modify(|heard| heard.gap += 1);
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES[1]);
            }
        }
    }
}

impl Line {
    fn from(&self) -> MutexGuard<'_, u64> {
        self.from.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, asked: u64, ring: u64) {
        let mut from = self.from();
        if *from == asked {
            *from = ring;
            self.heard.send_modify(|heard| heard.ring = ring);
        }
    }

    fn question(&self, from: u64) -> Cmd {
        let mut question = cmd("XREAD");
        question.arg("BLOCK").arg(BLOCK.as_millis() as u64).arg("STREAMS").arg(&self.keys);
        for _ in &self.keys {
            question.arg(format!("{from}-1"));
        }
        question
    }
}

/// The highest ring after `from`, if one comes while the read waits.
async fn read(line: &Line, own: &mut Option<Own>, from: u64) -> Result<Option<u64>, Fault> {
    // Taken out while it reads: a read that is dropped leaves nothing behind that a later one would take for its answer.
    let mut connection = match own.take() {
        Some(connection) => connection,
        None => line.servers.own(&line.tag).await?,
    };
    let late = BLOCK + LATE;
    let said = timeout(late, connection.ask(&line.question(from))).await.unwrap_or(Err(Fault::Timeout(late)))?;
    *own = Some(connection);
    highest(said)
}

fn highest(said: Value) -> Result<Option<u64>, Fault> {
    if said == Value::Nil {
        return Ok(None);
    }
    let streams: Vec<(String, Vec<(String, Value)>)> = from_redis_value(said)?;
    let ids = streams.iter().flat_map(|(_, entries)| entries).map(|(id, _)| id);
    let rings = ids.filter_map(|id| id.split_once('-')?.0.parse().ok());
    Ok(rings.max())
}
