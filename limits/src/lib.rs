//! Limits that are never overshot: the [`Limits`] port with its implementations in memory and in Redis, and its words.
//!
//! What a request may use is reserved before it runs, at all levels of its caller's tree or at none; what it did use is settled
//! after it, and the rest returns. Begin with [`port::Limits`], whose documentation says what happens on a crash, a loss of the
//! store and a change of the limits; then [`MemoryLimits`], and [`RedisLimits`] for several gateways. `tests/conformance` is the
//! contract that every implementation has to pass.
//!
//! The port knows no HTTP, no SQL and no queue: sums of rows come in as [`Total`](souk_protocol::Total)s.

mod budgets;
pub mod error;
pub mod memory;
pub mod port;
pub mod redis;
pub mod repeats;
pub mod words;

pub use self::redis::RedisLimits;
pub use error::{LimitsError, ReserveError};
pub use memory::{MemoryLimits, MemorySizes};
pub use port::Limits;
pub use repeats::{KeptAnswer, RepeatKey, RepeatState, Repeats};
pub use words::{Amounts, Ask, Held, MAX_BUDGET, MAX_RATE, Reserved, Standing, Violation};
