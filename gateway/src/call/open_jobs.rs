//! The jobs that this gateway has on the queue: each hears what the queue says of it, and what ends it from outside.
//!
//! What a job has not read yet waits in its slot, and later news takes nothing away from earlier, so a reader that
//! pauses misses nothing and costs nothing. Of all that the slot holds the settlement alone comes once and is the last.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::task::AtomicWaker;
use souk_protocol::{AdapterName, Deprived, Digest, GatewayId, JobFailure, JobId, KeyId, Outcome, PoolId, TenantId};
use souk_queue::{Delivered, JobQueue, Life, Notice, NoticeKind, Settled, Submission};
use tokio::time::Instant;

/// Longest wait in one call; only bounds how long a dead connection can go unnoticed.
const WAIT: Duration = Duration::from_secs(30);
/// Pause after the queue could not be reached.
const PAUSE: Duration = Duration::from_secs(1);
/// Take-downs that are remembered, for requests that were resolved before and are not queued yet, and as many revoked
/// keys. Whoever comes later is refused by the registry.
const WITHDRAWALS_KEPT: usize = 1024;

/// The table of open jobs. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct OpenJobs {
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    jobs: HashMap<JobId, OpenJob>,
    /// Which life of its data the queue of each pool is in, as far as it has said.
    lives: HashMap<PoolId, Life>,
    taken_down: VecDeque<Digest>,
    revoked: VecDeque<KeyId>,
    /// With when it was heard of: who is granted access again is let in again.
    deprived: VecDeque<(AdapterName, Deprived, Instant)>,
}

struct OpenJob {
    pool: PoolId,
    asked: Arc<Asked>,
    adapters: Arc<[Digest]>,
    ending: Arc<Ending>,
    slot: Arc<Slot>,
    /// Tokens that its caller was handed, and what the queue knows of that.
    delivered: Arc<AtomicU32>,
    told: u32,
    /// `None` while it is not known to be queued, and once nobody waits for it any more.
    standing: Option<Arc<Standing>>,
}

/// A job that is on the queue, so that it can be put there again.
pub(crate) struct Standing {
    pub(crate) submission: Submission,
    /// When its answer stops being wanted.
    pub(crate) deadline: Instant,
    /// The life of the queue's data in which it was submitted.
    pub(crate) life: Option<Life>,
}

/// Who asks for the jobs of a request, and for what, by name.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) tenant: TenantId,
    pub(crate) key: KeyId,
    /// The adapters.
    pub(crate) names: Vec<AdapterName>,
    /// The components of the hooks around its answers.
    pub(crate) hooks: Vec<Digest>,
    /// A moment before the registry was asked whether the tenant may call them.
    pub(crate) at: Instant,
}

impl Asked {
    fn is_deprived(&self, adapter: &AdapterName, from: &Deprived) -> bool {
        from.has(&self.tenant) && self.names.contains(adapter)
    }
}

