//! Publishing: from a form to a version that serves.
//!
//! The component is held in memory, since it is small and is looked at as a whole. Its number is reserved by the version's own
//! row, which is `validating` under a lease, and so are its blobs: they are referred to from then on. Then it is judged and
//! compiled ([`super::intake`]), its blobs are put in place, and one transaction makes it `ready`. Whatever fails before, and
//! whenever the client goes away, the row goes and nothing is left; what a killed registry had begun is undone by the collector.

use std::sync::Arc;

use bytes::Bytes;
use sea_orm::{ConnectionTrait, DbErr};
use semver::Version;
use serde::Serialize;
use serde_json::json;
use souk_protocol::gate::Pass;
use souk_protocol::{Digest, Principal};
use uuid::Uuid;

use super::config_schema;
use super::intake::{HookIntake, HookTerms, JudgedHook, NotJudged};
use super::lookup::hook_not_found;
use super::versions::{HookVersionDetails, tell};
use crate::audit::Actor;
use crate::blobs::remove_released;
use crate::crash_points::{CrashPoint, pass};
use crate::db::{
    HookRow, HookVersionRow, begin_write_of, blobs, hook_versions, hooks, is_unique_violation, now_ms,
    taken_down_content, tenants,
};
use crate::error::{Finding, RegistryError};
use crate::events::Kind;
use crate::gates::Holder;
use crate::idempotency::Once;
use crate::lease::Renewal;
use crate::publishing::{Goes, PartSpec, Parts, Received, Receiver, Store};
use crate::rights::Action;
use crate::room::Claim;
use crate::words::VersionState;
use crate::{Registry, metrics};

/// The part of the form that has the component.
const COMPONENT: &str = "component";

/// An upload that may begin.
pub(crate) struct HookUpload {
    registry: Registry,
    principal: Principal,
    hook: HookRow,
    intake: Arc<dyn HookIntake>,
    terms: HookTerms,
    place: Pass<Holder>,
    /// Bytes of the whole body, where its head says so.
    announced: Option<u64>,
}

/// An upload of which everything has arrived. Nobody waits for the client any more.
pub(crate) struct ReceivedHook {
    upload: HookUpload,
    claim: Claim,
    number: Version,
    received: Received,
}

/// What becomes a version.
pub(super) struct HookRelease<'a> {
    pub(super) registry: &'a Registry,
    pub(super) hook: &'a HookRow,
    pub(super) number: &'a Version,
    pub(super) component: Bytes,
    pub(super) terms: HookTerms,
    pub(super) actor: Actor,
}

/// The reservation of a number, undone when it is dropped.
struct Validating {
    /// `None` once it has ended: there is nothing to undo.
    held: Option<Held>,
    _renewal: Renewal,
}

/// What a version that did not come to be is undone by.
struct Held {
    registry: Registry,
    row: HookVersionRow,
    hook: HookRow,
    blobs: Vec<String>,
}

impl Registry {
    /// Checks that the caller may publish under `owner/name` and that one more upload may run.
    pub(crate) async fn begin_hook_upload(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        announced: Option<u64>,
    ) -> Result<HookUpload, RegistryError> {
        let hook = self.hook_for(principal, Action::PublishHookVersion, owner, name).await?;
        let intake = self.hook_intake()?;
        let place = self.gates.begin_upload(principal)?;
        let terms = self.hook_terms(&principal.tenant, &principal.tenant_name).await?;
        Ok(HookUpload { registry: self.clone(), principal: principal.clone(), hook, intake, terms, place, announced })
    }
}

impl HookUpload {
    /// Takes everything in.
    pub(crate) async fn receive(self, parts: &mut dyn Parts) -> Result<ReceivedHook, RegistryError> {
        let registry = &self.registry;
        let mut receiver = self.receiver(parts);
        let number = receiver.version().await?;
        // What is announced beyond what may come at all is refused as it comes.
        let announced = self.announced.unwrap_or(0).min(receiver.most_bytes());
        let mut claim = registry.room.claim(&registry.db, &self.hook.tenant(), announced).await?;
        let store = Store { objects: &*registry.objects, upload_id: "", claim: &mut claim };
        let received = receiver.receive(Some(store)).await?;
        Ok(ReceivedHook { upload: self, claim, number, received })
    }

