//! What the gateway books, read from its log as an operator would.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Metadata, Subscriber};

/// Takes down every `job settled` of this thread while it lives.
pub(crate) struct Records {
    lines: Arc<Mutex<Vec<Booked>>>,
    _guard: DefaultGuard,
}

/// One line, by field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Booked(BTreeMap<String, String>);

impl Booked {
    pub(crate) fn text(&self, field: &str) -> &str {
        self.0.get(field).unwrap_or_else(|| panic!("no {field} in {:?}", self.0))
    }

    pub(crate) fn number(&self, field: &str) -> u32 {
        self.text(field).parse().unwrap()
    }

    /// Outcome, prompt, computed, delivered.
    pub(crate) fn summary(&self) -> (&str, u32, u32, u32) {
        let number = |field| self.number(field);
        (self.text("outcome"), number("tokens.prompt"), number("tokens.computed"), number("tokens.delivered"))
    }
}

impl Records {
    /// Begins to listen. Only for a runtime of one thread.
    pub(crate) fn listen() -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let guard = tracing::subscriber::set_default(Listener { lines: Arc::clone(&lines) });
        Self { lines, _guard: guard }
    }

    /// Waits until so many jobs are booked, sees that no more follow, and returns them by index.
    pub(crate) async fn take(&self, num_jobs: usize) -> Vec<Booked> {
        for _ in 0..500 {
            if self.lines.lock().unwrap().len() >= num_jobs {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
        let mut booked = std::mem::take(&mut *self.lines.lock().unwrap());
        assert_eq!(booked.len(), num_jobs, "each job is booked once: {booked:?}");
        booked.sort_by_key(|line| line.number("job.index"));
        booked
    }

    pub(crate) async fn take_one(&self) -> Booked {
        self.take(1).await.remove(0)
    }
}

struct Listener {
    lines: Arc<Mutex<Vec<Booked>>>,
}

impl Visit for Booked {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "souk_gateway::call::book"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Booked::default();
        event.record(&mut line);
        if line.0.get("message").is_some_and(|message| message == "job settled") {
            self.lines.lock().unwrap().push(line);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
