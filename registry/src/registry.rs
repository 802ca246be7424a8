//! The [`Registry`]: what lives as long as the service, and how it starts.

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use sea_orm::{ColumnTrait as _, DatabaseConnection, DbErr, EntityTrait as _, PaginatorTrait as _, QueryFilter as _};
use souk_migrations::{Migrator, MigratorTrait as _};
use souk_protocol::{BaseModel, Principal, Scope};
use tokio::sync::{RwLock, Semaphore};

use crate::auth::{ApiKey, AuthError, Authenticator, NewKey, PepperError, Peppers, insert_key, scopes_from_column};
use crate::db::entities::{api_key, idempotent_request, upload};
use crate::db::{begin_write, now_ms, open_sqlite};
use crate::error::RegistryError;
use crate::http::tenants::{insert_tenant, tenant_by_name};
use crate::limits::UploadLimits;
use crate::objects::{FolderStore, ObjectStore};
use crate::take_downs::{TakeDownListener, TakeDowns};

/// The tenant of the installation's operator.
pub const ADMIN_TENANT: &str = "admin";

/// The control plane. Cheap to clone: a clone is the same registry.
#[derive(Clone)]
pub struct Registry {
    /// What the operator set.
    pub(crate) config: Arc<RegistryConfig>,
    /// Rows: tenants, keys, adapters, versions.
    pub(crate) db: DatabaseConnection,
    /// Bytes of adapters, by digest.
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// Base models that uploads may be made for.
    pub(crate) bases: Arc<[BaseModel]>,
    /// Verifies keys, and remembers for a second that it did.
    pub(crate) authenticator: Arc<Authenticator>,
    /// One permit per upload that may run at once.
    pub(crate) upload_slots: Arc<Semaphore>,
    /// Held for reading while an upload's blobs exist that no row refers to yet, for writing while unreferenced blobs
    /// are removed: without it a removal could take a blob that an upload has just found to be there already.
    pub(crate) blob_references: Arc<RwLock<()>>,
    /// Tells those who serve versions in this process what was taken down.
    pub(crate) take_downs: Arc<TakeDowns>,
    /// Keeps a second process out of the data folder.
    _folder_lock: Arc<File>,
}

/// What an operator can set.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// The folder of the pepper and the lock, and in the embedded shape of the database and the objects.
    pub data_dir: PathBuf,
    /// Bounds on uploads.
    pub uploads: UploadLimits,
}

impl RegistryConfig {
    /// The default limits, with everything below `data_dir`.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), uploads: UploadLimits::default() }
    }

    /// Where the embedded shape keeps objects: each blob at [`souk_protocol::manifest::blob_path`] below it.
    #[must_use]
    pub fn objects_dir(&self) -> PathBuf {
        self.data_dir.join("objects")
    }
}

/// Why the registry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process works in the same folder.
    #[error("{0} is in use by another process; stop it, or give this one another data folder")]
    InUse(PathBuf),
    /// The folder or the object store cannot be used.
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
    Pepper(#[from] PepperError),
}

impl Registry {
    /// Hears of each version that is taken down from now on, so that running answers can be ended.
    #[must_use]
    pub fn take_downs(&self) -> TakeDownListener {
        self.take_downs.listen()
    }

