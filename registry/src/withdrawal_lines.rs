//! The stream of withdrawals as gateways hear it: all rows after a number, in their order, and every fifth of a second up to
//! which number all was told. A gateway whose stream breaks goes on from there, at whatever registry of the installation.
//!
//! The rows are read from the database at each beat: what another registry withdraws is heard within one, and a registry
//! that cannot read says nothing, so that the gateway turns to another.

use std::time::Duration;

use futures::FutureExt as _;
use sea_orm::DbErr;
use souk_http::revoked::REMEMBERED;
use souk_protocol::KeyId;
use souk_protocol::internal::{HEARTBEAT, Line};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::Registry;
use crate::db::{api_keys, now_ms, services, versions, withdrawals};
use crate::withdrawals::{WithdrawalListener, Withdrawn};

/// Rows that are read at a time.
const READ_AT_ONCE: u64 = 1024;

/// Versions that were taken down and are told to who begins: as many as queues keep orders.
const TAKEN_DOWN_TOLD: u64 = 10_000;

/// How long one look may take before it counts as failed.
const READING_TIME: Duration = Duration::from_secs(1);

/// Changes are told at most this often: each makes a gateway ask anew.
const CHANGES_EVERY: Duration = Duration::from_millis(100);

/// One gateway's stream.
pub(crate) struct WithdrawalLines {
    registry: Registry,
    /// The id of the key of the service that listens.
    service: String,
    /// Where it stands; `None` before it began.
    seen: Option<i64>,
    /// What the gateway has heard already.
    after: Option<i64>,
    beat: tokio::time::Interval,
    bell: WithdrawalListener,
    changes: watch::Receiver<u64>,
    told_change_at: Option<Instant>,
}

impl WithdrawalLines {
    /// A stream that goes on after the number, or begins anew.
    pub(crate) fn new(registry: Registry, service: String, after: Option<i64>) -> Self {
        let mut beat = interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (bell, changes) = (registry.withdrawals(), registry.changes.listen());
        Self { registry, service, seen: None, after, beat, bell, changes, told_change_at: None }
    }

    /// Waits for what is to be told next; `None` when the registry ends, or who listens may listen no more.
    pub(crate) async fn next(&mut self) -> Option<Vec<Line>> {
        loop {
            let ending = self.registry.ending.clone();
            tokio::select! {
                () = ending.cancelled() => return None,
                _ = self.beat.tick() => {}
                // What this registry withdraws is told at once.
                rung = self.bell.next() => {
                    rung?;
                    while self.bell.next().now_or_never().is_some() {}
                }
                // A change alone is no reason to read.
                () = changed(&mut self.changes, self.told_change_at) => {
                    self.told_change_at = Some(Instant::now());
                    return Some(vec![Line::Changed]);
                }
            }
            if self.registry.withdrawals.revoked_keys().has(&self.service) {
                return None;
            }
            // Where it fails silence says so, and the watch of this registry logs it.
            if let Ok(Ok(lines)) = timeout(READING_TIME, self.read()).await {
                return Some(lines);
            }
        }
    }

    async fn read(&mut self) -> Result<Vec<Line>, DbErr> {
        let mut lines = Vec::new();
        let mut seen = match self.seen {
            Some(seen) => seen,
            None => self.begin(&mut lines).await?,
        };
        loop {
            let rows = withdrawals::after(&self.registry.db, seen, READ_AT_ONCE).await?;
            lines.extend(rows.iter().filter_map(Withdrawn::from_row).map(Line::from));
            seen = rows.last().map_or(seen, |row| row.id);
            if (rows.len() as u64) < READ_AT_ONCE {
                break;
            }
        }
        lines.push(Line::At { number: seen, now_ms: now_ms() });
        self.seen = Some(seen);
        Ok(lines)
    }

    /// Where the stream begins. Where it cannot go on from what was heard, it tells all that may still matter: keys that
    /// were revoked while tokens of theirs or answers for them may live, accesses that were withdrawn meanwhile, and versions
    /// that were taken down.
    async fn begin(&self, lines: &mut Vec<Line>) -> Result<i64, DbErr> {
        let db = &self.registry.db;
        // Before the rest: what is withdrawn meanwhile is told twice rather than never.
        let newest = withdrawals::newest(db).await?;
        if let Some(after) = self.after
            && after <= newest
            && withdrawals::oldest(db).await?.is_none_or(|oldest| after + 1 >= oldest)
        {
            return Ok(after);
        }
        lines.push(Line::Anew);
        let keys = api_keys::revoked_within(db, REMEMBERED).await?;
        let services = services::revoked_within(db, REMEMBERED).await?;
        lines.extend(keys.into_iter().chain(services).map(|id| Line::Key(KeyId::from_stored(id))));
        let versions = versions::last_taken_down(db, TAKEN_DOWN_TOLD).await?;
        let accesses = withdrawals::accesses_within(db, REMEMBERED).await?;
        lines.extend(accesses.iter().filter_map(Withdrawn::from_row).map(Line::from));
        lines.extend(versions.iter().rev().filter_map(|row| row.digest.parse().ok()).map(Line::Version));
        Ok(newest)
    }
}

/// Waits for a change, and until one may be told again.
async fn changed(changes: &mut watch::Receiver<u64>, told_at: Option<Instant>) {
    if let Some(told_at) = told_at {
        tokio::time::sleep_until(told_at + CHANGES_EVERY).await;
    }
    if changes.changed().await.is_err() {
        // The registry is gone, and its end says so.
        std::future::pending::<()>().await;
    }
}

impl From<Withdrawn> for Line {
    fn from(withdrawn: Withdrawn) -> Self {
        match withdrawn {
            Withdrawn::Key(id) => Self::Key(id),
            Withdrawn::Version(digest) => Self::Version(digest),
            Withdrawn::Access { adapter, from } => Self::Access { adapter, from },
        }
    }
}
