//! Publishing where chains end, every hour: rows of a table that only grows, and a line in the log with a digest over them,
//! so that neither can be rewritten unless whoever keeps the log takes part. Who begins to publish says the last digest once
//! more, since who published before may have ended before it had.

use std::time::Duration;

use sea_orm::{DatabaseConnection, DbErr};
use sha2::{Digest as _, Sha256};
use souk_protocol::Digest;
use tokio::time::Instant;

use crate::db::{now_ms, published_heads};

/// Heads that are read at a time for the digest.
const READ_AT_ONCE: u64 = 500;

/// Publishes what has grown since it was last done; one registry at a time does, that of the collector.
pub(crate) struct Publisher {
    every: Duration,
    /// `None` before it was looked for when that was done last.
    next: Option<Instant>,
    /// When heads were published whose digest was not said yet.
    untold_ms: Option<i64>,
}

impl Publisher {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, next: None, untold_ms: None }
    }

    /// Publishes if it is time to; answers the digest that it said last, if it said any.
    pub(crate) async fn look(&mut self, db: &DatabaseConnection) -> Result<Option<Digest>, DbErr> {
        let looked = self.try_look(db).await;
        if looked.is_err() {
            // What was not answered may have been published.
            self.next = None;
        }
        looked
    }

    async fn try_look(&mut self, db: &DatabaseConnection) -> Result<Option<Digest>, DbErr> {
        let now = Instant::now();
        let next = match self.next {
            Some(next) => next,
            None => {
                // Another registry, or this one before its start, did so a while ago.
                let newest_ms = published_heads::newest_ms(db).await?;
                self.untold_ms = newest_ms;
                let ago = newest_ms.map(|at_ms| now_ms().saturating_sub(at_ms).max(0));
                let ago = ago.map_or(self.every, |ago_ms| Duration::from_millis(ago_ms.unsigned_abs()));
                now + self.every.saturating_sub(ago)
            }
        };
        self.next = Some(next);
        let once_more = self.tell_untold(db).await?;
        if now < next {
            return Ok(once_more);
        }
        let at_ms = now_ms();
        let num_published = published_heads::publish(db, at_ms).await?;
        self.next = Some(now + self.every);
        self.untold_ms = (num_published > 0).then_some(at_ms);
        Ok(self.tell_untold(db).await?.or(once_more))
    }

    async fn tell_untold(&mut self, db: &DatabaseConnection) -> Result<Option<Digest>, DbErr> {
        let Some(at_ms) = self.untold_ms else { return Ok(None) };
        let digest = tell(db, at_ms).await?;
        self.untold_ms = None;
        Ok(Some(digest))
    }
}

/// Says the digest over the heads that were published as of `at_ms`.
async fn tell(db: &DatabaseConnection, at_ms: i64) -> Result<Digest, DbErr> {
    let (mut after, mut sha256, mut num_published) = (None, Sha256::new(), 0);
    loop {
        let rows = published_heads::published_at(db, at_ms, after, READ_AT_ONCE).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.tenant_id.clone());
        num_published += rows.len();
        for row in &rows {
            sha256.update(format!("{} {} {}\n", row.tenant_id, row.number, row.hash).as_bytes());
        }
    }
    let digest = Digest::from_bytes(sha256.finalize().into());
    tracing::info!(
        audit.at_ms = at_ms,
        audit.num_heads = num_published,
        audit.digest = %digest,
        "Published {num_published} heads of audit chains with the digest {digest}"
    );
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectOptions, ConnectionTrait as _, Database};
    use souk_migrations::{Migrator, MigratorTrait as _};

    use super::*;

    #[tokio::test]
    async fn a_digest_is_said_when_heads_are_published_and_once_more_by_who_begins() {
        let db = Database::connect(ConnectOptions::new("sqlite::memory:").max_connections(1).to_owned()).await.unwrap();
        Migrator::up(&db, None).await.unwrap();
        let every = Duration::from_secs(3600);
        let mut publisher = Publisher::new(every);
        assert_eq!(publisher.look(&db).await.unwrap(), None, "nothing is there");
        let grow = "INSERT INTO audit_heads (tenant_id, number, hash) VALUES ('ten_1', 7, 'aa'), ('ten_2', 3, 'bb')";
        db.execute_unprepared(grow).await.unwrap();
        let said = Publisher::new(every).look(&db).await.unwrap();
        assert_eq!(said, Some(Digest::of(b"ten_1 7 aa\nten_2 3 bb\n")));
        // Who said it may have ended before, with the rows committed.
        let mut next = Publisher::new(every);
        assert_eq!(next.look(&db).await.unwrap(), said);
        assert_eq!(next.look(&db).await.unwrap(), None);
    }
}
