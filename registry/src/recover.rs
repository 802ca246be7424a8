//! A way back in for an operator who has lost every admin key: whoever can read the pepper and write the database can
//! make a key anyway, so the command that does it asks for nothing else.
//!
//! The data folder is not locked: a server may be running on it, and takes the new key with the next request that
//! presents it, since it does not know it yet and asks the database.

use std::io;
use std::path::PathBuf;

use sea_orm::DbErr;
use souk_migrations::{from_a_newer_program, is_enough};

use crate::admin_key::insert_admin_key;
use crate::auth::{ApiKey, Authenticator, PepperError, Peppers};
use crate::config::RegistryConfig;
use crate::database::{DatabaseError, open_database};
use crate::db::begin_write;

/// Why no admin key can be made on the host.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
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
    Open(#[from] DatabaseError),
    /// The database cannot be used.
    #[error("the registry's database cannot be used")]
    Database(#[from] DbErr),
    /// The pepper cannot be used.
    #[error(transparent)]
    Pepper(#[from] PepperError),
}

/// Makes an admin key with all scopes in the installation that `config` describes, whether or not a server runs there. Keys that exist stay as they are.
///
/// # Errors
/// [`RecoverError`], and then no key was made.
pub async fn recover_admin_key(config: &RegistryConfig) -> Result<ApiKey, RecoverError> {
    let data_dir = &config.data_dir;
    if config.settings.database.is_sqlite() {
        let path = config.sqlite_file();
        // Opening would make an empty one.
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(RecoverError::NoDatabase(path)),
            Err(source) => return Err(RecoverError::Folder { path: data_dir.clone(), source }),
        }
    }
    let db = open_database(config).await?.own;
    let newer = from_a_newer_program(&db).await?;
    if !newer.is_empty() {
        return Err(RecoverError::NewerSchema(newer));
    }
    if !is_enough(&db).await? {
        return Err(RecoverError::OldSchema);
    }
    let peppers = Peppers::open(&config.settings.pepper_source(), data_dir, true)?;
    let authenticator = Authenticator::new(db.clone(), peppers);
    let transaction = begin_write(&db).await?;
    let (row, key) = insert_admin_key(&transaction, &authenticator, "recovered admin key").await?;
    transaction.commit().await?;
    tracing::warn!(key.id = row.id, "Made an admin key on the host, without asking for one");
    Ok(key)
}
