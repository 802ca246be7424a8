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
/// Answers that are kept: some 500 bytes each.
const MOST_KEPT: usize = 16_384;
/// Questions that are asked at a time. An eighth of the places is for tenants that ask nothing else.
const MOST_ASKED: u64 = 64;
/// How long a question waits for its turn.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whose a question is; `None`: of nobody who is known.
pub(crate) type Holder = Option<TenantId>;

/// Answers `A` to questions `Q`.
pub(crate) struct Rights<Q: Eq + Hash + Clone, A> {
    stale: Duration,
    recent: Recent<Holder, Q, A>,
    flights: Flights<(Q, u64), Result<Had<A>, AskError>>,
    turns: Gate<Holder>,
    /// The number of [`Heard::num_anew`] that what is kept belongs to.
    anew: AtomicU64,
}

impl<Q: Eq + Hash + Clone, A> Rights<Q, A> {
    pub(crate) fn new(stale: Duration) -> Self {
        Self {
            stale,
            recent: Recent::new(MOST_KEPT, stale.max(FRESH)),
            flights: Flights::new(),
            turns: Gate::new(Rules::with_an_eighth_kept(MOST_ASKED, 1, MOST_ASKED)),
            anew: AtomicU64::new(0),
        }
    }

    /// The answer: kept, or what `ask` hears, or where nobody answers what was kept for longer. `holder_of` says whose
    /// an answer is; `asker` whose the question is before there is one.
    pub(crate) async fn get<F: Future<Output = Result<Answered<A>, AskError>>>(
        &self,
        heard: &Heard,
        question: Q,
        asker: Holder,
        holder_of: impl Fn(&A) -> Holder,
        ask: impl FnOnce() -> F,
    ) -> Result<Arc<A>, AskError> {
        self.forget_if_anew(heard);
        let change = heard.change();
        let kept = self.recent.get(&question);
        if let Some(kept) = kept.as_ref().filter(|kept| kept.change == change && age(kept) < FRESH) {
            return Ok(Arc::clone(&kept.answer));
        }
        let asker = kept.as_ref().map_or(asker, |kept| holder_of(&kept.answer));
        let flight = async {
            let _turn = self.turns.wait(&asker, 1, PATIENCE).await.map_err(AskError::no_turn)?;
            // On the heap: it is large, and most calls do not need it.
            let Answered { answer, asked_at } = Box::pin(ask()).await?;
            let had = Had { answer: Arc::new(answer), at: asked_at.into_std(), change };
            self.recent.keep(holder_of(&had.answer), question.clone(), had.clone());
            Ok(had)
        };
        match self.flights.join((question.clone(), change), flight).await {
            Ok(had) => Ok(had.answer),
            Err(error) => {
                // What was forgotten meanwhile is not believed.
                self.forget_if_anew(heard);
                let known = self.recent.get(&question).filter(|kept| age(kept) < self.stale).ok_or(error)?;
                metrics::served_stale();
                Ok(known.answer)
            }
        }
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
        asked: AtomicUsize,
    }

    impl Field {
        fn new() -> Self {
            Self { rights: Rights::new(STALE), heard: Heard::new(), asked: AtomicUsize::new(0) }
        }

        async fn get(&self, answers: bool) -> Option<usize> {
            let ask = || async {
                let asked_at = tokio::time::Instant::now();
                if !answers {
                    return Err(AskError::nobody());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok(Answered { answer: self.asked.fetch_add(1, Ordering::Relaxed), asked_at })
            };
            let tenant = || Some(TenantId::from_stored("t"));
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
    async fn a_burst_asks_once() {
        let field = Field::new();
        let answers = futures::future::join_all((0..500).map(|_| field.get(true))).await;
        assert!(answers.iter().all(|answer| *answer == Some(0)));
    }
}