    fn receiver<'a>(&self, parts: &'a mut dyn Parts) -> Receiver<'a> {
        let limit_bytes = self.intake.most_bytes(self.terms.is_large);
        let component = PartSpec { name: COMPONENT, is_required: true, limit_bytes, goes: Goes::IntoMemory };
        Receiver::of_held(parts, vec![component], self.registry.config.settings.upload_idle_timeout)
    }

    /// Takes everything in and keeps nothing; answers the digest over all that was sent.
    pub(crate) async fn fingerprint(self, parts: &mut dyn Parts) -> Result<Digest, RegistryError> {
        let mut receiver = self.receiver(parts);
        let number = receiver.version().await?;
        Ok(receiver.receive(None).await?.fingerprint(&number.to_string()))
    }
}

impl ReceivedHook {
    /// A digest over all that was sent.
    pub(crate) fn fingerprint(&self) -> Digest {
        self.received.fingerprint(&self.number.to_string())
    }

    /// Makes the version one that serves, or says everything that is wrong with it. To be run in a task of its own: the client
    /// has sent all that it has to. `shape` makes the answer that is kept for an `Idempotency-Key`.
    pub(crate) async fn publish<A: Serialize>(
        self,
        once: &Once,
        shape: impl FnOnce(HookVersionDetails) -> A,
    ) -> Result<HookVersionDetails, RegistryError> {
        let Self { upload, claim, number, mut received } = self;
        let HookUpload { registry, principal, hook, terms, place, .. } = upload;
        let _until_the_end = (place, claim);
        let component = Bytes::from(received.take(COMPONENT)?);
        let (registry, hook, number, actor) = (&registry, &hook, &number, Actor::of(&principal));
        HookRelease { registry, hook, number, component, terms, actor }.publish(once, shape).await
    }
}

impl HookRelease<'_> {
    pub(super) async fn publish<A: Serialize>(
        self,
        once: &Once,
        shape: impl FnOnce(HookVersionDetails) -> A,
    ) -> Result<HookVersionDetails, RegistryError> {
        let mut running = metrics::UploadRuns::begin("hook");
        let mut validating = Validating::begin(&self).await?;
        match self.validated(&mut validating, once, shape).await {
            Ok(version) => {
                validating.published();
                running.end("published");
                Ok(version)
            }
            Err(error) => {
                running.end(if matches!(error, RegistryError::HookRejected(_)) { "rejected" } else { "failed" });
                Err(validating.end_with(error).await)
            }
        }
    }

    async fn validated<A: Serialize>(
        &self,
        validating: &mut Validating,
        once: &Once,
        shape: impl FnOnce(HookVersionDetails) -> A,
    ) -> Result<HookVersionDetails, RegistryError> {
        let registry = self.registry;
        let judged = registry.hook_intake()?.judge(&self.hook.tenant(), self.component.clone(), &self.terms).await;
        let JudgedHook { report, artifact } = judged.map_err(|error| match error {
            NotJudged::Rejected(findings) => RegistryError::HookRejected(findings),
            NotJudged::Unavailable(error) => RegistryError::HookNotJudged(error),
        })?;
        let schema = report.description.as_ref().and_then(|description| description.config_schema.as_ref());
        if let Some(message) = schema.and_then(config_schema::problem) {
            let (code, subject) = ("config_schema".to_owned(), COMPONENT.to_owned());
            return Err(RegistryError::HookRejected(vec![Finding { code, subject, message }]));
        }
        let mut row = validating.row().clone();
        let component = row.digest.parse::<Digest>().map_err(std::io::Error::other)?;
        let compiled = digest_of(&artifact.bytes).await?;
        row.engine = Some(artifact.engine);
        row.artifact_digest = Some(compiled.to_string());
        row.artifact_bytes = size_of(&artifact.bytes);
        row.report = serde_json::to_string(&report).ok();
        validating.count_on(&row).await?;
        put_in_place(registry, &row.id, &self.component, &component).await?;
        put_in_place(registry, &row.id, &artifact.bytes, &compiled).await?;
        self.make_ready(row, once, shape).await
    }

    /// Makes the version visible: all rows or none, and only while its lease was not ended.
    async fn make_ready<A: Serialize>(
        &self,
        mut row: HookVersionRow,
        once: &Once,
        shape: impl FnOnce(HookVersionDetails) -> A,
    ) -> Result<HookVersionDetails, RegistryError> {
        let Self { registry, hook, number, .. } = self;
        let transaction = begin_write_of(&registry.db, &hook.tenant()).await?;
        // This also locks the hook's row, so that it cannot be deleted before the version is in.
        if !hooks::touch(&transaction, &hook.id).await? {
            return Err(hook_not_found(&hook.owner, &hook.name));
        }
        // A take-down of the content locks this row too: either it comes first and is found, or it finds this version.
        blobs::lock(&transaction, &row.digest).await?;
        refuse_taken_down(&transaction, &row.digest).await?;
        if !hook_versions::complete(&transaction, &row, &registry.owner).await? {
            return Err(RegistryError::LeaseLost);
        }
        row.state = VersionState::Ready.as_str().to_owned();
        (row.worked_on_by, row.lease_expires_at_ms) = (None, None);
        tenants::add_stored(&transaction, &hook.tenant(), row.size_bytes).await?;
        let facts = json!({ "size_bytes": row.size_bytes });
        tell(&transaction, self.actor.clone(), Kind::HookVersionReady, &[(hook, &row)], facts).await?;
        let version = HookVersionDetails { hook: hook.full_name(), row };
        once.keep_in(&transaction, || shape(version.clone())).await?;
        transaction.commit().await?;
        let (name, digest) = (&version.hook, &version.row.digest);
        tracing::info!(hook = name, version.number = %number, version.digest = digest, "Published {name}@{number}");
        Ok(version)
    }
}

