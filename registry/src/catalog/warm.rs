//! Who calls, what a name means and what binds a caller, for a gateway in the same process: kept for a moment, so that a call asks the database
//! only now and then.
//!
//! What is kept counts for as long as nothing has changed ([`crate::changes`]) and for no longer than a second. A key that
//! is revoked or an adapter that is changed through this registry is so at the very next call; where another registry does
//! it, at the latest a second later. An answer that was being asked for while something changed is not kept.
//!
//! What happens when: while the database cannot be asked, what was known before is believed a little longer, so that answers go on
//! over a short outage. Who asks first waits as long as the database's own wait; whoever asks the same soon after is not held up
//! by it again. A question that fails says nothing of others: what can be asked is never older than a second.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use sha2::{Digest as _, Sha256};
use souk_protocol::flights::Flights;
use souk_protocol::internal::Resolved;
use souk_protocol::recent::{Had, Recent};
use souk_protocol::{AdapterRef, KeyId, LimitTree, Principal, ResolveError, ResolvedAdapter, TenantId};

use crate::Registry;
use crate::auth::AuthError;
use crate::metrics;

/// How long what is kept counts, if nothing is heard of a change.
const COUNTS_FOR: Duration = Duration::from_secs(1);
/// How long after a failure what is known is told without asking again.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Answers of each kind that are kept: some 500 bytes each.
const MOST_KEPT: usize = 16_384;

/// A [`Registry`] whose answers are kept for a moment. Clones are the same.
#[derive(Clone)]
pub struct WarmCatalog(Arc<Shared>);

struct Shared {
    registry: Registry,
    /// By a hash of what they present, so that no secret is kept; nobody for what opens nothing.
    callers: Answers<[u8; 32], Option<Principal>, AuthError>,
    /// Of another value in each process, so that nobody knows what hashes alike.
    salt: [u8; 32],
    /// By who asks, with which key, and what they wrote.
    adapters: Answers<(TenantId, KeyId, AdapterRef), Resolved, Cause>,
    /// By who asks; `None` for whoever is gone.
    limits: Answers<(TenantId, KeyId), Option<Arc<LimitTree>>, Cause>,
}

/// Why the registry cannot tell, for all who asked.
type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Answers `A` to questions `Q`, or why there is none.
struct Answers<Q: Eq + Hash + Clone, A, E> {
    recent: Recent<Option<TenantId>, Q, A>,
    flights: Flights<(Q, u64), Result<Arc<A>, E>>,
    stale: Duration,
    /// Questions that failed a moment ago, of which something is known.
    failed: Mutex<HashMap<Q, Instant>>,
}

impl WarmCatalog {
    /// With nothing kept yet. For `stale` after it was asked for an answer is believed while the database cannot be asked.
    #[must_use]
    pub fn new(registry: Registry, stale: Duration) -> Self {
        let salt = rand::rng().random();
        let (callers, adapters, limits) = (Answers::new(stale), Answers::new(stale), Answers::new(stale));
        Self(Arc::new(Shared { registry, callers, salt, adapters, limits }))
    }

    /// Who presents this key or token, if it is valid now.
    ///
    /// # Errors
    /// [`AuthError`]; whatever opens nothing is [`AuthError::Invalid`].
    pub async fn authenticate(&self, presented: &str) -> Result<Principal, AuthError> {
        let Shared { registry, callers, salt, .. } = &*self.0;
        let hash = Sha256::new().chain_update(salt).chain_update(presented.as_bytes()).finalize().into();
        let ask = || async {
            match registry.authenticate(presented).await {
                Ok(principal) => Ok(Some(principal)),
                Err(unknown @ (AuthError::Unavailable(_) | AuthError::RevocationsUnknown)) => Err(unknown),
                Err(_) => Ok(None),
            }
        };
        let holder = |caller: &Option<Principal>| caller.as_ref().map(|principal| principal.tenant.clone());
        Option::clone(&*callers.get(registry.changes.number(), hash, holder, ask).await?).ok_or(AuthError::Invalid)
    }

    /// What `reference` means for `principal` now.
    ///
    /// # Errors
    /// As [`Registry::resolve`].
    pub async fn resolve(
        &self,
        principal: &Principal,
        reference: &AdapterRef,
    ) -> Result<ResolvedAdapter, ResolveError> {
        let Shared { registry, adapters, .. } = &*self.0;
        let question = (principal.tenant.clone(), principal.key.clone(), reference.clone());
        let holder = |_: &Resolved| Some(principal.tenant.clone());
        let ask = || async { Resolved::of(registry.resolve(principal, reference).await).map_err(Cause::from) };
        match adapters.get(registry.changes.number(), question, holder, ask).await {
            Ok(resolved) => Resolved::clone(&resolved).into_result(&reference.to_string()),
            Err(cause) => Err(ResolveError::Unavailable(Box::new(cause))),
        }
    }

