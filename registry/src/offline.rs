//! The database of an installation for commands on its host, which make nothing that is not there. A server may be
//! running on it.

use std::io;
use std::path::PathBuf;

use sea_orm::{DatabaseConnection, DbErr};
use souk_migrations::{from_a_newer_program, is_enough};

use crate::config::RegistryConfig;
use crate::database;

/// Why there is no database to work on.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// There is no database: nothing was ever served from this folder.
    #[error("{0} does not exist: this is not the data folder of an installation; name it with --data-dir")]
    NoDatabase(PathBuf),
    /// The database is older than this program.
    #[error("the database is of an older version; start `souk serve` once, which brings it up to date")]
    OldSchema,
    /// A newer program has changed the database.
    #[error("the database was changed by a newer version of this program ({}); use that version", .0.join(", "))]
    NewerSchema(Vec<String>),
    /// The file system does not let the database be looked for.
    #[error("the data folder {path} cannot be used")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] database::DatabaseError),
    /// The database cannot be used.
    #[error("the registry's database cannot be used")]
    Database(#[from] DbErr),
}

/// Opens the database of the installation that `config` describes.
pub(crate) async fn open_database(config: &RegistryConfig) -> Result<DatabaseConnection, OfflineError> {
    if config.settings.database.is_sqlite() {
        let path = config.sqlite_file();
        // Opening would make an empty one.
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(OfflineError::NoDatabase(path)),
            Err(source) => return Err(OfflineError::Folder { path: config.data_dir.clone(), source }),
        }
    }
    let db = database::open_database(config).await?.own;
    let newer = from_a_newer_program(&db).await?;
    if !newer.is_empty() {
        return Err(OfflineError::NewerSchema(newer));
    }
    if !is_enough(&db).await? {
        return Err(OfflineError::OldSchema);
    }
    Ok(db)
}
