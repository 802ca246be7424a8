//! The hooks that this gateway can call: had from where they are kept, compiled where nobody has for this engine, and forgotten when
//! they are taken down.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use souk_plugins::{CallContext, Compiler, Hook, HookSettings, Host, Limits, LoadError, Tier};
use souk_protocol::hooks::{HookLimit, HookLimits, Standing, Step};
use souk_protocol::{Digest, TenantId};

use super::acting::Occasion;
use super::books::{Books, TAKEN_DOWN, Whose};
use super::failure::{HookFailure, Want};
use super::lines::Lines;
use super::source::{HookSource, HookSourceError};

/// What comes with a step from whoever attached it.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) variables: &'a Arc<BTreeMap<String, String>>,
    pub(crate) limits: &'a HookLimits,
}

/// What a gateway calls hooks with.
pub struct HooksParts {
    /// Runs them.
    pub host: Arc<Host>,
    /// Compiles those that nobody has compiled for this engine.
    pub compiler: Arc<Compiler>,
    /// Where they are kept.
    pub source: Arc<dyn HookSource>,
    /// What they may take.
    pub settings: HookSettings,
}

/// The hooks of a gateway, or none. Clones are the same.
#[derive(Clone, Default)]
pub struct Hooks(Option<Arc<Shelf>>);

struct Shelf {
    host: Arc<Host>,
    compiler: Arc<Compiler>,
    source: Arc<dyn HookSource>,
    settings: HookSettings,
    lines: Arc<Lines>,
}

impl Hooks {
    /// Hooks that can be called. Call it within a tokio runtime.
    #[must_use]
    pub fn new(parts: HooksParts) -> Self {
        let HooksParts { host, compiler, source, settings } = parts;
        let lines = Arc::new(Lines::new(Arc::clone(&source)));
        Self(Some(Arc::new(Shelf { host, compiler, source, settings, lines })))
    }

    /// A gateway that calls none: where one is attached, it fails.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Lets go of a hook that was taken down.
    pub(crate) fn forget(&self, digest: &Digest) {
        if let Some(shelf) = &self.0 {
            shelf.host.forget(digest);
        }
    }

    /// Sets the gauges of what is running now.
    pub(crate) fn tell(&self) {
        if let Some(shelf) = &self.0 {
            shelf.host.tell();
        }
    }

    /// The books on a step in a request.
    pub(crate) fn books(&self, step: Step, whose: Whose, may_say: bool, occasion: &Occasion) -> Books {
        Books {
            step,
            whose,
            tally: Arc::clone(&occasion.tally),
            lines: self.0.as_ref().map(|shelf| Arc::clone(&shelf.lines)),
            may_say,
            request: occasion.request.clone(),
            caller: occasion.caller.tenant.clone(),
        }
    }

    /// A step's hook, and what it has around it in a request.
    ///
    /// # Errors
    /// Why it cannot be called.
    pub(crate) async fn enter(
        &self,
        step: &Step,
        may_say: bool,
        given: Given<'_>,
        occasion: &Occasion,
    ) -> Result<(Arc<Hook>, CallContext), HookFailure> {
        match step.standing {
            Standing::Callable => {}
            Standing::NotGranted => {
                let reason = "its owner does not let the tenant use it any more";
                return Err(HookFailure::new("not_granted", reason));
            }
            Standing::TakenDown => return Err(HookFailure::new("taken_down", TAKEN_DOWN)),
        }
        let Some(shelf) = &self.0 else {
            return Err(HookFailure::new("no_host", "this gateway calls no hooks"));
        };
        let hook = shelf.load(&step.digest, &occasion.caller.tenant).await?;
        let context = CallContext {
            tenant: occasion.caller.tenant.clone(),
            weight: occasion.caller.weight,
            limits: shelf.limits(given.limits, &occasion.caller_limits),
            may_log: may_say,
            config: Arc::clone(&step.config),
            variables: Arc::clone(given.variables),
            clock_s: occasion.clock_s,
            seed: occasion.seed,
            tokens: Arc::clone(&occasion.tokens) as _,
        };
        Ok((hook, context))
    }
}

impl Shelf {
    /// What a hook may take: of what was said for whoever attached it and of the ceiling here the least. How many run at once goes
    /// by who calls.
    fn limits(&self, said: &HookLimits, of_caller: &HookLimits) -> Limits {
        let HookSettings { limits, ceiling, .. } = &self.settings;
        if said.is_empty() && of_caller.is_empty() {
            return *limits;
        }
        let mut said = said.clone();
        for at_once in [HookLimit::MaxRunning, HookLimit::MaxStreams] {
            said.set(at_once, of_caller.get(at_once));
        }
        limits.of_tenant(&said, ceiling)
    }

    async fn load(&self, digest: &Digest, tenant: &TenantId) -> Result<Arc<Hook>, HookFailure> {
        if let Some(hook) = self.host.resident(digest) {
            return Ok(hook);
        }
        Box::pin(self.host.load(digest, self.sealed(digest, tenant))).await.map_err(|error| match error {
            LoadError::NotToBeHad(reason) => HookFailure::new("not_to_be_had", reason),
            LoadError::Internal => {
                HookFailure { want: Some(Want::Room), ..HookFailure::new("internal", "it cannot be had at the moment") }
            }
            error => {
                let detail = Some(error.to_string());
                HookFailure { detail, ..HookFailure::new("cannot_start", "it does not fit to what is offered here") }
            }
        })
    }

    /// The component for this engine, as somebody has compiled it or as the process apart does now.
    async fn sealed(&self, digest: &Digest, tenant: &TenantId) -> Result<Bytes, LoadError> {
        let not_to_be_had = |error: HookSourceError| match error {
            HookSourceError::NotFound => LoadError::NotToBeHad(error.to_string()),
            HookSourceError::Unavailable(cause) => {
                tracing::error!(%cause, hook.digest = %digest, "a hook cannot be fetched");
                LoadError::Internal
            }
        };
        let engine = self.host.engine_hash().to_string();
        let found = self.source.artifact(digest, &engine).await.map_err(not_to_be_had)?;
        if let Some(sealed) = found {
            match self.host.check_sealed(digest, &sealed) {
                Ok(()) => return Ok(sealed),
                Err(error) => tracing::warn!(%error, hook.digest = %digest, "a compiled hook is compiled again"),
            }
        }
        let component = self.source.component(digest).await.map_err(not_to_be_had)?;
        let is_large = component.len() > self.settings.component_bytes(Tier::Usual);
        let tier = if is_large { Tier::Large } else { Tier::Usual };
        let compiled = self.compiler.compile(tenant, tier, &component).await;
        compiled.map_err(|error| match error.is_of_component() {
            true => LoadError::NotToBeHad(error.to_string()),
            false => {
                tracing::error!(%error, hook.digest = %digest, "a hook cannot be compiled");
                LoadError::Internal
            }
        })
    }
}
