//! Room on the disk for what tenants store: a part of it is kept free, so that what operators do, and the database of
//! what is served, always finds some; of the rest each tenant has a share, by the rules of gates (docs/limits.md).
//!
//! What is free is asked of the store each time, so whatever else lies on the disk counts. An upload counts with the
//! bytes that its head announces, less those that were written, from before the first is read; without an announcement
//! it counts as it comes. So uploads that run together never count on the same room.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sea_orm::{ConnectionTrait, DatabaseConnection};
use souk_protocol::TenantId;
use souk_protocol::gate::{Cause, Rules};

use crate::config::RegistryConfig;
use crate::db::tenants;
use crate::error::RegistryError;
use crate::objects::ObjectStore;
use crate::private;

/// What an upload that announces nothing counts with ahead of what came, and how much may come between two looks.
const STEP_BYTES: u64 = 8 << 20;
/// What a tenant with next to nothing stores, on a disk that is not tiny.
const SMALL_BYTES: u64 = 64 << 20;

/// Room for uploads. Clones are the same.
#[derive(Clone)]
pub(crate) struct Room {
    objects: Arc<dyn ObjectStore>,
    /// The folder of the database, if it is a file here.
    database: Option<PathBuf>,
    /// What is to stay free, in bytes.
    reserve: u64,
    /// Most that one tenant may store, in bytes.
    most_of_one: Option<u64>,
    /// Bytes that were announced and not written yet, by tenant. Locked without an await.
    to_come: Arc<Mutex<HashMap<TenantId, u64>>>,
}

/// Room that an upload counts on, until it is dropped.
pub(crate) struct Claim {
    room: Room,
    db: DatabaseConnection,
    tenant: TenantId,
    /// Bytes that may come before more is asked for.
    announced: u64,
    came: u64,
    /// Bytes of `came` that were there at the last look.
    looked_at: u64,
    /// Announced and not written.
    to_come: u64,
}

impl Room {
    pub(crate) fn new(objects: Arc<dyn ObjectStore>, config: &RegistryConfig) -> Self {
        let settings = &config.settings;
        let database = settings.database.is_sqlite().then(|| config.data_dir.clone());
        let (reserve, most_of_one) = (settings.disk_reserve, settings.max_stored_per_tenant);
        Self { objects, database, reserve, most_of_one, to_come: Arc::default() }
    }

    /// Claims room for an upload of a tenant of which so many bytes are announced.
    pub(crate) async fn claim(
        &self,
        db: &DatabaseConnection,
        tenant: &TenantId,
        announced: u64,
    ) -> Result<Claim, RegistryError> {
        let (db, tenant) = (db.clone(), tenant.clone());
        let mut claim = Claim { room: self.clone(), db, tenant, announced: 0, came: 0, looked_at: 0, to_come: 0 };
        claim.grow(announced).await?;
        Ok(claim)
    }

    /// Refuses what would be written into the reserve, where the objects are or the database.
    pub(crate) async fn look(&self) -> Result<(), RegistryError> {
        let of_objects = self.objects.free_bytes().await?.unwrap_or(u64::MAX);
        let of_database = match &self.database {
            Some(folder) => private::free_bytes(folder.clone()).await?,
            None => u64::MAX,
        };
        let free = of_objects.min(of_database);
        if free < self.reserve { Err(self.reserved(free, 0)) } else { Ok(()) }
    }

    fn reserved(&self, free: u64, asked: u64) -> RegistryError {
        let (free, asked, reserve) = (mebibytes(free), mebibytes(asked), mebibytes(self.reserve));
        RegistryError::InsufficientStorage(format!(
            "{free} MiB are free, of which registry.disk_reserve_mb keeps {reserve} MiB, and {asked} MiB were asked for; the operator has to free disk space"
        ))
    }

    fn to_come(&self) -> MutexGuard<'_, HashMap<TenantId, u64>> {
        // Each change is one addition, so a panic elsewhere leaves nothing half done.
        self.to_come.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a tenant may store `asked` bytes more than what is counted.
    pub(crate) async fn check(
        &self,
        db: &impl ConnectionTrait,
        tenant: &TenantId,
        asked: u64,
    ) -> Result<(), RegistryError> {
        let stored = tenants::stored(db, tenant, SMALL_BYTES).await?;
        let (own_to_come, all_to_come) = {
            let to_come = self.to_come();
            (to_come.get(tenant).copied().unwrap_or_default(), to_come.values().sum::<u64>())
        };
        let (held, used) = (stored.own.saturating_add(own_to_come), stored.all.saturating_add(all_to_come));
        if let Some(most) = self.most_of_one.filter(|most| held.saturating_add(asked) > *most) {
            let (held, asked, most) = (mebibytes(held), mebibytes(asked), mebibytes(most));
            return Err(RegistryError::InsufficientStorage(format!(
                "your tenant has stored {held} MiB of at most {most} MiB (registry.max_stored_mb_per_tenant) and asked for {asked} MiB; delete versions first"
            )));
        }
        let Some(free) = self.objects.free_bytes().await? else { return Ok(()) };
        if free.saturating_sub(all_to_come).saturating_sub(asked) < self.reserve {
            return Err(self.reserved(free.saturating_sub(all_to_come), asked));
        }
        let total = stored.all.saturating_add(free - self.reserve);
        let reserve = total / 8;
        let rules = Rules { total, reserve, small: SMALL_BYTES.min(reserve / 8), most: total };
        // Nobody waits for what is stored: those who have much count as if they did.
        let share = (total - reserve) / (1 + stored.num_large);
        rules.check(asked, held, used, share).map_err(|refusal| {
            let whose = if refusal.cause == Cause::Share { "your tenant's share" } else { "what tenants may store" };
            let [held, asked, used, total, share] =
                [refusal.held, refusal.asked, refusal.used, refusal.total, refusal.share].map(mebibytes);
            RegistryError::InsufficientStorage(format!(
                "{whose} is taken: your tenant has {held} MiB of at most {share} MiB now, all have {used} of {total} MiB without registry.disk_reserve_mb, and {asked} MiB were asked for"
            ))
        })
    }
}

impl Claim {
    /// Counts bytes that came from the client, before they are written.
    pub(crate) async fn came(&mut self, len: usize) -> Result<(), RegistryError> {
        self.came += len as u64;
        if self.came > self.announced {
            self.grow((self.came - self.announced).max(STEP_BYTES)).await?;
        }
        if self.came - self.looked_at >= STEP_BYTES {
            self.looked_at = self.came;
            self.room.look().await?;
        }
        Ok(())
    }

    /// Counts bytes that are on the disk now.
    pub(crate) fn wrote(&mut self, len: usize) {
        let written = self.to_come.min(len as u64);
        self.to_come -= written;
        self.give_back(written);
    }

    async fn grow(&mut self, more: u64) -> Result<(), RegistryError> {
        self.room.check(&self.db, &self.tenant, more).await?;
        *self.room.to_come().entry(self.tenant.clone()).or_default() += more;
        self.announced += more;
        self.to_come += more;
        // Two may have been let in at the same moment; then neither is.
        self.room.check(&self.db, &self.tenant, 0).await
    }

    fn give_back(&self, bytes: u64) {
        let mut to_come = self.room.to_come();
        if let Some(left) = to_come.get_mut(&self.tenant) {
            *left -= bytes;
            if *left == 0 {
                to_come.remove(&self.tenant);
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.give_back(self.to_come);
    }
}

/// For people: no more than they need.
fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}
