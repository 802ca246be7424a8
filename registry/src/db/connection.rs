//! Opening a database and beginning transactions.

use std::path::Path;
use std::time::Duration;

use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DatabaseTransaction, DbErr, SqlErr, SqliteTransactionMode,
    TransactionOptions, TransactionTrait as _,
};

/// How long a writer waits for another one, and a request for a connection, before it gives up and is told to come
/// back. Writes last milliseconds, so this is never reached unless something is stuck.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Readers do not wait for each other in WAL mode; more connections than this only cost memory.
const MAX_CONNECTIONS: u32 = 8;

/// Most values of an `IN (…)`: SQLite takes 32,766 parameters, PostgreSQL 65,535.
pub(crate) const MAX_IN: usize = 500;

/// Opens (and makes, if absent) the SQLite file at `path`: WAL, full sync on commit, foreign keys on. Several processes
/// of one host may open one file.
///
/// # Errors
/// What the database says, for example that the folder does not exist.
pub async fn open_sqlite(path: &Path) -> Result<DatabaseConnection, DbErr> {
    let file = path.to_owned();
    let mut options = ConnectOptions::new(format!("sqlite://{}?mode=rwc", path.display()));
    options
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(2 * BUSY_TIMEOUT)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(move |sqlite| {
            sqlite
                // The path goes in here as well because a URL cannot carry every character that a path may have.
                .filename(&file)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                // A revocation or a deletion that was answered must survive a power cut.
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(BUSY_TIMEOUT)
                .foreign_keys(true)
        });
    Database::connect(options).await
}

/// Begins a transaction that will write. On SQLite it takes the write lock at once: a transaction that begins as a
/// reader and turns into a writer fails without waiting when another one wrote in between.
pub(crate) async fn begin_write(db: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    db.begin_with_options(TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    })
    .await
}

/// Whether `error` says that a row with the same unique columns exists.
pub(crate) fn is_unique_violation(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
}
