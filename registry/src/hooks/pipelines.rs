//! Pipelines: which hooks act where, in which order.
//!
//! Each change of a target is a row with a number, and the last holds. A step is pinned to a version when it is set, and it is
//! then that the tenant has to be able to attach the hook and the configuration has to fit; what becomes of the hook later is
//! looked up for each answer to a gateway ([`super::resolve`]).

use serde_json::{Value, json};
use souk_protocol::hooks::{HookRoute, MAX_CONFIG_BYTES, MAX_STEPS, OnFailure, Share, Standing};
use souk_protocol::{Digest, HookRef, Principal, TenantId};

use super::config_schema;
use super::intake::HookReport;
use super::lookup::hook_not_found;
use super::steps::{Known, StoredStep, from_column, to_column};
use crate::Registry;
use crate::adapters::existing_version;
use crate::audit::{self, Act, Actor};
use crate::db::{
    HookVersionRow, PipelineRow, adapters, api_keys, begin_write_of, hook_versions, hooks, now_ms, pipelines, tenants,
    versions,
};
use crate::error::{Finding, RegistryError};
use crate::rights::{Action, require};
use crate::slice::{Slice, wrong_cursor};
use crate::words::VersionState;

/// Numbers of a target that are kept.
const KEPT: i64 = 100;

/// A step as a caller asks for it, unchecked.
#[derive(Clone, Debug)]
pub(crate) struct NewStep {
    pub(crate) hook: String,
    /// An object; `None` for an empty one.
    pub(crate) config: Option<Value>,
    pub(crate) on_failure: OnFailure,
    pub(crate) share: Share,
}

/// Where a pipeline hangs, as it is named.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// `tenant`, `key` or `route`, and which.
    Of(&'a str, &'a str),
    /// A version of an adapter: owner, name and number.
    Version(&'a str, &'a str, &'a str),
}

/// A pipeline, or that there is none.
pub(crate) struct PipelineDetails {
    /// `tenant`, `key`, `route` or `version`.
    pub(crate) at: String,
    /// Which: a tenant's name, a key's id, `chat` or `completions`, `owner/name@version`.
    pub(crate) target: String,
    /// `None` where nothing was ever set.
    pub(crate) row: Option<PipelineRow>,
    /// Each with whether it may run.
    pub(crate) steps: Vec<(StoredStep, Standing, Digest)>,
}

/// A target that was found to be the caller's.
struct Found {
    tenant: TenantId,
    column: String,
    at: &'static str,
    target: String,
}

impl Registry {
    /// The tenant's targets that have pipelines; a sort key is a target's column.
    pub(crate) async fn list_pipelines(
        &self,
        principal: &Principal,
        slice: Slice,
    ) -> Result<Vec<(String, PipelineDetails)>, RegistryError> {
        require(principal, Action::ListPipelines)?;
        let limit = slice.with_one_more();
        let rows = pipelines::list(&self.db, &principal.tenant, slice.after, limit).await?;
        let mut listed = Vec::with_capacity(rows.len());
        for row in rows {
            let column = row.target.clone();
            let (at, id) = column.split_once('/').unwrap_or((&column, &principal.tenant_name));
            let target = match at {
                "route" => HookRoute::from_path(id).map_or_else(|| id.to_owned(), |route| route_name(route).to_owned()),
                "version" => self.version_name(id).await?,
                _ => id.to_owned(),
            };
            let at = at.to_owned();
            listed.push((column, self.details(&principal.tenant, at, target, Some(row)).await?));
        }
        Ok(listed)
    }

    /// The pipeline of a target now.
    pub(crate) async fn pipeline(
        &self,
        principal: &Principal,
        action: Action,
        target: Target<'_>,
    ) -> Result<PipelineDetails, RegistryError> {
        let found = self.target(principal, action, target).await?;
        let row = pipelines::current(&self.db, &found.tenant, [found.column.clone()]).await?.pop();
        self.details(&found.tenant, found.at.to_owned(), found.target, row).await
    }

    /// The pipelines that a target had, the last first; a sort key is a number.
    pub(crate) async fn pipeline_history(
        &self,
        principal: &Principal,
        action: Action,
        target: Target<'_>,
        slice: Slice,
    ) -> Result<Vec<PipelineDetails>, RegistryError> {
        let found = self.target(principal, action, target).await?;
        let before = slice.after.as_deref().map(str::parse).transpose().map_err(|_| wrong_cursor())?;
        let limit = slice.with_one_more();
        let rows = pipelines::history(&self.db, &found.tenant, &found.column, before, limit).await?;
        let mut history = Vec::with_capacity(rows.len());
        for row in rows {
            let (at, target) = (found.at.to_owned(), found.target.clone());
            history.push(self.details(&found.tenant, at, target, Some(row)).await?);
        }
        Ok(history)
    }

