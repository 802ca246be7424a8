//! Where Redis is.

use std::time::Duration;

/// Where Redis is, and what is expected of it.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// `redis://[user:password@]host[:port][/database]`; `rediss://…` with TLS, to a server whose certificate the system trusts.
    pub url: String,
    /// For how long a new connection may take until it can be used.
    pub connect_timeout: Duration,
    /// For how long an answer may take. Past it the store counts as away.
    pub response_timeout: Duration,
    /// What ended requests that are kept for repeats may take in all, in bytes; each shard has a 64th of it. What ended
    /// first is forgotten first.
    pub max_repeat_bytes: usize,
}
