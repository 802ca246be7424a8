//! Why Redis gave no answer that can be used.

use std::time::Duration;

use redis::RedisError;

/// Why Redis gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The server refused the call or the connection broke.
    #[error("redis: {0}")]
    Redis(#[from] RedisError),
    /// A connection took too long.
    #[error("no connection to redis within {0:?}")]
    Timeout(Duration),
    /// Somebody else has just failed to connect.
    #[error("no connection to redis a moment ago: {0}")]
    Recent(String),
    /// The server may forget what it was told.
    #[error("redis forgets by itself (maxmemory-policy is {0}); it has to be noeviction")]
    Evicts(String),
    /// An answer has another form than the function's.
    #[error("redis answers what nobody asked: {0}")]
    Answer(#[from] redis::ParsingError),
    /// An answer has the form and makes no sense.
    #[error("redis answers {0}")]
    Unexpected(String),
    /// No sentinel knows the master.
    #[error("no sentinel knows a master named {master:?}: {why}")]
    NoMaster {
        /// Its name, as in the settings.
        master: String,
        /// What the last sentinel said.
        why: String,
    },
    /// The servers of a cluster send each other's callers around.
    #[error("redis sends from server to server; the last was {0}")]
    Redirects(String),
    /// A setting cannot be used.
    #[error("{0}")]
    Setting(String),
}
