//! What is withdrawn while answers may run on it: a version that is taken down, a key that is revoked, a tenant's access to
//! an adapter. New requests are
//! refused anyway, by [`Registry::resolve`](crate::Registry::resolve) and
//! [`Registry::authenticate`](crate::Registry::authenticate); who serves versions in the same process ends what runs.
//!
//! This registry's own withdrawals are told as soon as they are committed. Those of other registries of the database
//! are rows that are looked for twice a second, by the number after the last one seen. A listener that begins later has
//! missed what was told, as has a process that died; neither matters, since nothing runs there that was let in before.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
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

/// For how long tokens are believed while other registries' revocations cannot be looked for.
const BELIEVED: Duration = Duration::from_secs(5);

/// Rows that are read at a time.
const READ_AT_ONCE: u64 = 256;

/// How long a row is kept: far longer than a registry that lives can go without looking.
pub(crate) const ROWS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Something that nothing may run on any more.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Tells of withdrawals.
#[derive(Clone, Debug)]
pub(crate) struct Withdrawals {
    sender: Arc<broadcast::Sender<Arc<[Withdrawn]>>>,
    revoked_keys: RevokedKeys,
    changes: Changes,
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
        self.looked_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < BELIEVED
    }

    /// Tells all listeners. Call it after the withdrawals are committed, so that whoever asks later is refused.
    pub(crate) fn tell(&self, withdrawn: impl IntoIterator<Item = Withdrawn>) {
        let at_once: Arc<[Withdrawn]> = withdrawn.into_iter().collect();
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

    /// Tells what other registries than `owner` withdraw after the row `seen`, until it is dropped.
    pub(crate) async fn watch(self, db: DatabaseConnection, owner: Arc<str>, mut seen: i64) {
        let mut is_failing = false;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match withdrawals::after(&db, seen, READ_AT_ONCE).await {
                Ok(rows) => {
                    is_failing = false;
                    *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                    seen = rows.last().map_or(seen, |row| row.id);
                    let others = rows.iter().filter(|row| row.told_by != *owner);
                    self.tell(others.filter_map(Withdrawn::from_row));
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
    use super::*;

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
