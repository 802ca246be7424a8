//! The [`Registry`]: what lives as long as the service, and how it starts.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sea_orm::{DatabaseConnection, DbErr};
use souk_http::public_url::PublicUrl;
use souk_http::revoked::REMEMBERED;
use souk_http::token::is_token;
use souk_migrations::{Expanded, expand, from_a_newer_program};
use souk_protocol::{BaseModel, Principal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::auth::{AuthError, Authenticator, Peppers};
use crate::changes::Changes;
use crate::collector::Collector;
use crate::config::RegistryConfig;
use crate::database::{DatabaseError, open_database};
use crate::db::{
    Pools, api_keys, begin_start, installation as installation_table, leases, services, sessions, webhook_endpoints,
    withdrawals,
};
use crate::error::RegistryError;
use crate::folder_lock::FolderLock;
use crate::gates::Gates;
use crate::hooks::HookIntake;
use crate::installation::{self, InstallationError};
use crate::objects::{self, ObjectStore, OpenObjectsError, Place};
use crate::private;
use crate::room::Room;
use crate::seal::Seals;
use crate::secrets::SecretError;
use crate::sign_in::{Attempts, Providers};
use crate::tokens::SigningKeys;
use crate::webhooks::{self, Deliverer};
use crate::withdrawals::{WithdrawalListener, Withdrawals};

/// How long closing waits for connections that are in use.
const CLOSING_TIME: Duration = Duration::from_secs(5);

/// How long the database has for a sign of life.
const REACHING_TIME: Duration = Duration::from_secs(2);

/// The control plane. Cheap to clone: a clone is the same registry. Any number of registries, in any number of
/// processes, may share one database and one object store; with SQLite and a folder they are on one host.
#[derive(Clone)]
pub struct Registry {
    /// What the operator set.
    pub(crate) config: Arc<RegistryConfig>,
    /// The name, unlike any other, under which this registry holds leases.
    pub(crate) owner: Arc<str>,
    /// Rows: tenants, keys, adapters, versions. What a caller asks for goes by [`Registry::for_caller`].
    pub(crate) db: DatabaseConnection,
    /// All connections to the database.
    pub(crate) pools: Pools,
    /// Bytes of adapters, by digest.
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// Base models that uploads may be made for.
    pub(crate) bases: Arc<[BaseModel]>,
    /// Verifies keys.
    pub(crate) authenticator: Arc<Authenticator>,
    /// What requests may hold at once in this process.
    pub(crate) gates: Gates,
    /// Room on the disk.
    pub(crate) room: Room,
    /// Closes and opens secrets.
    pub(crate) seals: Arc<Seals>,
    /// Signs and verifies tokens.
    pub(crate) signing_keys: Arc<SigningKeys>,
    /// Who says who persons are.
    pub(crate) providers: Arc<Providers>,
    /// What looks at hooks, once that is known.
    hook_intake: Arc<OnceLock<Arc<dyn HookIntake>>>,
    /// How often addresses try to sign in.
    pub(crate) attempts: Arc<Attempts>,
    /// Where browsers reach the installation, once that is known.
    public_url: Arc<OnceLock<PublicUrl>>,
    /// Ends and removes what nobody works on any more, while this registry lives and no other one does it.
    collector: Arc<AbortOnDropHandle<()>>,
    /// Delivers events to webhooks, while this registry lives.
    deliverer: Arc<AbortOnDropHandle<()>>,
    /// Tells those who serve in this process what was taken down and revoked.
    pub(crate) withdrawals: Withdrawals,
    /// Counts what may have changed.
    pub(crate) changes: Changes,
    /// Ends the streams that gateways listen to.
    pub(crate) ending: CancellationToken,
    /// Looks for what other registries take down and revoke, while this registry lives.
    watch: Arc<AbortOnDropHandle<()>>,
}

/// Why the registry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has been starting in the same folder for too long.
    #[error(
        "{0} is locked by another process that is starting; if there is none, look what holds the file `lock` in it"
    )]
    Locked(PathBuf),
    /// The folder or the object store cannot be used.
    #[error("the data folder {path} cannot be used")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// Nothing can be written in the data folder.
    #[error(
        "nothing can be written in the data folder {path}: {source}. Free disk space, or mount it for writing. Nothing was changed"
    )]
    Unwritable {
        /// The folder.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// A newer program has changed the database.
    #[error(
        "the database was changed by a newer version of this program ({}); start that version, or restore a backup from before. Nothing was changed",
        .0.join(", ")
    )]
    NewerDatabase(Vec<String>),
    /// This program needs a change of the database that no older one could live with.
    #[error(
        "the database lacks changes that this program needs, and they come after ones that take something away from older programs ({}); end those, then run `souk migrate up`. Nothing was changed",
        .0.join(", ")
    )]
    ContractFirst(Vec<String>),
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] DatabaseError),
    /// The database cannot be used.
    #[error("the registry's database cannot be used")]
    Database(#[from] DbErr),
    /// The pepper or the sealing key cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The object store cannot be used.
    #[error(transparent)]
    Objects(#[from] OpenObjectsError),
    /// Database and objects do not belong together.
    #[error(transparent)]
    Installation(#[from] InstallationError),
    /// Nothing can be sent to webhooks.
    #[error("the HTTP client for webhooks cannot be set up")]
    Client(#[from] reqwest::Error),
}

impl Registry {
    /// Hears of each version that is taken down and each key that is revoked from now on, by whatever registry of the
    /// database, so that running answers can be ended.
    #[must_use]
    pub fn withdrawals(&self) -> WithdrawalListener {
        self.withdrawals.listen()
    }

    /// Opens the database and the object store that the settings name, by default a SQLite file and a folder, both below
    /// the data folder.
    ///
    /// # Errors
    /// [`OpenError`], before anything was changed that a later start would not put right.
    pub async fn open_embedded(config: RegistryConfig, bases: Vec<BaseModel>) -> Result<Self, OpenError> {
        let lock = lock(&config).await?;
        let objects = objects::open(&config.objects, config.objects_dir()).await?;
        let pools = open_database(&config).await?;
        Self::open_locked(config, pools, objects, bases, &lock).await
    }

    /// Opens the registry on a database and an object store: brings the schema up to date, makes sure that database and
    /// objects belong together, and reads or makes the pepper, all while it has the data folder's lock, so that of
    /// processes that start at once each finds what the first one made. It removes nothing: the collector, which begins
    /// now, ends what a killed registry left half done once its lease has lapsed. On PostgreSQL a lock of the database does
    /// the same among hosts.
    ///
    /// # Errors
    /// [`OpenError`], before anything was changed that a later start would not put right.
    pub async fn open(
        config: RegistryConfig,
        pools: impl Into<Pools>,
        objects: Arc<dyn ObjectStore>,
        bases: Vec<BaseModel>,
    ) -> Result<Self, OpenError> {
        let lock = lock(&config).await?;
        Self::open_locked(config, pools.into(), objects, bases, &lock).await
    }

    async fn open_locked(
        config: RegistryConfig,
        pools: Pools,
        objects: Arc<dyn ObjectStore>,
        bases: Vec<BaseModel>,
        _lock: &FolderLock,
    ) -> Result<Self, OpenError> {
        let db = pools.own.clone();
        let starting = begin_start(&db).await?;
        let newer = from_a_newer_program(&db).await?;
        if !newer.is_empty() {
            return Err(OpenError::NewerDatabase(newer));
        }
        match expand(&db).await? {
            Expanded { pending, is_enough: false } => return Err(OpenError::ContractFirst(pending)),
            Expanded { pending, .. } if !pending.is_empty() => {
                let pending = pending.join(", ");
                tracing::warn!(
                    pending,
                    "Changes of the database wait until no older program runs ({pending}); then run `souk migrate up`"
                );
            }
            Expanded { .. } => {}
        }
        installation::tie(&db, &*objects).await?;
        let peppers =
            Peppers::open(&config.settings.pepper_source(), &config.data_dir, api_keys::any_exist(&db).await?)?;
        if let Some(starting) = starting {
            starting.commit().await?;
        }
        let owner: Arc<str> = format!("reg_{}", Uuid::new_v4().simple()).into();
        let seals = open_seals(&config, &db).await?;
        let signing_keys = open_signing_keys(&config, &db, seals.clone()).await?;
        let deliverer = Deliverer::new(db.clone(), seals.clone(), config.settings.webhooks.clone())?;
        let changes = Changes::new();
        let withdrawals = Withdrawals::new(changes.clone());
        // The number first: what is revoked meanwhile is heard twice rather than never.
        let newest = withdrawals::newest(&db).await?;
        withdrawals.remember(api_keys::revoked_within(&db, REMEMBERED).await?);
        withdrawals.remember(sessions::ended_within(&db, REMEMBERED).await?);
        withdrawals.remember(services::revoked_within(&db, REMEMBERED).await?);
        let watch = withdrawals.clone().watch(db.clone(), owner.clone(), newest);
        let collector = Collector {
            db: db.clone(),
            objects: objects.clone(),
            owner: owner.clone(),
            settings: config.settings.clone(),
            people_kept: config.sign_in.over_kept(),
        };
        Ok(Self {
            authenticator: Arc::new(Authenticator::new(db.clone(), peppers)),
            owner,
            seals,
            signing_keys: Arc::new(signing_keys),
            deliverer: Arc::new(AbortOnDropHandle::new(tokio::spawn(deliverer.run()))),
            db,
            bases: bases.into(),
            gates: Gates::new(&config.settings),
            room: Room::new(objects.clone(), &config),
            providers: Arc::new(Providers::new(&config.sign_in)?),
            attempts: Arc::new(Attempts::new(config.sign_in.attempts_per_minute, Instant::now())),
            public_url: Arc::new(config.public_url.clone().map_or_else(OnceLock::new, OnceLock::from)),
            hook_intake: Arc::default(),
            pools,
            collector: Arc::new(AbortOnDropHandle::new(tokio::spawn(collector.run()))),
            watch: Arc::new(AbortOnDropHandle::new(tokio::spawn(watch))),
            withdrawals,
            changes,
            ending: CancellationToken::new(),
            objects,
            config: Arc::new(config),
        })
    }

    /// Ends the streams that gateways listen to, so that they turn to other registries before this one closes its port.
    pub fn end_streams(&self) {
        self.ending.cancel();
    }

    /// Ends this registry: its collector, so that another's can begin at once, and its connections to the database.
    /// What it had begun and not finished is ended by others when its lease lapses.
    pub async fn close(self) {
        self.collector.abort();
        self.deliverer.abort();
        self.watch.abort();
        if let Err(error) = leases::give_back(&self.db, &self.owner).await {
            tracing::warn!(%error, "The leases of this registry lapse by themselves");
        }
        // Waits for connections in use; what still has one by then ends with the process.
        match tokio::time::timeout(CLOSING_TIME, self.pools.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "The registry's database was not closed"),
            Err(_) => tracing::warn!("The registry's database was still in use after {CLOSING_TIME:?}"),
        }
    }

    /// The same registry, with the connections that are for what `principal` asks for.
    #[must_use]
    pub(crate) fn for_caller(&self, principal: &Principal) -> Self {
        Self { db: self.pools.of(principal).clone(), ..self.clone() }
    }

    /// The same registry, with the connections that are for those who act for no tenant: persons, and who has no key.
    #[must_use]
    pub(crate) fn for_no_tenant(&self) -> Self {
        Self { db: self.pools.tenants.clone(), ..self.clone() }
    }

    /// Says where browsers reach the installation, unless the settings do: what is only known once it listens.
    pub fn serves_at(&self, public_url: PublicUrl) {
        // The settings' own stays.
        let _ = self.public_url.set(public_url);
    }

    /// Says what looks at hooks. Before that none can be published.
    pub fn takes_hooks(&self, intake: Arc<dyn HookIntake>) {
        // The first stays.
        let _ = self.hook_intake.set(intake);
    }

    /// What looks at hooks.
    pub(crate) fn hook_intake(&self) -> Result<Arc<dyn HookIntake>, RegistryError> {
        self.hook_intake.get().cloned().ok_or(RegistryError::HooksOff)
    }

    /// Where browsers reach the installation.
    pub(crate) fn public_url(&self) -> Result<&PublicUrl, RegistryError> {
        self.public_url.get().ok_or(RegistryError::NoPublicUrl)
    }

    /// Counts an attempt of an address to sign in or to use a link.
    pub(crate) fn one_more_attempt(&self, address: Option<IpAddr>) -> Result<(), RegistryError> {
        if self.attempts.one_more(address, Instant::now()) { Ok(()) } else { Err(RegistryError::TooManyAttempts) }
    }

    /// Whether the database answers now.
    pub async fn reaches_database(&self) -> bool {
        matches!(tokio::time::timeout(REACHING_TIME, self.db.ping()).await, Ok(Ok(())))
    }

    /// The folder of the objects, each at [`souk_protocol::manifest::blob_path`] below it; `None`: they are in a bucket.
    #[must_use]
    pub fn objects_dir(&self) -> Option<PathBuf> {
        matches!(self.config.objects.place(), Ok(Place::Folder)).then(|| self.config.objects_dir())
    }

    /// The bytes of adapters, for nodes of the same process: what they ask for was authorised before it was queued.
    #[must_use]
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        self.objects.clone()
    }

    /// Who presents this key or token, if it is valid now.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn authenticate(&self, presented: &str) -> Result<Principal, AuthError> {
        if is_token(presented) {
            return self.authenticate_token(presented).await;
        }
        self.authenticator.authenticate(presented).await
    }
}

