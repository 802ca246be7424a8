//! What is withdrawn while answers may run on it: a version that is taken down, a key that is revoked, a tenant's access to
//! an adapter. New requests are
//! refused anyway, by [`Registry::resolve`](crate::Registry::resolve) and
//! [`Registry::authenticate`](crate::Registry::authenticate); who serves versions in the same process ends what runs.
//!
//! This registry's own withdrawals are told as soon as they are committed. Those of other registries of the database
//! are rows that are looked for twice a second, by the number after the last one seen. So are its own that it did not
//! come to tell: a handler ends where its client leaves, and an answer of the database may be lost, with the commit done.
//! A listener that begins later has missed what was told, as has a process that died; neither matters, since nothing runs
//! there that was let in before.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::DatabaseConnection;
use souk_http::revoked::RevokedKeys;
use souk_protocol::{AdapterName, Deprived, Digest, KeyId, TenantId};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::changes::Changes;
use crate::db::withdrawals;

/// How many acts of withdrawing a listener may be behind: far more than are made while it ends the answers of one. An act
/// counts once, whatever it withdraws: a key may take any number along that were made with it.
const KEPT: usize = 1024;

/// How often other registries' withdrawals are looked for. Their answers are to end within a second.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// How long it is remembered what this registry told of its own, until the rows come by: far longer than looks take.
const OWN_REMEMBERED: Duration = Duration::from_secs(600);

/// For how long tokens are believed while other registries' revocations cannot be looked for.
const BELIEVED: Duration = Duration::from_secs(5);

/// Rows that are read at a time.
const READ_AT_ONCE: u64 = 256;

/// How long a row is kept: far longer than a registry that lives can go without looking.
pub(crate) const ROWS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Something that nothing may run on any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Withdrawn {
    /// The version with this digest was taken down.
    Version(Digest),
    /// The key was revoked.
    Key(KeyId),
    /// Some tenants may call the adapter no more.
    Access {
        /// The adapter.
        adapter: AdapterName,
        /// Who may not.
        from: Deprived,
    },
}

/// A registry's own withdrawals that came by once of twice: from who made them, and as rows.
#[derive(Debug, Default)]
struct Own {
    told: Once,
    /// Their rows came first, or those who made them do not come to tell.
    as_rows: Once,
}

/// When each came by.
#[derive(Debug, Default)]
struct Once(HashMap<Withdrawn, VecDeque<Instant>>);

impl Once {
    fn note(&mut self, withdrawn: &Withdrawn) {
        self.0.entry(withdrawn.clone()).or_default().push_back(Instant::now());
    }

    /// Whether it came by; each time counts once.
    fn take(&mut self, withdrawn: &Withdrawn) -> bool {
        let Some(times) = self.0.get_mut(withdrawn) else { return false };
        let is_there = times.pop_front().is_some();
        if times.is_empty() {
            self.0.remove(withdrawn);
        }
        is_there
    }

    fn forget_old(&mut self) {
        self.0.retain(|_, times| {
            times.retain(|at| at.elapsed() < OWN_REMEMBERED);
            !times.is_empty()
        });
    }
}

/// Tells of withdrawals.
#[derive(Clone, Debug)]
pub(crate) struct Withdrawals {
    sender: Arc<broadcast::Sender<Arc<[Withdrawn]>>>,
    revoked_keys: RevokedKeys,
    changes: Changes,
    own: Arc<Mutex<Own>>,
    /// When others' were looked for with success, last.
    looked_at: Arc<Mutex<Instant>>,
}

impl Withdrawn {
    /// As the table has it.
    pub(crate) fn to_row(&self) -> withdrawals::New {
        let row = |kind, subject: String| withdrawals::New { kind, subject, adapter: None };
        match self {
            Self::Version(digest) => row("version", digest.to_string()),
            Self::Key(id) => row("key", id.to_string()),
            Self::Access { adapter, from } => {
                let (kind, tenant) = match from {
                    Deprived::Tenant(tenant) => ("access", tenant),
                    Deprived::AllBut(owner) => ("access_all_but", owner),
                };
                withdrawals::New { adapter: Some(adapter.to_string()), ..row(kind, tenant.to_string()) }
            }
        }
    }

