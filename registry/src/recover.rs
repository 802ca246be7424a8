//! A way back in for an operator who has lost every admin key: whoever can read the pepper and write the database can
//! make a key anyway, so the command that does it asks for nothing else.
//!
//! The data folder is not locked: a server may be running on it, and takes the new key with the next request that
//! presents it, since it does not know it yet and asks the database.

use std::io;
use std::path::PathBuf;

use sea_orm::DbErr;
use souk_migrations::{Migrator, MigratorTrait as _, from_a_newer_program};

use crate::admin_key::insert_admin_key;
use crate::auth::{ApiKey, Authenticator, Peppers};
use crate::config::RegistryConfig;
use crate::db::{begin_write, open_sqlite};
use crate::secrets::SecretError;

/// Why no admin key can be made on the host.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
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
    /// The pepper cannot be used.
    #[error(transparent)]
    Pepper(#[from] SecretError),
}

/// Makes an admin key with all scopes in the embedded installation that `config` describes, whether or not a server
/// runs there. Keys that exist stay as they are.
///
/// # Errors
/// [`RecoverError`], and then no key was made.
pub async fn recover_admin_key(config: &RegistryConfig) -> Result<ApiKey, RecoverError> {
    let data_dir = &config.data_dir;
    let path = data_dir.join("registry.sqlite");
    // Opening would make an empty one.
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Err(RecoverError::NoDatabase(path)),
        Err(source) => return Err(RecoverError::Folder { path: data_dir.clone(), source }),
    }
    let db = open_sqlite(&path).await?;
    let newer = from_a_newer_program(&db).await?;
    if !newer.is_empty() {
        return Err(RecoverError::NewerSchema { path, newer });
    }
    if !Migrator::get_pending_migrations(&db).await?.is_empty() {
        return Err(RecoverError::OldSchema(path));
    }
    let peppers = Peppers::open(&config.settings.pepper_source(), data_dir, true)?;
    let authenticator = Authenticator::new(db.clone(), peppers);
    let transaction = begin_write(&db).await?;
    let (row, key) = insert_admin_key(&transaction, &authenticator, "recovered admin key").await?;
    transaction.commit().await?;
    tracing::warn!(key.id = row.id, "Made an admin key on the host, without asking for one");
    Ok(key)
}
