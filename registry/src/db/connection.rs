//! Opening a database and beginning transactions.

use std::path::Path;
use std::time::Duration;

use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DatabaseTransaction, DbErr, SqlErr, SqliteTransactionMode,
    TransactionOptions, TransactionTrait as _,
};
use souk_protocol::{Principal, Scope};

/// How long a writer waits for another one, and a request for a connection, before it gives up and is told to come
/// back. Writes last milliseconds, so this is never reached unless something is stuck.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests of tenants that read at a time. Readers do not wait for each other in WAL mode; more connections than this only
/// cost memory.
pub(crate) const TENANTS_READS: u32 = 8;
/// Requests of tenants that change something at a time.
pub(crate) const TENANTS_CHANGES: u32 = 4;
/// Connections for what inference asks, for operators, and for the registry itself.
const OWN_CONNECTIONS: u32 = 8;

/// Connections to one database, in two pools, so that whatever tenants' requests do, inference, operators and the
/// registry itself find a connection.
#[derive(Clone, Debug)]
pub struct Pools {
    /// For requests of tenants to the registry, which come through the gates. Uploads share it.
    pub tenants: DatabaseConnection,
    /// For everything else.
    pub own: DatabaseConnection,
}

impl Pools {
    /// Opens (and makes, if absent) the SQLite file at `path`.
    ///
    /// # Errors
    /// As [`open_sqlite`].
    pub async fn open_sqlite(path: &Path) -> Result<Self, DbErr> {
        let own = connect(path, OWN_CONNECTIONS).await?;
        Ok(Self { tenants: connect(path, TENANTS_READS + TENANTS_CHANGES).await?, own })
    }

    /// The pool for what `principal` asks for.
    pub(crate) fn of(&self, principal: &Principal) -> &DatabaseConnection {
        if principal.may(Scope::Admin) { &self.own } else { &self.tenants }
    }
}

/// One pool for all, where nobody floods it.
impl From<DatabaseConnection> for Pools {
    fn from(db: DatabaseConnection) -> Self {
        Self { tenants: db.clone(), own: db }
    }
}

/// Most values of an `IN (…)`: SQLite takes 32,766 parameters, PostgreSQL 65,535.
pub(crate) const MAX_IN: usize = 500;

/// Opens (and makes, if absent) the SQLite file at `path`: WAL, full sync on commit, foreign keys on. Several processes
/// of one host may open one file.
///
/// # Errors
/// What the database says, for example that the folder does not exist.
pub async fn open_sqlite(path: &Path) -> Result<DatabaseConnection, DbErr> {
    connect(path, OWN_CONNECTIONS).await
}

async fn connect(path: &Path, max_connections: u32) -> Result<DatabaseConnection, DbErr> {
    let file = path.to_owned();
    let mut options = ConnectOptions::new(format!("sqlite://{}?mode=rwc", path.display()));
    options
        .max_connections(max_connections)
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