    /// `None` for what this program does not know.
    pub(crate) fn from_row(row: &withdrawals::Model) -> Option<Self> {
        match row.kind.as_str() {
            "version" => row.subject.parse().ok().map(Self::Version),
            "key" => Some(Self::Key(KeyId::from_stored(&row.subject))),
            "access" => Self::access(row, Deprived::Tenant),
            "access_all_but" => Self::access(row, Deprived::AllBut),
            _ => None,
        }
    }
}

impl Withdrawn {
    fn access(row: &withdrawals::Model, from: impl FnOnce(TenantId) -> Deprived) -> Option<Self> {
        let adapter = row.adapter.as_deref()?.parse().ok()?;
        Some(Self::Access { adapter, from: from(TenantId::from_stored(&row.subject)) })
    }
}

impl Withdrawals {
    pub(crate) fn new(changes: Changes) -> Self {
        Self {
            sender: Arc::new(broadcast::Sender::new(KEPT)),
            changes,
            revoked_keys: RevokedKeys::default(),
            own: Arc::default(),
            looked_at: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// The keys whose tokens count no more.
    pub(crate) fn revoked_keys(&self) -> &RevokedKeys {
        &self.revoked_keys
    }

    /// Remembers keys that were revoked before this registry began.
    pub(crate) fn remember(&self, keys: Vec<String>) {
        for key in keys {
            self.revoked_keys.add(&key, Instant::now());
        }
    }

    /// Whether other registries' withdrawals are known up to a moment ago.
    pub(crate) fn is_up_to_date(&self) -> bool {
        lock(&self.looked_at).elapsed() < BELIEVED
    }

    /// Tells all listeners of this registry's own. Call it after the withdrawals are committed, so that whoever asks later is
    /// refused.
    pub(crate) fn tell(&self, withdrawn: impl IntoIterator<Item = Withdrawn>) {
        let mut own = lock(&self.own);
        let untold = withdrawn.into_iter().filter(|withdrawn| {
            let came_as_row = own.as_rows.take(withdrawn);
            if !came_as_row {
                own.told.note(withdrawn);
            }
            !came_as_row
        });
        let untold = untold.collect();
        drop(own);
        self.spread(untold);
    }

    /// Whether who made it has told of a row of this registry's own.
    fn was_told(&self, withdrawn: &Withdrawn) -> bool {
        let mut own = lock(&self.own);
        let was_told = own.told.take(withdrawn);
        if !was_told {
            own.as_rows.note(withdrawn);
        }
        was_told
    }

    fn forget_old(&self) {
        let mut own = lock(&self.own);
        own.told.forget_old();
        own.as_rows.forget_old();
    }

    fn spread(&self, at_once: Arc<[Withdrawn]>) {
        for withdrawn in &*at_once {
            if let Withdrawn::Key(key) = withdrawn {
                self.revoked_keys.add(key.as_str(), Instant::now());
            }
        }
        if !at_once.is_empty() {
            self.changes.note();
            // Without listeners nothing runs in this process.
            drop(self.sender.send(at_once));
        }
    }

    pub(crate) fn listen(&self) -> WithdrawalListener {
        WithdrawalListener { receiver: self.sender.subscribe(), heard: VecDeque::new() }
    }

    /// Tells what is withdrawn after the row `seen`, but for what `owner`, which is this registry, has told, until it is dropped.
    pub(crate) async fn watch(self, db: DatabaseConnection, owner: Arc<str>, mut seen: i64) {
        let mut is_failing = false;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match withdrawals::after(&db, seen, READ_AT_ONCE).await {
                Ok(rows) => {
                    is_failing = false;
                    *lock(&self.looked_at) = Instant::now();
                    seen = rows.last().map_or(seen, |row| row.id);
                    let untold = rows.iter().filter_map(|row| {
                        let withdrawn = Withdrawn::from_row(row)?;
                        let is_told = row.told_by == *owner && self.was_told(&withdrawn);
                        (!is_told).then_some(withdrawn)
                    });
                    self.spread(untold.collect());
                    self.forget_old();
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(%error, "What other registries revoke or take down cannot be looked for");
                    }
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hears of each withdrawal from its making on. See [`Registry::withdrawals`](crate::Registry::withdrawals).
#[derive(Debug)]
pub struct WithdrawalListener {
    receiver: broadcast::Receiver<Arc<[Withdrawn]>>,
    /// What came at once and was not answered yet.
    heard: VecDeque<Withdrawn>,
}

impl WithdrawalListener {
    /// What is withdrawn next; `None` once the registry is gone. Dropping the wait loses nothing.
    pub async fn next(&mut self) -> Option<Withdrawn> {
        loop {
            if let Some(withdrawn) = self.heard.pop_front() {
                return Some(withdrawn);
            }
            match self.receiver.recv().await {
                Ok(at_once) => self.heard.extend(at_once.iter().cloned()),
                Err(RecvError::Lagged(missed)) => {
                    tracing::error!(missed, "Withdrawals came faster than running answers could be ended");
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectOptions, Database};
    use souk_migrations::{Migrator, MigratorTrait as _};

    use super::*;

    #[tokio::test]
    async fn what_a_registry_did_not_come_to_tell_of_its_own_is_told_by_its_row() {
        let db = Database::connect(ConnectOptions::new("sqlite::memory:").max_connections(1).to_owned()).await.unwrap();
        Migrator::up(&db, None).await.unwrap();
        let withdrawals = Withdrawals::new(Changes::new());
        let mut listener = withdrawals.listen();
        let watch = tokio::spawn(withdrawals.clone().watch(db.clone(), "this".into(), 0));
        let key = |name: &str| Withdrawn::Key(KeyId::from_stored(name));
        let commit = async |told_by: &str, name: &str| {
            withdrawals::insert_all(&db, told_by, [key(name).to_row()]).await.unwrap();
        };
        commit("this", "told").await;
        withdrawals.tell([key("told")]);
        assert_eq!(listener.next().await, Some(key("told")));
        // Its handler ended with the commit. The same key again, told before: each row counts.
        commit("this", "untold").await;
        commit("this", "told").await;
        commit("another", "of another").await;
        for name in ["untold", "told", "of another"] {
            assert_eq!(listener.next().await, Some(key(name)));
        }
        assert!(withdrawals.revoked_keys().has("untold"));
        // Whoever made it comes to tell after its row was seen.
        withdrawals.tell([key("untold"), key("later")]);
        assert_eq!(listener.next().await, Some(key("later")));
        assert!(lock(&withdrawals.own).told.0.contains_key(&key("later")));
        watch.abort();
    }

    #[tokio::test]
    async fn a_listener_hears_each_withdrawal_from_its_making_on() {
        let withdrawals = Withdrawals::new(Changes::new());
        let version = |name: &str| Withdrawn::Version(Digest::of(name.as_bytes()));
        withdrawals.tell([version("before")]);
        let mut listener = withdrawals.listen();
        let told = [version("first"), Withdrawn::Key(KeyId::from_stored("second"))];
        withdrawals.tell(told.clone());
        for one in told {
            assert_eq!(listener.next().await, Some(one));
        }
        drop(withdrawals);
        assert_eq!(listener.next().await, None);
    }

    #[tokio::test]
    async fn however_much_is_withdrawn_at_once_a_listener_misses_none_of_it() {
        let withdrawals = Withdrawals::new(Changes::new());
        let mut listener = withdrawals.listen();
        let keys: Vec<_> = (0..3 * KEPT).map(|key| Withdrawn::Key(KeyId::from_stored(key.to_string()))).collect();
        withdrawals.tell(keys.clone());
        withdrawals.tell([]);
        for key in keys {
            assert_eq!(listener.next().await, Some(key));
        }
    }

    #[test]
    fn a_row_says_what_was_withdrawn_and_an_unknown_word_nothing() {
        let row = |new: withdrawals::New| withdrawals::Model {
            id: 1,
            kind: new.kind.to_owned(),
            subject: new.subject,
            told_by: String::new(),
            withdrawn_at_ms: 0,
            adapter: new.adapter,
        };
        let access = |from: fn(TenantId) -> Deprived| Withdrawn::Access {
            adapter: "acme/sst2".parse().unwrap(),
            from: from(TenantId::from_stored("ten_1")),
        };
        for one in [
            Withdrawn::Version(Digest::of(b"x")),
            Withdrawn::Key(KeyId::from_stored("k")),
            access(Deprived::Tenant),
            access(Deprived::AllBut),
        ] {
            assert_eq!(Withdrawn::from_row(&row(one.to_row())), Some(one));
        }
        let unknown = |kind, subject: &str| withdrawals::New { kind, subject: subject.to_owned(), adapter: None };
        for new in [unknown("version", "not a digest"), unknown("tenant", "t"), unknown("access", "ten_1")] {
            assert_eq!(Withdrawn::from_row(&row(new)), None);
        }
    }
}
