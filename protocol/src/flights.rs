//! Questions that are under way: who asks what is being asked already hears the same answer.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::OnceCell;

/// Questions `Q` that are under way, each with one answer `A` for all who ask it.
#[derive(Debug)]
pub struct Flights<Q: Eq + Hash + Clone, A> {
    /// Locked for a look.
    under_way: Mutex<HashMap<Q, Weak<OnceCell<A>>>>,
}

/// A place on a flight.
struct Ticket<'a, Q: Eq + Hash + Clone, A> {
    flights: &'a Flights<Q, A>,
    question: Q,
    /// There until it is dropped.
    flight: Option<Arc<OnceCell<A>>>,
}

impl<Q: Eq + Hash + Clone, A: Clone> Flights<Q, A> {
    /// With nothing under way.
    #[must_use]
    pub fn new() -> Self {
        Self { under_way: Mutex::new(HashMap::new()) }
    }

    /// The answer, which `ask` gets unless somebody else is at it. If the one who asks goes away, another takes over.
    pub async fn join(&self, question: Q, ask: impl Future<Output = A>) -> A {
        let ticket = self.board(question);
        let flight = ticket.flight.clone().expect("it is there until the ticket is dropped");
        let answer = flight.get_or_init(|| ask).await.clone();
        // From here on it is a new question.
        ticket.land(&flight);
        answer
    }

    /// Whether somebody is at it.
    #[must_use]
    pub fn is_under_way(&self, question: &Q) -> bool {
        self.lock().get(question).is_some_and(|flight| flight.strong_count() > 0)
    }

    fn board(&self, question: Q) -> Ticket<'_, Q, A> {
        let mut under_way = self.lock();
        let flight = under_way.get(&question).and_then(Weak::upgrade).unwrap_or_else(|| {
            let flight = Arc::new(OnceCell::new());
            under_way.insert(question.clone(), Arc::downgrade(&flight));
            flight
        });
        Ticket { flights: self, question, flight: Some(flight) }
    }
}

impl<Q: Eq + Hash + Clone, A> Flights<Q, A> {
    fn lock(&self) -> MutexGuard<'_, HashMap<Q, Weak<OnceCell<A>>>> {
        // Each change is made in one go.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q: Eq + Hash + Clone, A: Clone> Default for Flights<Q, A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Q: Eq + Hash + Clone, A> Ticket<'_, Q, A> {
    fn land(&self, flight: &Arc<OnceCell<A>>) {
        let mut under_way = self.flights.lock();
        if under_way.get(&self.question).is_some_and(|one| Weak::as_ptr(one) == Arc::as_ptr(flight)) {
            under_way.remove(&self.question);
        }
    }
}

impl<Q: Eq + Hash + Clone, A> Drop for Ticket<'_, Q, A> {
    fn drop(&mut self) {
        let mut under_way = self.flights.lock();
        drop(self.flight.take());
        // The last one to leave a flight that never landed.
        if under_way.get(&self.question).is_some_and(|one| one.strong_count() == 0) {
            under_way.remove(&self.question);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_asks_once_and_who_comes_later_asks_again() {
        let (flights, asked) = (Flights::new(), AtomicUsize::new(0));
        let ask = async || {
            tokio::time::sleep(Duration::from_millis(10)).await;
            asked.fetch_add(1, Ordering::Relaxed)
        };
        let burst = tokio::join!(flights.join("q", ask()), flights.join("q", ask()), flights.join("q", ask()));
        assert_eq!(burst, (0, 0, 0));
        assert_eq!(flights.join("q", ask()).await, 1);
        assert!(flights.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_one_who_asks_goes_away_another_takes_over_and_nothing_is_left() {
        let (flights, asked) = (Flights::new(), AtomicUsize::new(0));
        let ask = async || {
            asked.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
            "answer"
        };
        let short = tokio::time::timeout(Duration::from_millis(50), flights.join("q", ask()));
        let (gone, answer) = tokio::join!(short, flights.join("q", ask()));
        assert!(gone.is_err());
        assert_eq!((answer, asked.load(Ordering::Relaxed)), ("answer", 2));
        assert!(tokio::time::timeout(Duration::from_millis(50), flights.join("q", ask())).await.is_err());
        assert!(flights.lock().is_empty());
    }
}