impl Validating {
    /// Reserves the number, or says why it cannot be had. From then on nobody removes the component.
    async fn begin(release: &HookRelease<'_>) -> Result<Self, RegistryError> {
        let HookRelease { registry, hook, number, component, .. } = release;
        let name = format!("{}@{number}", hook.full_name());
        let now_ms = now_ms();
        let row = HookVersionRow {
            id: format!("hkv_{}", Uuid::now_v7().simple()),
            hook_id: hook.id.clone(),
            version: number.to_string(),
            state: VersionState::Validating.as_str().to_owned(),
            state_reason: None,
            digest: digest_of(component).await?.to_string(),
            size_bytes: size_of(component),
            engine: None,
            artifact_digest: None,
            artifact_bytes: 0,
            report: None,
            created_at_ms: now_ms,
            state_changed_at_ms: now_ms,
            worked_on_by: None,
            lease_expires_at_ms: None,
        };
        refuse_taken_down(&registry.db, &row.digest).await?;
        let (settings, owner) = (&registry.config.settings, &registry.owner);
        let transaction = begin_write_of(&registry.db, &hook.tenant()).await?;
        let given = hook_versions::count_of(&transaction, &hook.id).await?;
        RegistryError::unless_fewer(given, settings.hooks.max_versions_per_hook, |given, limit| {
            let (of, setting) = (hook.full_name(), "registry.hooks.max_versions_per_hook");
            RegistryError::TooMany { what: "versions", of, setting, limit, given, remedy: "delete one first" }
        })?;
        let reserved = hook_versions::reserve(&transaction, row.clone(), owner, settings.lease).await;
        if let Err(error) = reserved {
            transaction.rollback().await?;
            if !is_unique_violation(&error) {
                return Err(error.into());
            }
            return Err(number_in_use(&registry.db, &row, name).await?);
        }
        blobs::rely_on(&transaction, std::slice::from_ref(&row.digest)).await?;
        transaction.commit().await?;
        let renewal = {
            let (db, id, owner, lease) = (registry.db.clone(), row.id.clone(), owner.clone(), settings.lease);
            Renewal::of(format!("the validation of {name}"), lease, move || {
                let (db, id, owner) = (db.clone(), id.clone(), owner.clone());
                async move { hook_versions::renew(&db, &id, &owner, lease).await }
            })
        };
        let (registry, hook, blobs) = ((*registry).clone(), (*hook).clone(), vec![row.digest.clone()]);
        Ok(Self { held: Some(Held { registry, row, hook, blobs }), _renewal: renewal })
    }

    fn held(&self) -> &Held {
        self.held.as_ref().expect("who ends it consumes it")
    }

    fn row(&self) -> &HookVersionRow {
        &self.held().row
    }