    /// Sets the steps of a target, none of them to have none. Steps that are as they were change nothing.
    pub(crate) async fn set_pipeline(
        &self,
        principal: &Principal,
        action: Action,
        target: Target<'_>,
        steps: Vec<NewStep>,
    ) -> Result<PipelineDetails, RegistryError> {
        let found = self.target(principal, action, target).await?;
        let mut stored = Vec::with_capacity(steps.len());
        let mut findings = Vec::new();
        if steps.len() > MAX_STEPS {
            findings.push(Finding::field("steps", format!("at most {MAX_STEPS}, given {}", steps.len())));
        }
        for (index, step) in steps.into_iter().take(MAX_STEPS).enumerate() {
            stored.extend(self.checked(principal, index, step, &mut findings).await?);
        }
        RegistryError::unless_valid(findings)?;
        self.write_pipeline(principal, found, to_column(&stored), None).await
    }

    /// Sets the steps of a target to those that it had under a number.
    pub(crate) async fn roll_back_pipeline(
        &self,
        principal: &Principal,
        action: Action,
        target: Target<'_>,
        number: i64,
    ) -> Result<PipelineDetails, RegistryError> {
        let found = self.target(principal, action, target).await?;
        if number < 1 {
            return Err(RegistryError::invalid(vec![Finding::field("number", format!("at least 1, given {number}"))]));
        }
        let row = pipelines::numbered(&self.db, &found.tenant, &found.column, number).await?;
        let not_found = || RegistryError::NotFound { what: "pipeline", name: format!("{} {number}", found.target) };
        let row = row.ok_or_else(not_found)?;
        self.write_pipeline(principal, found, row.steps, Some(number)).await
    }

    async fn write_pipeline(
        &self,
        principal: &Principal,
        found: Found,
        steps: String,
        restored: Option<i64>,
    ) -> Result<PipelineDetails, RegistryError> {
        let Found { tenant, column, at, target } = found;
        let transaction = begin_write_of(&self.db, &tenant).await?;
        tenants::lock(&transaction, &tenant).await?;
        let before = pipelines::current(&transaction, &tenant, [column.clone()]).await?.pop();
        let is_as_before = before.as_ref().map_or(steps == "[]", |before| before.steps == steps);
        if is_as_before {
            transaction.rollback().await?;
            return self.details(&tenant, at.to_owned(), target, before).await;
        }
        if before.is_none() {
            let given = pipelines::count_of(&transaction, &tenant).await?;
            RegistryError::unless_fewer(given, self.config.settings.hooks.max_pipelines_per_tenant, |given, limit| {
                let (of, setting) = ("the tenant".to_owned(), "registry.hooks.max_pipelines_per_tenant");
                let remedy = "attach hooks at the tenant instead of at each of its keys";
                RegistryError::TooMany { what: "pipelines", of, setting, limit, given, remedy }
            })?;
        }
        let row = PipelineRow {
            tenant_id: tenant.to_string(),
            target: column.clone(),
            number: before.map_or(0, |before| before.number) + 1,
            is_current: 1,
            steps,
            restored,
            made_by: principal.key.to_string(),
            made_at_ms: now_ms(),
        };
        pipelines::put(&transaction, row.clone(), KEPT).await?;
        let versions: Vec<_> = from_column(&row.steps)?.into_iter().map(|step| step.version_id).collect();
        let details = json!({ "number": row.number, "hook_versions": versions, "restored": restored });
        let act = Act { tenant_id: tenant.as_str(), action: "pipeline.set", subject: &column, details };
        audit::append(&transaction, Actor::of(principal), act).await?;
        transaction.commit().await?;
        tracing::info!(tenant.id = %tenant, target = column, number = row.number, by.key = %principal.key, "Set a pipeline");
        self.details(&tenant, at.to_owned(), target, Some(row)).await
    }

    async fn details(
        &self,
        tenant: &TenantId,
        at: String,
        target: String,
        row: Option<PipelineRow>,
    ) -> Result<PipelineDetails, RegistryError> {
        let stored = row.as_ref().map(|row| from_column(&row.steps)).transpose()?.unwrap_or_default();
        let known = Known::of(&self.db, tenant, stored.iter()).await?;
        let steps = stored.into_iter().filter_map(|step| {
            let (standing, digest) = (known.standing(&step), known.step(&step)?.digest);
            Some((step, standing, digest))
        });
        Ok(PipelineDetails { at, target, row, steps: steps.collect() })
    }

    /// `owner/name@version` of a version of an adapter; its id if that is gone.
    async fn version_name(&self, id: &str) -> Result<String, RegistryError> {
        let Some(version) = versions::by_ids(&self.db, [id]).await?.pop() else { return Ok(id.to_owned()) };
        let adapter = adapters::by_ids(&self.db, [version.adapter_id.as_str()]).await?.pop();
        Ok(adapter.map_or_else(|| id.to_owned(), |row| format!("{}@{}", row.full_name(), version.version)))
    }

