//! Opening the database that the settings name.

use std::io;
use std::path::PathBuf;

use sea_orm::DbErr;

use crate::config::RegistryConfig;
use crate::db::{Pools, PostgresError};
use crate::private;

/// Why the database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file of SQLite cannot be made or kept from others.
    #[error("the database {path} cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// SQLite does not open it.
    #[error("the registry's database cannot be used")]
    Sqlite(#[from] DbErr),
    /// The PostgreSQL server cannot be used.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
}

/// Opens the database of the settings: PostgreSQL, or the SQLite file in the data folder, which is made if it is absent.
/// Looks at nothing in it.
///
/// # Errors
/// [`DatabaseError`], which says what to change.
pub async fn open_database(config: &RegistryConfig) -> Result<Pools, DatabaseError> {
    if !config.settings.database.is_sqlite() {
        return Ok(Pools::open_postgres(&config.settings.database).await?);
    }
    let path = config.sqlite_file();
    private::database(&path).map_err(|source| DatabaseError::File { path: path.clone(), source })?;
    Ok(Pools::open_sqlite(&path).await?)
}
