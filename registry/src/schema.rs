//! How far the database is, and bringing it further by an operator's hand: what a start does not do by itself.

use std::path::PathBuf;

use sea_orm::DbErr;
use souk_migrations::{Migrator, MigratorTrait as _, State, TryOutError, status, try_out};

use crate::config::RegistryConfig;
use crate::database::{DatabaseError, open_database};
use crate::db::{Pools, begin_start};
use crate::folder_lock::FolderLock;

/// Why the schema cannot be looked at or changed.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// There is no database: nothing was ever served from this folder.
    #[error("{0} does not exist: this is not the data folder of an installation; name it with --data-dir")]
    NoDatabase(PathBuf),
    /// A newer program has changed the database.
    #[error("the database was changed by a newer version of this program ({}); use that version", .0.join(", "))]
    NewerDatabase(Vec<String>),
    /// A registry has been starting in the folder for too long.
    #[error("{0} is locked by a registry that is starting")]
    Locked(PathBuf),
    /// The data folder cannot be locked.
    #[error("the data folder {path} cannot be used")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the file system says.
        #[source]
        source: std::io::Error,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] DatabaseError),
    /// The database cannot be used.
    #[error("the registry's database cannot be used")]
    Database(#[from] DbErr),
    /// A migration would fail.
    #[error(transparent)]
    WouldFail(#[from] TryOutError),
}

/// Every migration, oldest first, and when it was made.
///
/// # Errors
/// [`SchemaError`].
pub async fn schema_status(config: &RegistryConfig) -> Result<Vec<State>, SchemaError> {
    let pools = open(config).await?;
    let states = status(&pools.own).await?;
    pools.close().await?;
    Ok(states)
}

/// Makes every migration that is pending, those that contract too: no older program may run any more. Answers what was
/// pending. With `is_trial` everything is taken back at once, so that it is known whether it would succeed.
///
/// # Errors
/// [`SchemaError`]; migrations before one that fails were made, unless it was a trial.
pub async fn schema_up(config: &RegistryConfig, is_trial: bool) -> Result<Vec<State>, SchemaError> {
    let pools = open(config).await?;
    let path = &config.data_dir;
    let lock = if config.settings.database.is_sqlite() {
        let taken =
            FolderLock::take(path).await.map_err(|source| SchemaError::Folder { path: path.clone(), source })?;
        Some(taken.ok_or_else(|| SchemaError::Locked(path.clone()))?)
    } else {
        None
    };
    let db = &pools.own;
    let starting = begin_start(db).await?;
    let states = status(db).await?;
    let newer: Vec<_> = states.iter().filter(|state| state.kind.is_none()).map(|state| state.name.clone()).collect();
    if !newer.is_empty() {
        return Err(SchemaError::NewerDatabase(newer));
    }
    if is_trial {
        try_out(db).await?;
    } else {
        Migrator::up(db, None).await?;
    }
    if let Some(starting) = starting {
        starting.commit().await?;
    }
    pools.close().await?;
    drop(lock);
    Ok(states.into_iter().filter(|state| state.made_at_s.is_none()).collect())
}

/// Opens what is there; makes nothing.
async fn open(config: &RegistryConfig) -> Result<Pools, SchemaError> {
    let path = config.sqlite_file();
    if config.settings.database.is_sqlite() && !path.exists() {
        return Err(SchemaError::NoDatabase(path));
    }
    Ok(open_database(config).await?)
}