    /// The target, if it is the caller's to look at or to change.
    async fn target(&self, principal: &Principal, action: Action, target: Target<'_>) -> Result<Found, RegistryError> {
        let (at, id) = match target {
            Target::Version(owner, name, number) => {
                let adapter = self.adapter_for(principal, action, owner, name).await?;
                let version = existing_version(&self.db, &adapter, number).await?;
                let target = format!("{}@{}", adapter.full_name(), version.version);
                let column = format!("version/{}", version.id);
                return Ok(Found { tenant: adapter.tenant(), column, at: "version", target });
            }
            Target::Of(at, id) => (at, id),
        };
        require(principal, action)?;
        let tenant = principal.tenant.clone();
        let found = |column: String, at: &'static str| Found { tenant, column, at, target: id.to_owned() };
        match at {
            "tenant" if id == principal.tenant_name => Ok(found("tenant".to_owned(), "tenant")),
            "route" => match route_of(id) {
                Some(route) => Ok(found(format!("route/{}", route.as_str()), "route")),
                None => Err(target_not_found(at, id)),
            },
            "key" => match api_keys::get(&self.db, id).await? {
                Some(key) if key.tenant_id == principal.tenant.as_str() => Ok(found(format!("key/{id}"), "key")),
                _ => Err(target_not_found(at, id)),
            },
            _ => Err(target_not_found(at, id)),
        }
    }

    /// A step that may be attached, pinned. What is wrong with its fields is added to `findings`.
    async fn checked(
        &self,
        principal: &Principal,
        index: usize,
        step: NewStep,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<StoredStep>, RegistryError> {
        let place = |field: &str| format!("steps[{index}].{field}");
        let reference: HookRef = match step.hook.parse() {
            Ok(reference) => reference,
            Err(error) => {
                findings.push(Finding::field(place("hook"), format!("{error}")));
                return Ok(None);
            }
        };
        if !step.share.is_valid() {
            let Share { from, below } = step.share;
            let message = format!("from 0 to less than `below`, which is at most 100; given {from} and {below}");
            findings.push(Finding::field(place("share"), message));
        }
        let (owner, name) = (reference.name.owner(), reference.name.name());
        let hook = hooks::seen_by(&self.db, &principal.tenant, owner, name).await?;
        let hook = hook.ok_or_else(|| hook_not_found(owner, name))?;
        let version = self.hook_version_named(&hook.id, &reference).await?;
        let not_found = || RegistryError::NotFound { what: "hook version", name: reference.to_string() };
        let version = version.ok_or_else(not_found)?;
        if version.state() == VersionState::TakenDown {
            return Err(RegistryError::TakenDown(reference.to_string()));
        }
        let config = step.config.unwrap_or_else(|| json!({}));
        findings.extend(check_config(&version, &config, &place("config")));
        Ok(Some(StoredStep {
            hook: reference.name,
            hook_id: hook.id,
            version: version.number(),
            version_id: version.id,
            config,
            on_failure: step.on_failure,
            share: step.share,
        }))
    }

    async fn hook_version_named(
        &self,
        hook_id: &str,
        reference: &HookRef,
    ) -> Result<Option<HookVersionRow>, RegistryError> {
        use souk_protocol::hooks::HookSelector::{Digest, Latest, Version as Numbered};
        let rows = hook_versions::of_hook(&self.db, hook_id).await?.into_iter();
        let is_ready = |row: &HookVersionRow| row.state() == VersionState::Ready;
        let number = |row: &HookVersionRow| (row.state() != VersionState::TakenDown, row.number());
        Ok(match &reference.selector {
            Latest => {
                rows.filter(|row| is_ready(row) && row.number().pre.is_empty()).max_by_key(HookVersionRow::number)
            }
            Numbered(asked) => rows.filter(|row| row.version == asked.to_string()).max_by_key(number),
            Digest(digest) => rows.filter(|row| row.digest == digest.to_string()).max_by_key(number),
        })
    }
}

/// Everything that is wrong with a configuration.
fn check_config(version: &HookVersionRow, config: &Value, place: &str) -> Vec<Finding> {
    let given = config.to_string().len();
    if given > MAX_CONFIG_BYTES {
        return vec![Finding::field(place, format!("at most {MAX_CONFIG_BYTES} bytes, given {given}"))];
    }
    if !config.is_object() {
        return vec![Finding::field(place, "an object")];
    }
    let report = version.report.as_deref().and_then(|report| serde_json::from_str::<HookReport>(report).ok());
    let schema = report.and_then(|report| report.description?.config_schema);
    schema.map(|schema| config_schema::check(&schema, config, place)).unwrap_or_default()
}

/// The word for a route in paths.
const fn route_name(route: HookRoute) -> &'static str {
    match route {
        HookRoute::Chat => "chat",
        HookRoute::Completions => "completions",
    }
}

fn route_of(word: &str) -> Option<HookRoute> {
    HookRoute::ALL.into_iter().find(|route| route_name(*route) == word)
}

fn target_not_found(at: &str, id: &str) -> RegistryError {
    let shown = |text: &str| text.chars().take(80).collect::<String>();
    RegistryError::NotFound { what: "target of pipelines", name: format!("{}/{}", shown(at), shown(id)) }
}