    /// Opens the embedded shape: a SQLite file and a folder of objects below the data folder.
    ///
    /// # Errors
    /// [`OpenError`], before anything was changed that a later start would not put right.
    pub async fn open_embedded(config: RegistryConfig, bases: Vec<BaseModel>) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Folder { path: config.data_dir.clone(), source };
        std::fs::create_dir_all(&config.data_dir).map_err(failed)?;
        let objects = FolderStore::open(config.objects_dir()).await.map_err(failed)?;
        let db = open_sqlite(&config.data_dir.join("registry.sqlite")).await?;
        Self::open(config, db, Arc::new(objects), bases).await
    }

    /// Opens the registry on a database and an object store: locks the data folder, brings the schema up to date,
    /// reads or makes the pepper, and removes what a killed process left half done.
    ///
    /// # Errors
    /// [`OpenError`], before anything was changed that a later start would not put right.
    pub async fn open(
        config: RegistryConfig,
        db: DatabaseConnection,
        objects: Arc<dyn ObjectStore>,
        bases: Vec<BaseModel>,
    ) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Folder { path: config.data_dir.clone(), source };
        std::fs::create_dir_all(&config.data_dir).map_err(failed)?;
        let folder_lock = File::create(config.data_dir.join("lock")).map_err(failed)?;
        match folder_lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(config.data_dir)),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        Migrator::up(&db, None).await?;
        let keys_exist = api_key::Entity::find().count(&db).await? > 0;
        let peppers = Peppers::open(&config.data_dir.join("key-pepper"), keys_exist)?;
        let registry = Self {
            authenticator: Arc::new(Authenticator::new(db.clone(), peppers)),
            db,
            objects,
            bases: bases.into(),
            upload_slots: Arc::new(Semaphore::new(config.uploads.max_concurrent_uploads)),
            blob_references: Arc::new(RwLock::new(())),
            take_downs: Arc::new(TakeDowns::new()),
            _folder_lock: Arc::new(folder_lock),
            config: Arc::new(config),
        };
        registry.recover().await?;
        Ok(registry)
    }

    /// Removes what a process that was killed left half done: uploads in flight, staged files, blobs that no version
    /// refers to, and the claims of requests that never answered. The folder lock is held, so all of it is dead.
    async fn recover(&self) -> Result<(), OpenError> {
        let failed = |source| OpenError::Folder { path: self.config.data_dir.clone(), source };
        let uploads = upload::Entity::delete_many().exec(&self.db).await?.rows_affected;
        idempotent_request::Entity::delete_many()
            .filter(idempotent_request::Column::Status.is_null())
            .exec(&self.db)
            .await?;
        let staged = self.objects.discard_abandoned().await.map_err(failed)?;
        let blobs = self.sweep_blobs().await?;
        if uploads > 0 || staged > 0 || blobs > 0 {
            tracing::info!(uploads, staged, blobs, "Removed what an interrupted process left behind");
        }
        Ok(())
    }

    /// Makes sure that somebody can operate the installation: on the first start makes the tenant [`ADMIN_TENANT`]
    /// and a key of it with all scopes, and answers that key for the caller to show once. Later starts answer `None`,
    /// unless no admin key is usable any more; then a new one is made.
    ///
    /// # Errors
    /// [`RegistryError`] from the database.
    pub async fn bootstrap(&self) -> Result<Option<ApiKey>, RegistryError> {
        let transaction = begin_write(&self.db).await?;
        let admin = match tenant_by_name(&transaction, ADMIN_TENANT).await? {
            Some(tenant) => tenant,
            None => insert_tenant(&transaction, ADMIN_TENANT).await?,
        };
        let keys = api_key::Entity::find()
            .filter(api_key::Column::TenantId.eq(&admin.id))
            .filter(api_key::Column::RevokedAtMs.is_null())
            .all(&transaction)
            .await?;
        let is_usable = |key: &api_key::Model| {
            key.expires_at_ms.is_none_or(|expires_at_ms| expires_at_ms > now_ms())
                && scopes_from_column(&key.scopes).contains(&Scope::Admin)
        };
        if keys.iter().any(is_usable) {
            return Ok(None);
        }
        let new_key = NewKey {
            tenant_id: admin.id,
            name: "first admin key".to_owned(),
            scopes: Scope::ALL.into_iter().collect(),
            expires_at_ms: None,
        };
        let (_, key) = insert_key(&transaction, &self.authenticator, new_key).await?;
        transaction.commit().await?;
        Ok(Some(key))
    }

    /// Where the embedded shape keeps objects; see [`RegistryConfig::objects_dir`].
    #[must_use]
    pub fn objects_dir(&self) -> PathBuf {
        self.config.objects_dir()
    }

    /// Who presents this key, if it is valid now.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn authenticate(&self, presented: &str) -> Result<Principal, AuthError> {
        self.authenticator.authenticate(presented).await
    }
}