    /// What binds `principal` now; `None` where it is gone.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub async fn limits(
        &self,
        principal: &Principal,
    ) -> Result<Option<Arc<LimitTree>>, Box<dyn std::error::Error + Send + Sync>> {
        let Shared { registry, limits, .. } = &*self.0;
        let question = (principal.tenant.clone(), principal.key.clone());
        let holder = |_: &Option<Arc<LimitTree>>| Some(principal.tenant.clone());
        let ask = || async {
            let tree = registry.limits_of_caller(principal).await;
            Ok(tree.map_err(|error| Arc::new(error) as Cause)?.map(Arc::new))
        };
        match limits.get(registry.changes.number(), question, holder, ask).await {
            Ok(tree) => Ok(Option::clone(&*tree)),
            Err(cause) => Err(Box::new(cause)),
        }
    }
}

impl<Q: Eq + Hash + Clone, A, E: Clone> Answers<Q, A, E> {
    fn new(stale: Duration) -> Self {
        let recent = Recent::new(MOST_KEPT, stale.max(COUNTS_FOR));
        Self { recent, flights: Flights::new(), stale, failed: Mutex::default() }
    }

    /// What is kept, or what `ask` hears, which several ask together. `change` is the number of the last change, from before: what is
    /// committed meanwhile gives it another. `holder` says whose an answer is.
    async fn get<F: Future<Output = Result<A, E>>>(
        &self,
        change: u64,
        question: Q,
        holder: impl FnOnce(&A) -> Option<TenantId>,
        ask: impl FnOnce() -> F,
    ) -> Result<Arc<A>, E> {
        let at = Instant::now();
        let kept = self.recent.get(&question).filter(|kept| kept.change == change);
        let age = kept.as_ref().map(|kept| at.saturating_duration_since(kept.at));
        let believed = match (kept, age) {
            (Some(kept), Some(age)) if age < COUNTS_FOR => return Ok(kept.answer),
            (Some(kept), Some(age)) if age < self.stale => Some(kept.answer),
            _ => None,
        };
        if let Some(known) = &believed
            && self.has_just_failed(&question)
        {
            metrics::believed();
            return Ok(Arc::clone(known));
        }
        let flight = async {
            // On the heap: it is large, and most calls do not need it.
            let answer = Arc::new(Box::pin(ask()).await?);
            self.recent.keep(holder(&answer), question.clone(), Had { answer: Arc::clone(&answer), at, change });
            Ok(answer)
        };
        let answer = self.flights.join((question.clone(), change), flight).await;
        if believed.is_some() {
            self.note(&question, answer.is_err());
        }
        match (answer, believed) {
            (Err(_), Some(known)) => {
                metrics::believed();
                Ok(known)
            }
            (answer, _) => answer,
        }
    }

    fn has_just_failed(&self, question: &Q) -> bool {
        self.lock().get(question).is_some_and(|at| at.elapsed() < ASKED_AGAIN_AFTER)
    }

    fn note(&self, question: &Q, has_failed: bool) {
        let mut failed = self.lock();
        failed.retain(|_, at| at.elapsed() < ASKED_AGAIN_AFTER);
        if has_failed {
            failed.insert(question.clone(), Instant::now());
        } else {
            failed.remove(question);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Q, Instant>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of a question, and whether that was asked for.
    async fn told(
        answers: &Answers<&'static str, u32, &'static str>,
        question: &'static str,
        now: Result<u32, &'static str>,
    ) -> (u32, bool) {
        let mut is_asked = false;
        let ask = || {
            is_asked = true;
            async { now }
        };
        let answer = answers.get(1, question, |_| None, ask).await.unwrap();
        (*answer, is_asked)
    }

    #[tokio::test]
    async fn a_question_that_fails_keeps_no_other_from_being_asked() {
        let answers = Answers::new(Duration::from_secs(60));
        for question in ["fails", "does not"] {
            assert_eq!(told(&answers, question, Ok(1)).await, (1, true));
            assert_eq!(told(&answers, question, Ok(2)).await, (1, false), "what is fresh is not asked for");
        }
        tokio::time::sleep(COUNTS_FOR).await;
        assert_eq!(told(&answers, "fails", Err("away")).await, (1, true));
        assert_eq!(told(&answers, "fails", Ok(2)).await, (1, false), "nobody waits for it again so soon");
        assert_eq!(told(&answers, "does not", Ok(2)).await, (2, true));
    }
}
