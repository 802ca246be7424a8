//! Opening a database and beginning transactions.
//!
//! Transactions that write exclude each other, on either database, so that what one has read is still so when it writes:
//! SQLite has one writer, and on PostgreSQL they take an advisory lock, one for each tenant. Rows are locked only where
//! who holds them takes no such lock.

use std::path::Path;
use std::time::Duration;

use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database, DatabaseBackend, DatabaseConnection, DatabaseTransaction, DbErr,
    SqlErr, SqliteTransactionMode, TransactionOptions, TransactionTrait as _,
};
use souk_protocol::{Principal, Scope, TenantId};

use super::postgres::{Postgres, PostgresError};
use super::settings::{BUSY_TIMEOUT, DatabaseSettings};
use super::write::Write;

/// How long a start waits for one of another registry, which may have migrations to make.
const START_TIMEOUT: Duration = Duration::from_secs(60);

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

    /// Opens the PostgreSQL database that the settings name.
    ///
    /// # Errors
    /// [`PostgresError`], which says what to change.
    pub async fn open_postgres(settings: &DatabaseSettings) -> Result<Self, PostgresError> {
        let server = Postgres::open(settings).await?;
        Ok(Self { tenants: server.pool(TENANTS_READS + TENANTS_CHANGES), own: server.pool(OWN_CONNECTIONS) })
    }

    /// The pool for what `principal` asks for.
    pub(crate) fn of(&self, principal: &Principal) -> &DatabaseConnection {
        if principal.may(Scope::Admin) { &self.own } else { &self.tenants }
    }

    /// Closes both, once nobody uses a connection.
    ///
    /// # Errors
    /// What the database says.
    pub async fn close(self) -> Result<(), DbErr> {
        self.tenants.close().await.and(self.own.close().await)
    }
}

/// One pool for all, where nobody floods it.
impl From<DatabaseConnection> for Pools {
    fn from(db: DatabaseConnection) -> Self {
        Self { tenants: db.clone(), own: db }
    }
}

/// How long PostgreSQL lets a transaction stall that reads an object meanwhile.
const READING_TIMEOUT: Duration = Duration::from_secs(600);

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

/// What the advisory locks of PostgreSQL are numbered by, within the database: no other program uses it.
#[derive(Clone, Copy)]
#[repr(i32)]
enum Lock {
    /// Exclusive for who writes what is of several tenants, shared for who writes what is of one.
    Writers = 0x50_6f_75_6b,
    /// Of one tenant.
    Tenant,
    /// Starts of registries.
    Start,
}

/// Begins a transaction that will write, and that excludes every other one of these. On SQLite it takes the write lock at
/// once: a transaction that begins as a reader and turns into a writer fails without waiting when another one wrote in
/// between.
pub(crate) async fn begin_write(db: &DatabaseConnection) -> Result<Write, DbErr> {
    let transaction = begin_row_write(db).await?;
    lock(&transaction, format!("pg_advisory_xact_lock({})", Lock::Writers as i32)).await?;
    Ok(transaction)
}

/// The same for what belongs to one tenant: on PostgreSQL it excludes the writers of that tenant, and of several tenants
/// at once, but not those of others. Of what tenants share it may write blobs, in the order of their digests.
pub(crate) async fn begin_write_of(db: &DatabaseConnection, tenant: &TenantId) -> Result<Write, DbErr> {
    let transaction = begin_row_write(db).await?;
    // Tenants with the same number wait for each other without need.
    let number = i32::from_ne_bytes(crc32fast::hash(tenant.as_str().as_bytes()).to_ne_bytes());
    let all = format!("pg_advisory_xact_lock_shared({})", Lock::Writers as i32);
    let own = format!("pg_advisory_xact_lock({}, {number})", Lock::Tenant as i32);
    lock(&transaction, format!("{all}, {own}")).await?;
    Ok(transaction)
}

/// Begins a transaction that will write rows which it locks itself. It may take its time on PostgreSQL: it holds up only
/// who wants the same rows.
pub(crate) async fn begin_row_write(db: &DatabaseConnection) -> Result<Write, DbErr> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    db.begin_with_options(options).await.map(Write::of)
}

/// The same for what reads an object while it holds a row, which may take minutes: the server ends it later than others
/// that stall.
pub(crate) async fn begin_long_row_write(db: &DatabaseConnection) -> Result<Write, DbErr> {
    let transaction = begin_row_write(db).await?;
    if transaction.get_database_backend() == DatabaseBackend::Postgres {
        let milliseconds = READING_TIMEOUT.as_millis();
        let longer = format!("SET LOCAL idle_in_transaction_session_timeout = {milliseconds}");
        transaction.execute_unprepared(&longer).await?;
    }
    Ok(transaction)
}

/// On PostgreSQL, waits until no other registry of the database starts; none does before the transaction ends. On SQLite
/// the data folder's lock says so, which all of its registries have.
pub(crate) async fn begin_start(db: &DatabaseConnection) -> Result<Option<DatabaseTransaction>, DbErr> {
    if db.get_database_backend() != DatabaseBackend::Postgres {
        return Ok(None);
    }
    let transaction = db.begin().await?;
    let milliseconds = START_TIMEOUT.as_millis();
    transaction
        .execute_unprepared(&format!(
            "SET LOCAL lock_timeout = {milliseconds}; SET LOCAL idle_in_transaction_session_timeout = 0"
        ))
        .await?;
    lock(&transaction, format!("pg_advisory_xact_lock({})", Lock::Start as i32)).await?;
    Ok(Some(transaction))
}

async fn lock(transaction: &DatabaseTransaction, locks: String) -> Result<(), DbErr> {
    if transaction.get_database_backend() == DatabaseBackend::Postgres {
        transaction.execute_unprepared(&format!("SELECT {locks}")).await?;
    }
    Ok(())
}

/// Whether `error` says that a row with the same unique columns exists.
pub(crate) fn is_unique_violation(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
}