/// Which jobs are to end.
#[derive(Clone, Copy)]
pub(crate) enum Which<'a> {
    All,
    /// Those that use a version, of an adapter or of a hook.
    Using(&'a Digest),
    /// Those that a key asked for.
    Of(&'a KeyId),
    /// Those that use an adapter, of tenants that may call it no more.
    Deprived(&'a AdapterName, &'a Deprived),
}

/// How a request was ended as a whole, other than by the ends of its jobs: from outside, or because one of its jobs
/// failed and the others are of no use without it. The first word counts. All jobs of the request share it.
#[derive(Debug, Default)]
pub(crate) struct Ending(OnceLock<Outcome>);

impl Ending {
    pub(crate) fn set(&self, outcome: Outcome) {
        // Only the first counts.
        let _ = self.0.set(outcome);
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.0.get().copied()
    }
}

/// What a job hears.
#[derive(Debug)]
pub(crate) enum News {
    /// Its [`Ending`] was set from outside.
    End,
    /// It waits again for a node.
    Requeued,
    /// It is over. The last news.
    Settled(Settled),
}

/// What the job would run on is no more.
#[derive(Debug)]
pub(crate) enum Withdrawn {
    /// A version that it would use was taken down, for all or for its tenant.
    Version,
    /// The key that asks for it was revoked.
    Key,
}

impl From<Withdrawn> for JobFailure {
    fn from(withdrawn: Withdrawn) -> Self {
        match withdrawn {
            Withdrawn::Version => Self::TakenDown,
            Withdrawn::Key => Self::KeyRevoked,
        }
    }
}

impl OpenJobs {
    /// Opens a job, before it is submitted, until the result is dropped.
    ///
    /// # Errors
    /// [`Withdrawn`] if a take-down, a revocation or the end of a grant came between the look at the registry and now.
    pub(crate) fn open(
        &self,
        job: JobId,
        pool: PoolId,
        asked: Arc<Asked>,
        adapters: Arc<[Digest]>,
        ending: Arc<Ending>,
    ) -> Result<Listener, Withdrawn> {
        let mut table = self.lock();
        let mut deprived = table.deprived.iter();
        if deprived.any(|(adapter, from, at)| *at >= asked.at && asked.is_deprived(adapter, from)) {
            return Err(Withdrawn::Version);
        }
        if adapters.iter().chain(&asked.hooks).any(|digest| table.taken_down.contains(digest)) {
            return Err(Withdrawn::Version);
        }
        if table.revoked.contains(&asked.key) {
            return Err(Withdrawn::Key);
        }
        let slot = Arc::new(Slot::default());
        let delivered = Arc::<AtomicU32>::default();
        let (of_slot, of_delivered) = (Arc::clone(&slot), Arc::clone(&delivered));
        let (told, standing) = (0, None);
        let open = OpenJob { pool, asked, adapters, ending, slot: of_slot, delivered: of_delivered, told, standing };
        table.jobs.insert(job.clone(), open);
        drop(table);
        Ok(Listener { open_jobs: self.clone(), job, slot, delivered })
    }

    /// Ends jobs from outside and says which, so that they can be cancelled.
    pub(crate) fn end(&self, which: Which<'_>, outcome: Outcome) -> Vec<(PoolId, JobId)> {
        let mut table = self.lock();
        match which {
            Which::All => {}
            Which::Using(digest) => remember(&mut table.taken_down, *digest),
            Which::Of(key) => remember(&mut table.revoked, key.clone()),
            Which::Deprived(adapter, from) => {
                remember(&mut table.deprived, (adapter.clone(), from.clone(), Instant::now()));
            }
        }
        let meant = |open: &OpenJob| match which {
            Which::All => true,
            Which::Using(digest) => open.adapters.contains(digest) || open.asked.hooks.contains(digest),
            Which::Of(key) => open.asked.key == *key,
            Which::Deprived(adapter, from) => open.asked.is_deprived(adapter, from),
        };
        let ended = table.jobs.iter().filter(|(_, open)| meant(open)).map(|(job, open)| {
            open.ending.set(outcome);
            open.slot.put(|unread| unread.end = true);
            (open.pool, job.clone())
        });
        ended.collect()
    }

    /// The life of its data that the queue of a pool was in when it said so last.
    pub(crate) fn life(&self, pool: PoolId) -> Option<Life> {
        self.lock().lives.get(&pool).copied()
    }

    /// The queue of a pool has said in which life of its data it is. Returns whether it was in another before.
    pub(crate) fn hear_life(&self, pool: PoolId, life: Life) -> bool {
        self.lock().lives.insert(pool, life).is_some_and(|before| before != life)
    }

    /// The jobs of a pool that the queue does not know in this life of its data, the oldest first.
    pub(crate) fn unknown_in(&self, pool: PoolId, life: Life) -> Vec<Arc<Standing>> {
        let table = self.lock();
        let of_pool = table.jobs.values().filter(|open| open.pool == pool).filter_map(|open| open.standing.as_ref());
        let mut unknown: Vec<_> = of_pool.filter(|one| one.life != Some(life)).cloned().collect();
        drop(table);
        unknown.sort_by(|one, other| one.submission.job.id.cmp(&other.submission.job.id));
        unknown
    }

    /// A job is on the queue, if it is still open.
    pub(crate) fn stands(&self, standing: Standing) {
        let mut table = self.lock();
        let Some(open) = table.jobs.get_mut(&standing.submission.job.id) else { return };
        (open.told, open.standing) = (0, Some(Arc::new(standing)));
    }

    /// Whether a job is still wanted.
    pub(crate) fn is_standing(&self, job: &JobId) -> bool {
        self.lock().jobs.get(job).is_some_and(|open| open.standing.is_some())
    }

    /// What callers in a pool were handed that the queue does not know yet.
    pub(crate) fn untold(&self, pool: PoolId) -> Vec<Delivered> {
        let table = self.lock();
        let of_pool = table.jobs.iter().filter(|(_, open)| open.pool == pool && open.standing.is_some());
        let untold = of_pool.filter_map(|(job, open)| {
            let tokens = open.delivered.load(Ordering::Relaxed);
            (tokens != open.told).then(|| Delivered { job: job.clone(), tokens })
        });
        untold.collect()
    }

    /// The queue has heard that.
    pub(crate) fn told(&self, heard: &[Delivered]) {
        let mut table = self.lock();
        for Delivered { job, tokens } in heard {
            table.jobs.entry(job.clone()).and_modify(|open| open.told = *tokens);
        }
    }

    /// The versions that were taken down, as far as they are remembered.
    pub(crate) fn taken_down(&self) -> Vec<Digest> {
        self.lock().taken_down.iter().copied().collect()
    }

    /// The pool of a job that is open.
    pub(crate) fn pool_of(&self, job: &JobId) -> Option<PoolId> {
        self.lock().jobs.get(job).map(|open| open.pool)
    }

    /// Whether a version is known to be taken down, of an adapter or of a hook.
    pub(crate) fn is_taken_down(&self, digest: &Digest) -> bool {
        self.lock().taken_down.contains(digest)
    }

    /// Carries the notices of one pool to their jobs, for ever.
    pub(crate) async fn carry(self, queue: Arc<dyn JobQueue>, pool: PoolId, gateway: GatewayId) {
        loop {
            match queue.next_notices(pool, &gateway, WAIT).await {
                Ok(notices) => notices.into_iter().for_each(|notice| self.tell(notice)),
                Err(error) => {
                    tracing::warn!(%error, "cannot read the queue's notices");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn tell(&self, Notice { job, kind }: Notice) {
        // A job that is not here was settled without the queue's word, and has said so in the log.
        let Some(slot) = self.lock().jobs.get(&job).map(|open| Arc::clone(&open.slot)) else { return };
        slot.put(|unread| match kind {
            NoticeKind::Requeued => unread.requeued = true,
            NoticeKind::Settled(settled) => unread.settled = Some(settled),
        });
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remember<T>(withdrawn: &mut VecDeque<T>, one: T) {
    if withdrawn.len() == WITHDRAWALS_KEPT {
        withdrawn.pop_front();
    }
    withdrawn.push_back(one);
}

/// A job's end of the table; it leaves the table when dropped.
pub(crate) struct Listener {
    open_jobs: OpenJobs,
    job: JobId,
    slot: Arc<Slot>,
    delivered: Arc<AtomicU32>,
}

impl Listener {
    /// The caller was handed so many tokens.
    pub(crate) fn delivered(&self, num_tokens: u32) {
        self.delivered.store(num_tokens, Ordering::Relaxed);
    }

    /// Nobody waits for an answer of it any more: should the queue lose it, it stays lost.
    pub(crate) fn let_go(&self) {
        if let Some(open) = self.open_jobs.lock().jobs.get_mut(&self.job) {
            open.standing = None;
        }
    }

    /// The next news; waits for ever after the last. Dropping the wait loses nothing.
    pub(crate) async fn next(&mut self) -> News {
        std::future::poll_fn(|context| {
            // Registered before looking, so that what comes in between is not missed.
            self.slot.reader.register(context.waker());
            self.slot.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.open_jobs.lock().jobs.remove(&self.job);
    }
}

#[derive(Default)]
struct Slot {
    unread: Mutex<Unread>,
    reader: AtomicWaker,
}

#[derive(Default)]
struct Unread {
    end: bool,
    requeued: bool,
    settled: Option<Settled>,
}

impl Slot {
    fn put(&self, note: impl FnOnce(&mut Unread)) {
        note(&mut self.unread.lock().unwrap_or_else(PoisonError::into_inner));
        self.reader.wake();
    }

    fn take(&self) -> Option<News> {
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut unread.end) {
            return Some(News::End);
        }
        if std::mem::take(&mut unread.requeued) {
            return Some(News::Requeued);
        }
        unread.settled.take().map(News::Settled)
    }
}
