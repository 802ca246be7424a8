//! What takes how long from a node's start to its first job, printed once: where a cold start's time goes is what decides
//! how far a pool can shrink.

use std::sync::{Arc, Mutex, PoisonError};

use souk_models::base::{LoadProgress, Stage};
use souk_node::node::Node;
use tokio::time::Instant;

/// Seconds from the start of the process to each step of a node's start.
const SECONDS: &str = "souk_node_boot_seconds";

/// When what was done, in the order in which it was. Clones are the same.
#[derive(Clone)]
pub(super) struct Timeline(Arc<Shared>);

struct Shared {
    began: Instant,
    /// Locked for a look.
    steps: Mutex<Vec<(&'static str, Instant)>>,
}

impl Timeline {
    /// One that begins with the process, at `began`.
    pub(super) fn new(began: Instant) -> Self {
        Self(Arc::new(Shared { began, steps: Mutex::default() }))
    }

    /// Notes that a step is done now.
    pub(super) fn done(&self, step: &'static str) {
        self.done_at(step, Instant::now());
    }

    fn done_at(&self, step: &'static str, at: Instant) {
        metrics::gauge!(SECONDS, "step" => step).set((at - self.0.began).as_secs_f64());
        self.0.steps.lock().unwrap_or_else(PoisonError::into_inner).push((step, at));
    }

    /// Notes, of what a base model's reading tells, that its files are there and are read.
    pub(super) fn notes_model(&self) -> impl Fn(LoadProgress) + Send + 'static {
        let (timeline, noted) = (self.clone(), Mutex::new(false));
        move |progress| {
            let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
            if progress.stage == Stage::Loading && !std::mem::replace(&mut *noted, true) {
                timeline.done("model mapped");
            }
        }
    }

    /// Waits for what a running node does first, and says what took how long: once when it takes jobs, and once when it
    /// has the first.
    pub(super) async fn follow(self, node: Arc<Node>) {
        self.done_at("queue reached", node.queue_reached().await);
        tracing::info!("Ready after {}", self.shown());
        self.done_at("first claim", node.first_claim().await);
        tracing::info!("The first job came after {}", self.shown());
    }

    /// The whole, then each step with what it took since the one before.
    fn shown(&self) -> String {
        let steps = self.0.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = self.0.began;
        let each = steps.iter().map(|(step, at)| {
            let took = at.saturating_duration_since(std::mem::replace(&mut before, *at));
            format!("{step} {:.3} s", took.as_secs_f64())
        });
        let each: Vec<_> = each.collect();
        let all = before.saturating_duration_since(self.0.began).as_secs_f64();
        format!("{all:.3} s: {}", each.join(", "))
    }
}

/// Says what the figures mean.
pub(crate) fn describe() {
    metrics::describe_gauge!(
        SECONDS,
        metrics::Unit::Seconds,
        "from the start of a node's process to a step of its start: settings read, port opened, model mapped, weights \
         packed, engine ready, queue reached, first claim"
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timeline_says_the_whole_and_what_each_step_took() {
        let timeline = Timeline::new(Instant::now());
        tokio::time::advance(Duration::from_millis(20)).await;
        timeline.done("settings read");
        tokio::time::advance(Duration::from_millis(400)).await;
        let notes = timeline.notes_model();
        for stage in [Stage::Verifying, Stage::Loading, Stage::Loading] {
            notes(LoadProgress { stage, done_bytes: 0, total_bytes: None });
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        timeline.done("weights packed");
        let shown = "1.420 s: settings read 0.020 s, model mapped 0.400 s, weights packed 1.000 s";
        assert_eq!(timeline.shown(), shown);
    }
}