    /// Makes sure that what the component was compiled to does not go away before the version is there. To be called before that
    /// is put in place.
    async fn count_on(&mut self, row: &HookVersionRow) -> Result<(), RegistryError> {
        let Held { registry, hook, blobs, .. } = self.held.as_mut().expect("who ends it consumes it");
        let (engine, digest) =
            (row.engine.as_deref().unwrap_or_default(), row.artifact_digest.clone().unwrap_or_default());
        let transaction = begin_write_of(&registry.db, &hook.tenant()).await?;
        let compiled = (engine, digest.as_str(), row.artifact_bytes);
        if !hook_versions::compiled(&transaction, &row.id, &registry.owner, compiled).await? {
            return Err(RegistryError::LeaseLost);
        }
        // Released by who undoes this, also where somebody has ended the row meanwhile, which names it.
        blobs.push(digest.clone());
        blobs::rely_on(&transaction, &[digest]).await?;
        Ok(transaction.commit().await?)
    }

    /// The transaction that made the version ready was committed.
    fn published(mut self) {
        self.held = None;
    }

    /// Sets the number free before the caller hears of `error`, so that it can try again at once.
    async fn end_with(mut self, error: RegistryError) -> RegistryError {
        if let Some(held) = &self.held
            && held.undo().await
        {
            self.held = None;
        }
        error
    }
}

impl Drop for Validating {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if let Some(held) = self.held.take() {
            runtime.spawn(async move { held.undo().await });
        }
    }
}

impl Held {
    /// Sets the number free and removes what was put in place; answers whether it did.
    async fn undo(&self) -> bool {
        match self.try_undo().await {
            Ok(()) => true,
            Err(error) => {
                let id = &self.row.id;
                tracing::warn!(%error, version.id = id, "Version {id} of a hook keeps its number until its lease lapses");
                false
            }
        }
    }

    async fn try_undo(&self) -> Result<(), DbErr> {
        let Self { registry, row, hook, blobs: counted_on } = self;
        let transaction = begin_write_of(&registry.db, &hook.tenant()).await?;
        let found = hook_versions::by_ids(&transaction, [row.id.as_str()]).await?;
        hook_versions::give_up(&transaction, &row.id, &registry.owner).await?;
        let mut digests = counted_on.clone();
        digests.extend(found.into_iter().filter_map(|row| row.artifact_digest));
        blobs::release(&transaction, &digests).await?;
        transaction.commit().await?;
        remove_released(&registry.db, &*registry.objects, digests).await;
        Ok(())
    }
}

/// Tells a number that is in use from one that was, and from one that is being published.
async fn number_in_use(
    connection: &impl ConnectionTrait,
    row: &HookVersionRow,
    name: String,
) -> Result<RegistryError, DbErr> {
    let found = hook_versions::numbered_ever(connection, &row.hook_id, &row.version).await?;
    Ok(match found.map(|row| row.state()) {
        Some(VersionState::Deleted) => RegistryError::Retired { what: "version", name },
        // One that is gone again failed just now: the caller's next try will find the number free.
        None | Some(VersionState::Validating) => RegistryError::UploadInProgress(name),
        Some(_) => RegistryError::AlreadyExists { what: "version", name },
    })
}

/// Ends the publishing of content that was taken down.
async fn refuse_taken_down(connection: &impl ConnectionTrait, digest: &str) -> Result<(), RegistryError> {
    let found = taken_down_content::any_of(connection, &[digest.to_owned()]).await?;
    found.map_or(Ok(()), |row| Err(RegistryError::ContentTakenDown { digest: row.digest, reason: row.reason }))
}

async fn put_in_place(registry: &Registry, id: &str, bytes: &Bytes, digest: &Digest) -> Result<(), RegistryError> {
    let mut blob = registry.objects.stage(id).await?;
    blob.write(bytes).await?;
    pass(CrashPoint::ObjectStaged);
    blob.commit(digest).await?;
    pass(CrashPoint::ObjectPlaced);
    Ok(())
}

/// Off the async threads: large ones take tens of milliseconds.
async fn digest_of(bytes: &Bytes) -> Result<Digest, RegistryError> {
    let bytes = bytes.clone();
    Ok(tokio::task::spawn_blocking(move || Digest::of(&bytes)).await.map_err(std::io::Error::other)?)
}

fn size_of(bytes: &Bytes) -> i64 {
    i64::try_from(bytes.len()).unwrap_or(i64::MAX)
}
