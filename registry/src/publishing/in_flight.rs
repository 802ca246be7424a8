//! The reservation of a version number while its upload runs.

use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DatabaseConnection, DatabaseTransaction, DbErr, EntityTrait as _,
    QueryFilter as _, Set,
};
use semver::Version;
use uuid::Uuid;

use crate::catalog::VersionState;
use crate::db::entities::{adapter, upload, version};
use crate::db::{begin_write, is_unique_violation, now_ms};
use crate::error::RegistryError;

/// A row in `uploads`. Dropped without an end, it removes the row in the background.
pub(super) struct InFlight {
    db: DatabaseConnection,
    id: String,
    ended: bool,
}

impl InFlight {
    /// Reserves the number, or says why it cannot be had.
    pub(super) async fn begin(
        db: &DatabaseConnection,
        adapter: &adapter::Model,
        number: &Version,
    ) -> Result<Self, RegistryError> {
        let name = || format!("{}/{}@{number}", adapter.owner, adapter.name);
        let transaction = begin_write(db).await?;
        let row = upload::ActiveModel {
            id: Set(format!("upl_{}", Uuid::now_v7().simple())),
            adapter_id: Set(adapter.id.clone()),
            version: Set(number.to_string()),
            state: Set(VersionState::Uploading.as_str().to_owned()),
            started_at_ms: Set(now_ms()),
        };
        let row = row.insert(&transaction).await.map_err(|error| {
            if is_unique_violation(&error) { RegistryError::UploadInProgress(name()) } else { error.into() }
        })?;
        // Looked up after the reservation: an upload that ended in between has its version visible by now.
        let existing = version::Entity::find()
            .filter(version::Column::AdapterId.eq(&adapter.id))
            .filter(version::Column::Version.eq(number.to_string()))
            .one(&transaction)
            .await?;
        match existing.map(|version| version.state()) {
            None => {}
            Some(VersionState::Deleted) => return Err(RegistryError::Retired { what: "version", name: name() }),
            Some(_) => return Err(RegistryError::AlreadyExists { what: "version", name: name() }),
        }
        transaction.commit().await?;
        Ok(Self { db: db.clone(), id: row.id, ended: false })
    }

    /// All bytes are here.
    pub(super) async fn validating(&self) -> Result<(), DbErr> {
        upload::Entity::update_many()
            .col_expr(upload::Column::State, VersionState::Validating.as_str().into())
            .filter(upload::Column::Id.eq(&self.id))
            .exec(&self.db)
            .await?;
        Ok(())
    }

    /// Removes the row as part of what makes the version visible.
    pub(super) async fn end_in(&self, transaction: &DatabaseTransaction) -> Result<(), DbErr> {
        upload::Entity::delete_by_id(&self.id).exec(transaction).await?;
        Ok(())
    }

    /// The transaction of [`Self::end_in`] was committed.
    pub(super) fn published(mut self) {
        self.ended = true;
    }

    /// Sets the number free before the caller hears of `error`, so that it can try again at once.
    pub(super) async fn end_with(mut self, error: RegistryError) -> RegistryError {
        match upload::Entity::delete_by_id(&self.id).exec(&self.db).await {
            Ok(_) => self.ended = true,
            Err(cause) => {
                tracing::warn!(%cause, upload.id = self.id, "An ended upload keeps its number until the next start");
            }
        }
        error
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.ended {
            return;
        }
        let (db, id) = (self.db.clone(), std::mem::take(&mut self.id));
        runtime.spawn(async move {
            if let Err(error) = upload::Entity::delete_by_id(&id).exec(&db).await {
                tracing::warn!(%error, upload.id = id, "An ended upload keeps its number until the next start");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectionTrait as _, Database, PaginatorTrait as _};
    use souk_migrations::{Migrator, MigratorTrait as _};

    use super::*;

    /// A handler may be dropped at any await, for example when its server stops.
    #[tokio::test]
    async fn a_dropped_upload_sets_its_number_free() {
        // One connection, because each would have an in-memory database of its own.
        let db = Database::connect(sea_orm::ConnectOptions::new("sqlite::memory:").max_connections(1).to_owned());
        let db = db.await.unwrap();
        Migrator::up(&db, None).await.unwrap();
        db.execute_unprepared(
            "INSERT INTO tenants VALUES ('t', 'acme', 0);
             INSERT INTO adapters VALUES ('a', 't', 'acme', 'sst2', 'private', '', 0, 0, NULL)",
        )
        .await
        .unwrap();
        let adapter = adapter::Entity::find_by_id("a").one(&db).await.unwrap().unwrap();
        let number = Version::new(1, 0, 0);
        let first = InFlight::begin(&db, &adapter, &number).await.unwrap();
        let second = InFlight::begin(&db, &adapter, &number).await;
        assert!(matches!(second, Err(RegistryError::UploadInProgress(name)) if name == "acme/sst2@1.0.0"));
        drop(first);
        for _ in 0..100 {
            if upload::Entity::find().count(&db).await.unwrap() == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("the number is still reserved after two seconds");
    }
}
