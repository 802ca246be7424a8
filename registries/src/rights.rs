//! Answers about rights, as they are kept: for less than a second they are as good as new, then they are asked for again; and
//! while no registry answers they are believed for some seconds more.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use souk_protocol::TenantId;
use souk_protocol::flights::Flights;
use souk_protocol::gate::{Gate, Rules};
use souk_protocol::recent::{Had, Recent};

use crate::hearing::Heard;
use crate::metrics;
use crate::registries::{Answered, AskError};

/// How long an answer is as good as new. With the time that a question takes it is within the second in which a
/// revocation is to count.
pub(crate) const FRESH: Duration = Duration::from_millis(900);
/// How old an answer is when it is asked for again behind those who get it, so that what is asked for often never waits.
const RENEWED: Duration = Duration::from_millis(600);
/// Answers that are kept: some 500 bytes each.
const MOST_KEPT: usize = 16_384;
/// Questions that are asked at a time. An eighth of the places is for tenants that ask nothing else.
const MOST_ASKED: u64 = 64;
/// How long a question waits for its turn.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whose a question is; `None`: of nobody who is known.
pub(crate) type Holder = Option<TenantId>;

/// Answers `A` to questions `Q`.
pub(crate) struct Rights<Q: Eq + Hash + Clone, A>(Arc<Shared<Q, A>>);

struct Shared<Q: Eq + Hash + Clone, A> {
    stale: Duration,
    recent: Recent<Holder, Q, A>,
    flights: Flights<(Q, u64), Result<Had<A>, AskError>>,
    turns: Gate<Holder>,
    /// The number of [`Heard::num_anew`] that what is kept belongs to.
    anew: AtomicU64,
}

impl<Q: Eq + Hash + Clone + Send + Sync + 'static, A: Send + Sync + 'static> Rights<Q, A> {
    pub(crate) fn new(stale: Duration) -> Self {
        Self(Arc::new(Shared {
            stale,
            recent: Recent::new(MOST_KEPT, stale.max(FRESH)),
            flights: Flights::new(),
            turns: Gate::new(Rules::with_an_eighth_kept(MOST_ASKED, 1, MOST_ASKED)),
            anew: AtomicU64::new(0),
        }))
    }

    /// The answer: kept, or what `ask` hears, or where nobody answers what was kept for longer. `holder_of` says whose
    /// an answer is; `asker` whose the question is before there is one. Call it within a tokio runtime.
    pub(crate) async fn get<F: Future<Output = Result<Answered<A>, AskError>> + Send + 'static>(
        &self,
        heard: &Heard,
        question: Q,
        asker: Holder,
        holder_of: impl Fn(&A) -> Holder + Send + Sync + 'static,
        ask: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Arc<A>, AskError> {
        let shared = &self.0;
        shared.forget_if_anew(heard);
        let change = heard.change();
        let kept = shared.recent.get(&question);
        let asker = kept.as_ref().map_or(asker, |kept| holder_of(&kept.answer));
        if let Some(kept) = kept.filter(|kept| kept.change == change && age(kept) < FRESH) {
            if age(&kept) >= RENEWED && !shared.flights.is_under_way(&(question.clone(), change)) {
                let shared = Arc::clone(shared);
                // Where it fails, whoever asks next does so in vain and says it.
                tokio::spawn(async move { shared.ask(question, change, asker, holder_of, ask).await.ok() });
            }
            return Ok(kept.answer);
        }
        match shared.ask(question.clone(), change, asker, holder_of, ask).await {
            Ok(had) => Ok(had.answer),
            Err(error) => {
                // What was forgotten meanwhile is not believed.
                shared.forget_if_anew(heard);
                let known = shared.recent.get(&question).filter(|kept| age(kept) < shared.stale).ok_or(error)?;
                metrics::served_stale();
                Ok(known.answer)
            }
        }
    }
}

