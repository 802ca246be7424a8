//! All of it together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use souk_limits::{Amounts, Ask, Limits, Repeats};
use souk_protocol::{LimitTree, RequestRecord, wall_clock};
use tokio_util::task::AbortOnDropHandle;

use super::holdings::Holdings;
use super::journal::{Journal, JournalError, JournalSettings, Left};
use super::opened::Opened;
use super::posted::Posted;
use super::renewal::{self, RunningRepeats};
use super::store::UsageStore;
use super::writer::Writer;

/// How long a process that ends waits until the queue has heard what is written.
const LAST_ACKNOWLEDGED: Duration = Duration::from_millis(500);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What usage is limited by and written to.
pub struct AccountingParts {
    /// Where what is used is reserved.
    pub limits: Arc<dyn Limits>,
    /// Where the keys of requests are.
    pub repeats: Arc<dyn Repeats>,
    /// Where rows go.
    pub store: Arc<dyn UsageStore>,
    /// Where they wait until they are there.
    pub journal: JournalSettings,
}

/// A handle on what this gateway counts; clones share it.
#[derive(Clone)]
pub struct Accounting {
    shared: Arc<Shared>,
}

struct Shared {
    repeats: Arc<dyn Repeats>,
    store: Arc<dyn UsageStore>,
    journal: Arc<Journal>,
    holdings: Arc<Holdings>,
    running_repeats: Arc<RunningRepeats>,
    writer: Arc<Writer>,
    posted: Arc<Posted>,
    /// What processes before had under way, until it is known what became of it.
    left_open: Mutex<Vec<Opened>>,
    /// They end with the gateway.
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Accounting {
    /// Opens the journal, holds what is in it, and begins to write it. Nobody is to be let in before this has returned. Call it
    /// within a tokio runtime.
    ///
    /// # Errors
    /// [`JournalError`] if the journal cannot be used.
    pub async fn open(parts: AccountingParts) -> Result<Self, JournalError> {
        let AccountingParts { limits, repeats, store, journal } = parts;
        let opened = tokio::task::spawn_blocking(move || Journal::open(journal));
        let (journal, Left { settled: records, opened }) = opened.await.expect("opening a journal does not panic")?;
        let journal = Arc::new(journal);
        let holdings = Holdings::new(limits, Arc::clone(&store));
        holdings.restore_settled(records.iter().filter_map(held_for).collect()).await;
        let (posted, left_open) = (Arc::<Posted>::default(), Mutex::new(opened));
        let writer = Writer::new(Arc::clone(&store), Arc::clone(&holdings), Arc::clone(&journal), Arc::clone(&posted));
        let writer = Arc::new(writer);
        records.into_iter().for_each(|record| writer.push(record));
        let running_repeats = Arc::<RunningRepeats>::default();
        let renewal = renewal::keep_up(Arc::clone(&holdings), Arc::clone(&repeats), Arc::clone(&running_repeats));
        let tasks = [
            AbortOnDropHandle::new(tokio::spawn(Arc::clone(&writer).run())),
            AbortOnDropHandle::new(tokio::spawn(renewal)),
        ];
        let shared =
            Shared { repeats, store, journal, holdings, running_repeats, writer, posted, left_open, _tasks: tasks };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Writes what is not written yet, for at most so long, and has the disk follow with the rest. To be called when the last
    /// request is settled.
    pub async fn close(&self, within: Duration) {
        let deadline = tokio::time::Instant::now() + within;
        if tokio::time::timeout_at(deadline, self.shared.writer.drain()).await.is_err() {
            let requests = self.shared.writer.len();
            tracing::warn!(requests, "Usage is not written yet; the next start writes it from the journal");
        }
        // Else another gateway would write it a second time.
        let heard = async {
            while self.shared.posted.len() > 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout_at(deadline.min(tokio::time::Instant::now() + LAST_ACKNOWLEDGED), heard).await.ok();
        self.shared.journal.close().await;
    }

    /// Requests whose rows are not in the database yet.
    #[must_use]
    pub fn num_unwritten(&self) -> usize {
        self.shared.writer.len()
    }

    /// Requests that hold something of their limits: those under way, and those whose rows no total counts yet.
    #[must_use]
    pub fn num_holding(&self) -> usize {
        self.shared.holdings.len()
    }

    /// Bytes of the journal.
    #[must_use]
    pub fn journal_bytes(&self) -> u64 {
        self.shared.journal.bytes()
    }

    /// Renews and tells again all that is held, as is done every third of a lease.
    pub async fn renew(&self) {
        self.shared.holdings.renew().await;
    }

    pub(crate) fn repeats(&self) -> &dyn Repeats {
        self.shared.repeats.as_ref()
    }

    pub(crate) fn running_repeats(&self) -> &RunningRepeats {
        &self.shared.running_repeats
    }

    pub(crate) fn store(&self) -> &dyn UsageStore {
        self.shared.store.as_ref()
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    pub(crate) fn holdings(&self) -> &Arc<Holdings> {
        &self.shared.holdings
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.shared.writer
    }

    pub(crate) fn posted(&self) -> &Posted {
        &self.shared.posted
    }

    /// What processes before had under way and did not settle.
    pub(crate) fn left_open(&self) -> Vec<Opened> {
        self.lock_left_open().clone()
    }

    /// Nobody knows more of a request that a process before had under way: it was lost, and is free.
    pub(crate) async fn lose(&self, opened: &Opened) {
        tracing::info!(request = %opened.head.request, "A request was under way when its process ended; it is free");
        self.write(opened.lost(wall_clock::unix_ms())).await;
    }

    /// Writes a request down that another gateway has left. Returns whether that is not done or under way already.
    pub(crate) async fn adopt(&self, record: RequestRecord) -> bool {
        if self.shared.writer.has(&record.request) {
            return false;
        }
        if let Some(ask) = held_for(&record) {
            self.shared.holdings.adopt(ask).await;
        }
        self.write(record).await;
        true
    }

    /// Has the journal know a record before it is written.
    async fn write(&self, record: RequestRecord) {
        self.lock_left_open().retain(|left| left.head.request != record.request);
        self.shared.journal.settled(record.clone()).await;
        self.shared.writer.push(record);
    }

    fn lock_left_open(&self) -> MutexGuard<'_, Vec<Opened>> {
        self.shared.left_open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a settled request has to hold until its rows are counted; nothing if it was free.
///
/// Its limits are not kept: it is held for whom it counts, under whatever limits they have now.
fn held_for(record: &RequestRecord) -> Option<Ask> {
    let (input_tokens, output_tokens) = record.charge();
    let amounts = Amounts { requests: 1, input_tokens, output_tokens, training_tokens: 0 };
    let tree = LimitTree::without_limits(record.subjects());
    amounts.costs().then(|| Ask {
        request: record.request.clone(),
        tenant: record.tenant.clone(),
        tree: Arc::new(tree),
        amounts,
        at_ms: record.admitted_at_ms,
    })
}
