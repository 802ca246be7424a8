//! The database of an installation for commands on its host, which make nothing that is not there. A server may be
//! running on it.

use std::io;
use std::path::PathBuf;

use sea_orm::{DatabaseConnection, DbErr};
use souk_migrations::{Migrator, MigratorTrait as _, from_a_newer_program};

use crate::config::RegistryConfig;
use crate::db::open_sqlite;

/// Why there is no database to work on.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// There is no database: nothing was ever served from this folder.
    #[error("{0} does not exist: this is not the data folder of an installation; name it with --data-dir")]
    NoDatabase(PathBuf),
    /// The database is older than this program.
    #[error("the database at {0} is of an older version; start `souk serve` once, which brings it up to date")]
    OldSchema(PathBuf),
    /// A newer program has changed the database.
    #[error("the database at {path} was changed by a newer version of this program ({}); use that version", .newer.join(", "))]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// Its changes that this program does not know.
        newer: Vec<String>,
    },
    /// The file system does not let the database be looked for.
    #[error("the data folder {path} cannot be used")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// The database cannot be used.
    #[error("the registry's database cannot be used")]
    Database(#[from] DbErr),
}

/// Opens the database of the embedded installation that `config` describes.
pub(crate) async fn open_database(config: &RegistryConfig) -> Result<DatabaseConnection, OfflineError> {
    let data_dir = &config.data_dir;
    let path = data_dir.join("registry.sqlite");
    // Opening would make an empty one.
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Err(OfflineError::NoDatabase(path)),
        Err(source) => return Err(OfflineError::Folder { path: data_dir.clone(), source }),
    }
    let db = open_sqlite(&path).await?;
    let newer = from_a_newer_program(&db).await?;
    if !newer.is_empty() {
        return Err(OfflineError::NewerSchema { path, newer });
    }
    if !Migrator::get_pending_migrations(&db).await?.is_empty() {
        return Err(OfflineError::OldSchema(path));
    }
    Ok(db)
}
