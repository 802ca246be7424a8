//! A panic of the grammar machinery while it compiles quotes the source, which is user text and has no place in a log.

use std::panic;
use std::sync::Once;
use std::thread;

/// The name of a compiling thread.
pub(super) const THREAD_NAME: &str = "souk-constraint";

/// Makes panics on the threads that compile say where they were and nothing else. Other threads' say what they said
/// before.
pub(super) fn stay_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            if thread::current().name() != Some(THREAD_NAME) {
                return before(panicked);
            }
            let place = panicked.location().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(place, "The grammar machinery panicked on a source, which is refused");
        }));
    });
}
