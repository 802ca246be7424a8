//! Keys that somebody found where they should not be. Anybody may report one by showing it: who has a key can use it, so
//! ending it is the least that can be done with it.
//!
//! Nothing can be learnt by it. Whatever the reports hold, the same is asked of the database and computed, and the answer is
//! the same after the same time; what follows for a key that is one goes on by itself. Should the process die meanwhile, the
//! report is lost and its sender has to send it again; a second one of the same key does nothing.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sea_orm::DbErr;
use serde_json::json;
use souk_http::serve::Origin;
use souk_protocol::gate::Pass;

use super::revoke::{Revoker, Why, descent, end_ways_in, revoke};
use crate::Registry;
use crate::audit::Actor;
use crate::auth::ApiKey;
use crate::db::{api_keys, begin_write, services};
use crate::error::RegistryError;

/// Most reports of one request.
pub(crate) const MAX_REPORTS: usize = 100;
/// Longest address that is passed on to a key's owner.
const MAX_URL_CHARS: usize = 500;
/// When reports are answered: later than whatever follows from them is done, unless the database is slow.
const ANSWERED_AFTER: Duration = Duration::from_millis(250);
/// Tries to end a key before it is left to the log; the pause between two doubles.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// What somebody found.
#[derive(Clone, Debug)]
pub(crate) struct LeakReport {
    /// The text, which may be a key.
    pub(crate) token: String,
    /// Where it was found, as the reporter says.
    pub(crate) url: Option<String>,
}

/// A key that counts and that somebody has shown.
struct Leak {
    id: String,
    /// Whether it is a gateway's.
    is_services: bool,
    url: Option<String>,
}

impl Registry {
    /// Takes reports of leaked keys, at most [`MAX_REPORTS`]. Each that is a key ends it, with all that was made with it, and
    /// tells its tenant.
    pub(crate) async fn take_leak_reports(
        &self,
        reports: Vec<LeakReport>,
        place: Pass<Option<Origin>>,
    ) -> Result<(), RegistryError> {
        // Who asks without a key has no part in what is kept for operators.
        let registry = self.for_no_tenant();
        let answered_at = tokio::time::Instant::now() + ANSWERED_AFTER;
        // A task of its own: it goes on when the reporter does not wait.
        let work = tokio::spawn(async move {
            // Held until all of it is done, so that no more is under way than there are places.
            let _place = place;
            for leak in registry.leaked_among(reports).await? {
                registry.end_leaked(&leak).await;
            }
            Ok::<_, DbErr>(())
        });
        let ended = tokio::time::timeout_at(answered_at, work).await;
        tokio::time::sleep_until(answered_at).await;
        match ended {
            Ok(Ok(Err(error))) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// What the reports show in full and what still counts, once each.
    async fn leaked_among(&self, reports: Vec<LeakReport>) -> Result<Vec<Leak>, DbErr> {
        // What is no key is looked up as one that does not exist.
        let shown =
            |report: LeakReport| (ApiKey::parse(&report.token).unwrap_or_else(|_| ApiKey::generate()), report.url);
        let shown: Vec<_> = reports.into_iter().map(shown).collect();
        let ids: Vec<_> = shown.iter().map(|(key, _)| key.id().to_string()).collect();
        let rows = api_keys::by_ids(&self.db, &ids).await?;
        let rows: HashMap<_, _> = rows.into_iter().map(|row| (row.id.clone(), row)).collect();
        let services = services::by_ids(&self.db, &ids).await?;
        let services: HashMap<_, _> = services.into_iter().map(|row| (row.id.clone(), row)).collect();
        // What was revoked stays so, and what is shown twice is one: for neither do others wait.
        let mut seen = HashSet::new();
        let found = shown.into_iter().filter_map(|(key, url)| {
            let id = key.id();
            let id = id.as_str();
            let row = rows.get(id).filter(|row| row.revoked_at_ms.is_none());
            let service = services.get(id).filter(|row| row.revoked_at_ms.is_none());
            let (is_key, is_service) =
                (self.authenticator.is_key_of(row, &key), self.authenticator.is_services(service, &key));
            let is_news = (is_key || is_service) && seen.insert(id.to_owned());
            is_news.then(|| Leak { id: id.to_owned(), is_services: is_service, url })
        });
        Ok(found.collect())
    }

    /// Ends a key that was shown, once: one that was revoked before stays as it is. Tries again while the database fails.
    async fn end_leaked(&self, leak: &Leak) {
        let (id, mut pause) = (&leak.id, FIRST_PAUSE);
        for left in (0..TRIES).rev() {
            let ended = match leak.is_services {
                true => self.revoke_leaked_service(id).await,
                false => self.try_to_end_leaked(id, leak.url.as_deref()).await,
            };
            match ended {
                Ok(()) => return,
                Err(error) if left == 0 => {
                    tracing::error!(key.id = id, %error, "Key {id} was reported as leaked and could not be revoked");
                }
                Err(error) => tracing::warn!(key.id = id, %error, "Key {id} was reported as leaked; trying again"),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn try_to_end_leaked(&self, id: &str, url: Option<&str>) -> Result<(), DbErr> {
        let transaction = begin_write(&self.db).await?;
        let found = api_keys::lock(&transaction, id).await?;
        let Some(key) = found.filter(|key| key.revoked_at_ms.is_none()) else { return Ok(()) };
        let ids = descent(&transaction, &key.id).await?;
        let revoker = Revoker { registry: &self.owner, actor: Actor::System, key: None };
        let told = json!({ "url": url.and_then(checked_url) });
        let withdrawn = revoke(&transaction, &revoker, &key, &ids, Why::Leaked, told).await?;
        end_ways_in(&transaction, &Actor::System, &ids, Why::Leaked).await?;
        transaction.commit().await?;
        let (id, num_revoked) = (&key.id, withdrawn.len());
        self.withdrawals.tell(withdrawn);
        tracing::warn!(
            key.id = id,
            key.tenant = key.tenant_id,
            num_revoked,
            "Key {id} was reported as leaked and revoked, in all {num_revoked} with those made with it"
        );
        Ok(())
    }
}

/// An address that may be passed on: short, of the web, in plain characters. It is a stranger's text.
fn checked_url(url: &str) -> Option<&str> {
    let is_of_web = url.starts_with("https://") || url.starts_with("http://");
    (is_of_web && url.len() <= MAX_URL_CHARS && url.bytes().all(|byte| byte.is_ascii_graphic())).then_some(url)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_passed_on_of_a_report_is_short_and_plain(url in "\\PC{0,40}|https?://\\PC{0,600}") {
            if let Some(url) = checked_url(&url) {
                prop_assert!(url.starts_with("http") && url.len() <= MAX_URL_CHARS);
                prop_assert!(url.is_ascii() && !url.contains(char::is_whitespace));
            }
        }
    }

    #[test]
    fn an_address_of_the_web_is_passed_on_and_nothing_else() {
        assert_eq!(checked_url("https://example.org/a"), Some("https://example.org/a"));
        for url in ["", "javascript:alert(1)", "https://example.org/a b", "ftp://example.org"] {
            assert_eq!(checked_url(url), None, "{url}");
        }
    }
}
