//! What ties a database to its objects: one id in both. A database that is new, empty or another one must never be let
//! loose on objects that it knows nothing of: to it they would all look orphaned.

use std::io;

use sea_orm::{DatabaseConnection, DbErr};
use uuid::Uuid;

use crate::db::{self, versions};
use crate::objects::ObjectStore;

/// Why database and objects are not used together.
#[derive(Debug, thiserror::Error)]
pub enum InstallationError {
    /// The database knows of no version, and the store has objects of another time.
    #[error(
        "the database is new, but the object store has objects of an earlier one; restore that database from a backup, or move the objects away to begin anew. Nothing was changed"
    )]
    DatabaseLost,
    /// The store has nothing, and the database refers to objects.
    #[error(
        "the object store is new, but the database has versions with objects in an earlier one; restore the objects from a backup, or move the database away to begin anew. Nothing was changed"
    )]
    ObjectsLost,
    /// Each belongs to another installation.
    #[error(
        "the database is of installation {database} and the object store of {objects}; check that both settings mean the same installation. Nothing was changed"
    )]
    Mismatch {
        /// The id in the database.
        database: String,
        /// The id in the store.
        objects: String,
    },
    /// The database cannot be used.
    #[error("the registry's database cannot be used")]
    Database(#[from] DbErr),
    /// The store cannot be used.
    #[error("the object store cannot be used")]
    Objects(#[from] io::Error),
}

/// Makes sure that `db` and `objects` belong together, giving both an id if neither has one. To be called by one
/// process at a time.
pub(crate) async fn tie(db: &DatabaseConnection, objects: &dyn ObjectStore) -> Result<(), InstallationError> {
    let database = db::installation::id(db).await?;
    let store = objects.installation().await?;
    match (database, store) {
        (Some(database), Some(objects)) if database == objects => Ok(()),
        (Some(database), Some(objects)) => Err(InstallationError::Mismatch { database, objects }),
        (Some(id), None) => {
            if versions::any_exist(db).await? || objects.has_blobs().await? {
                return Err(InstallationError::ObjectsLost);
            }
            Ok(objects.set_installation(&id).await?)
        }
        // The store gets its id first, so this is also what a start leaves that was killed in between.
        (None, store) => {
            if !versions::any_exist(db).await? && objects.has_blobs().await? {
                return Err(InstallationError::DatabaseLost);
            }
            let id = store.clone().unwrap_or_else(|| format!("ins_{}", Uuid::new_v4().simple()));
            if store.is_none() {
                objects.set_installation(&id).await?;
            }
            Ok(db::installation::insert(db, &id).await?)
        }
    }
}
