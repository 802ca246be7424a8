//! Moments: the database's clock, by which leases go, and this process's, which is told to callers.

use std::time::Duration;

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{ConnectionTrait, DatabaseBackend};
use souk_protocol::wall_clock;
use time::OffsetDateTime;

/// Now by the database's clock, in milliseconds since the Unix epoch. Leases go by this one clock, so that registries
/// whose own clocks differ agree on what has lapsed.
pub(crate) fn clock_ms(connection: &impl ConnectionTrait) -> Expr {
    Expr::cust(match connection.get_database_backend() {
        DatabaseBackend::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        _ => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
    })
}

/// The moment `from_now` later, by the database's clock.
pub(crate) fn clock_ms_in(connection: &impl ConnectionTrait, from_now: Duration) -> Expr {
    clock_ms(connection).add(i64::try_from(from_now.as_millis()).unwrap_or(i64::MAX / 2))
}

/// The moment `ago` before now, by the database's clock.
pub(crate) fn clock_ms_ago(connection: &impl ConnectionTrait, ago: Duration) -> Expr {
    clock_ms(connection).sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX / 2))
}

/// Now by this process's clock, in milliseconds since the Unix epoch, as the `…_at_ms` columns hold it.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(wall_clock::since_epoch().as_millis()).unwrap_or(i64::MAX)
}

/// The moment `from_now` later, by this process's clock.
pub(crate) fn ms_in(from_now: Duration) -> i64 {
    now_ms().saturating_add(i64::try_from(from_now.as_millis()).unwrap_or(i64::MAX))
}

/// The moment `ago` before now, by this process's clock.
pub(crate) fn ms_ago(ago: Duration) -> i64 {
    now_ms().saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX))
}

/// A stored moment as the API writes it (RFC 3339, UTC).
pub(crate) fn moment(at_ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// A moment of the API as a `…_at_ms` column holds it.
pub(crate) fn ms_of(moment: OffsetDateTime) -> i64 {
    i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