impl<Q: Eq + Hash + Clone, A> Shared<Q, A> {
    /// What `ask` hears, or another who asks already; kept.
    async fn ask<F: Future<Output = Result<Answered<A>, AskError>>>(
        &self,
        question: Q,
        change: u64,
        asker: Holder,
        holder_of: impl Fn(&A) -> Holder,
        ask: impl FnOnce() -> F,
    ) -> Result<Had<A>, AskError> {
        let flight = async {
            let _turn = self.turns.wait(&asker, 1, PATIENCE).await.map_err(AskError::no_turn)?;
            // On the heap: it is large, and most calls do not need it.
            let Answered { answer, asked_at } = Box::pin(ask()).await?;
            let had = Had { answer: Arc::new(answer), at: asked_at.into_std(), change };
            self.recent.keep(holder_of(&had.answer), question.clone(), had.clone());
            Ok(had)
        };
        self.flights.join((question.clone(), change), flight).await
    }

    fn forget_if_anew(&self, heard: &Heard) {
        let num_anew = heard.num_anew();
        if self.anew.swap(num_anew, Ordering::AcqRel) != num_anew {
            self.recent.clear();
        }
    }
}

fn age<A>(kept: &Had<A>) -> Duration {
    now().saturating_duration_since(kept.at)
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::lines::Read;
    use souk_protocol::internal::Line;

    const STALE: Duration = Duration::from_secs(5);

    struct Field {
        rights: Rights<&'static str, usize>,
        heard: Heard,
        asked: Arc<AtomicUsize>,
    }

    impl Field {
        fn new() -> Self {
            Self { rights: Rights::new(STALE), heard: Heard::new(), asked: Arc::default() }
        }

        async fn get(&self, answers: bool) -> Option<usize> {
            let asked = Arc::clone(&self.asked);
            let ask = move || async move {
                let asked_at = tokio::time::Instant::now();
                if !answers {
                    return Err(AskError::nobody());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok(Answered { answer: asked.fetch_add(1, Ordering::Relaxed), asked_at })
            };
            fn tenant() -> Holder {
                Some(TenantId::from_stored("t"))
            }
            self.rights.get(&self.heard, "q", tenant(), |_| tenant(), ask).await.ok().map(|answer| *answer)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_for_less_than_a_second_and_for_longer_only_where_nobody_answers() {
        let field = Field::new();
        assert_eq!(field.get(false).await, None);
        assert_eq!((field.get(true).await, field.get(true).await), (Some(0), Some(0)));
        tokio::time::advance(FRESH).await;
        assert_eq!(field.get(false).await, Some(0), "nobody answers");
        assert_eq!(field.get(true).await, Some(1));
        tokio::time::advance(STALE - Duration::from_millis(10)).await;
        assert_eq!(field.get(false).await, Some(1), "since it was confirmed last, not since it was first known");
        tokio::time::advance(Duration::from_millis(10)).await;
        assert_eq!(field.get(false).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_makes_it_be_asked_for_again_and_a_new_beginning_forgets_it() {
        let field = Field::new();
        assert_eq!(field.get(true).await, Some(0));
        field.heard.take(Read::Line(Line::Changed));
        assert_eq!(field.get(false).await, Some(0), "it may still be so");
        assert_eq!(field.get(true).await, Some(1));
        field.heard.take(Read::Line(Line::Anew));
        assert_eq!(field.get(false).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_for_often_never_waits() {
        let field = Field::new();
        assert_eq!(field.get(true).await, Some(0));
        for expected in [0, 1, 2] {
            tokio::time::advance(RENEWED).await;
            let began = tokio::time::Instant::now();
            let all = futures::future::join_all((0..100).map(|_| field.get(true))).await;
            assert!(all.iter().all(|answer| *answer == Some(expected)), "one asks, behind all of them: {all:?}");
            assert_eq!(began.elapsed(), Duration::ZERO);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::advance(RENEWED).await;
        assert_eq!(field.get(false).await, Some(3), "nobody answers now, and it is fresh for some time");
        tokio::time::advance(FRESH - RENEWED).await;
        assert_eq!(field.get(false).await, Some(3), "it is believed");
        assert_eq!(field.get(true).await, Some(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_asks_once() {
        let field = Field::new();
        let answers = futures::future::join_all((0..500).map(|_| field.get(true))).await;
        assert!(answers.iter().all(|answer| *answer == Some(0)));
    }
}