/// The keys that close secrets, and everything under the newest of them.
async fn open_seals(config: &RegistryConfig, db: &DatabaseConnection) -> Result<Arc<Seals>, OpenError> {
    // Signing keys are made anew where they do not open; what signs for webhooks is known to their owners.
    let are_needed = webhook_endpoints::any_exist(db).await?;
    let seals = Seals::open_keys(&config.settings.sealing_key_source(), &config.data_dir, are_needed)?;
    webhooks::reseal(db, &seals).await?;
    Ok(Arc::new(seals))
}

async fn open_signing_keys(
    config: &RegistryConfig,
    db: &DatabaseConnection,
    seals: Arc<Seals>,
) -> Result<SigningKeys, OpenError> {
    let settings = &config.settings;
    let id = installation_table::id(db).await?.unwrap_or_default();
    Ok(SigningKeys::open(db.clone(), seals, format!("souk:{id}"), settings.rotate_signing_key_after()).await?)
}

async fn lock(config: &RegistryConfig) -> Result<FolderLock, OpenError> {
    let failed = |source| OpenError::Folder { path: config.data_dir.clone(), source };
    private::folder(&config.data_dir).map_err(failed)?;
    let unwritable = |source| OpenError::Unwritable { path: config.data_dir.clone(), source };
    private::is_writable(&config.data_dir).map_err(unwritable)?;
    match FolderLock::take(&config.data_dir).await {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(OpenError::Locked(config.data_dir.clone())),
        Err(source) => Err(failed(source)),
    }
}
