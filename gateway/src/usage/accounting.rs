//! All of it together.

use std::sync::Arc;
use std::time::Duration;

use souk_limits::{Amounts, Ask, Limits, Repeats};
use souk_protocol::{LimitTree, RequestRecord};
use tokio_util::task::AbortOnDropHandle;

use super::holdings::Holdings;
use super::journal::{Journal, JournalError, JournalSettings};
use super::renewal::{self, RunningRepeats};
use super::store::UsageStore;
use super::writer::Writer;

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
        let (journal, records) = opened.await.expect("opening a journal does not panic")?;
        let journal = Arc::new(journal);
        let holdings = Holdings::new(limits, Arc::clone(&store));
        holdings.restore_settled(records.iter().filter_map(held_for).collect()).await;
        let writer = Arc::new(Writer::new(Arc::clone(&store), Arc::clone(&holdings), Arc::clone(&journal)));
        records.into_iter().for_each(|record| writer.push(record));
        let running_repeats = Arc::<RunningRepeats>::default();
        let renewal = renewal::keep_up(Arc::clone(&holdings), Arc::clone(&repeats), Arc::clone(&running_repeats));
        let tasks = [
            AbortOnDropHandle::new(tokio::spawn(Arc::clone(&writer).run())),
            AbortOnDropHandle::new(tokio::spawn(renewal)),
        ];
        let shared = Shared { repeats, store, journal, holdings, running_repeats, writer, _tasks: tasks };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Writes what is not written yet, for at most so long, and has the disk follow with the rest. To be called when the last
    /// request is settled.
    pub async fn close(&self, within: Duration) {
        if tokio::time::timeout(within, self.shared.writer.drain()).await.is_err() {
            let requests = self.shared.writer.len();
            tracing::warn!(requests, "Usage is not written yet; the next start writes it from the journal");
        }
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
