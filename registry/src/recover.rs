//! A way back in for an operator who has lost every admin key: whoever can read the pepper and write the database can
//! make a key anyway, so the command that does it asks for nothing else.
//!
//! The data folder is not locked: a server may be running on it, and takes the new key with the next request that
//! presents it, since it does not know it yet and asks the database.

use sea_orm::DbErr;

use crate::admin_key::{HostKey, insert_admin_key};
use crate::auth::{ApiKey, Authenticator, Peppers};
use crate::config::RegistryConfig;
use crate::db::begin_write;
use crate::offline::{OfflineError, open_database};
use crate::secrets::SecretError;

/// Why no admin key can be made on the host.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// There is no database to work on.
    #[error(transparent)]
    Offline(#[from] OfflineError),
    /// The database cannot be used.
    #[error("the registry's database cannot be used")]
    Database(#[from] DbErr),
    /// The pepper cannot be used.
    #[error(transparent)]
    Pepper(#[from] SecretError),
}

/// Makes an admin key with all scopes in the installation that `config` describes, whether or not a server runs there. Keys that exist stay as they are.
///
/// # Errors
/// [`RecoverError`], and then no key was made.
pub async fn recover_admin_key(config: &RegistryConfig) -> Result<ApiKey, RecoverError> {
    let db = open_database(config).await?;
    let peppers = Peppers::open(&config.settings.pepper_source(), &config.data_dir, true)?;
    let authenticator = Authenticator::new(db.clone(), peppers);
    let transaction = begin_write(&db).await?;
    let (row, key) = insert_admin_key(&transaction, &authenticator, HostKey::Recovered).await?;
    transaction.commit().await?;
    tracing::warn!(key.id = row.id, "Made an admin key on the host, without asking for one");
    Ok(key)
}
