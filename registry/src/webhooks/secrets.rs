//! The secrets of endpoints as the database has them: sealed, bound to their endpoint.

use sea_orm::{DatabaseConnection, DbErr};

use super::sign::WebhookSecret;
use crate::db::{WebhookEndpointRow, now_ms, webhook_endpoints};
use crate::seal::{CannotOpen, Sealed, Seals};

/// What signs for an endpoint now: its secret, and for a while the one before.
pub(super) fn signing(seals: &Seals, row: &WebhookEndpointRow) -> Result<Vec<WebhookSecret>, CannotOpen> {
    let (now, before) = sealed_in(row);
    let mut secrets = vec![WebhookSecret::from_bytes(seals.open(&now, &row.id)?)];
    if row.secret_before_until_ms.is_some_and(|until_ms| until_ms > now_ms())
        // One that opens no more signs no more; the new one does.
        && let Some(Ok(before)) = before.map(|before| seals.open(&before, &row.id))
    {
        secrets.push(WebhookSecret::from_bytes(before));
    }
    Ok(secrets)
}

/// Puts what is under an older sealing key under the newest.
pub(crate) async fn reseal(db: &DatabaseConnection, seals: &Seals) -> Result<(), DbErr> {
    let newest = seals.newest_version();
    for row in webhook_endpoints::sealed_under_others(db, newest).await? {
        let again = |sealed: &Sealed| seals.open(sealed, &row.id).map(|secret| seals.close(&secret, &row.id));
        let (now, before) = sealed_in(&row);
        let before = before.and_then(|before| again(&before).ok());
        let parts = |Sealed { version, bytes }: Sealed| (version, bytes);
        match again(&now) {
            Ok(now) => webhook_endpoints::reseal(db, &row, parts(now), before.map(parts)).await?,
            Err(error) => {
                let id = &row.id;
                tracing::warn!(webhook.id = id, %error, "Nothing is delivered to webhook {id} until its secret is rotated");
            }
        }
    }
    Ok(())
}

fn sealed_in(row: &WebhookEndpointRow) -> (Sealed, Option<Sealed>) {
    let now = Sealed { version: row.seal_version, bytes: row.sealed_secret.clone() };
    let before = row.sealed_secret_before.clone().zip(row.seal_version_before);
    (now, before.map(|(bytes, version)| Sealed { version, bytes }))
}
