//! What looks at hooks that are published: the check of their bytes, the compiler, and a host that tries them.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use souk_plugins::intake::{self, Bounds};
use souk_plugins::{CallContext, CompileError, CountTokens, HookSettings, Host, Limits, LoadError, Offered, Tier};
use souk_protocol::gate::Weight;
use souk_protocol::hooks::{HookLimit, HookLimits};
use souk_protocol::{Digest, TenantId, wall_clock};
use souk_registry::{
    Finding, HookDescription, HookIntake, HookReport, HookTerms, JudgedHook, NotJudged, OfferedLimit, SealedHook,
    SelfTest,
};

/// Compiles a component of a tenant and seals what comes of it.
pub(crate) type Compile =
    Box<dyn Fn(TenantId, Tier, Bytes) -> BoxFuture<'static, Result<Bytes, CompileError>> + Send + Sync>;

/// Looks at hooks.
pub(crate) struct Intake {
    host: Arc<Host>,
    settings: HookSettings,
    compile: Compile,
}

impl Intake {
    pub(crate) fn new(host: Arc<Host>, settings: HookSettings, compile: Compile) -> Self {
        Self { host, settings, compile }
    }

    /// Makes the hook once and asks it what it is.
    async fn tried(
        &self,
        context: &CallContext,
        digest: &Digest,
        sealed: Bytes,
    ) -> Result<(Option<HookDescription>, SelfTest), NotJudged> {
        let loaded = self.host.load(digest, async { Ok::<_, LoadError>(sealed) }).await;
        let hook = loaded.map_err(|error| match error {
            LoadError::DoesNotFit(_) => rejected("does_not_fit", error.to_string()),
            LoadError::Artifact(_) | LoadError::NotToBeHad(_) | LoadError::Internal => unavailable(error),
        })?;
        let tried = hook.describe(context).await;
        let (description, measured) = tried.map_err(|error| {
            if error.kind.is_of_host() {
                return unavailable(std::io::Error::other(error.kind.message()));
            }
            let detail = error.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
            rejected(error.code(), format!("asked what it is, {}{detail}", error.kind.message()))
        })?;
        let self_test =
            SelfTest { fuel: measured.fuel, peak_memory_bytes: measured.peak_memory_bytes, ..SelfTest::default() };
        let Some(said) = description else { return Ok((None, self_test)) };
        let config_schema = said.config_schema.as_deref().map(|text| {
            let wrong =
                |error| rejected("config_schema", format!("the schema of its configuration is not JSON: {error}"));
            serde_json::from_str(text).map_err(wrong)
        });
        let (name, version, summary) = (said.name, said.version, said.summary);
        let config_schema = config_schema.transpose()?;
        Ok((Some(HookDescription { name, version, summary, config_schema }), self_test))
    }

    /// What hooks of a tenant may take here.
    fn limits(&self, said: &HookLimits) -> Limits {
        self.settings.limits.of_tenant(said, &self.settings.ceiling)
    }

    fn context(tenant: &TenantId, limits: Limits) -> CallContext {
        CallContext {
            tenant: tenant.clone(),
            weight: Weight::nearest(1),
            limits,
            may_log: true,
            config: "{}".into(),
            variables: Arc::default(),
            clock_s: wall_clock::since_epoch().as_secs(),
            seed: 0,
            tokens: Arc::new(NoTokens),
        }
    }
}

#[async_trait]
impl HookIntake for Intake {
    async fn judge(&self, tenant: &TenantId, component: Bytes, terms: &HookTerms) -> Result<JudgedHook, NotJudged> {
        let (tier, limits) = (tier(terms.is_large), self.limits(&terms.limits));
        let bounds = Bounds::new(&self.settings, tier, &limits);
        let (looked_at, bytes) = (bounds, component.clone());
        // Off the async threads: some milliseconds for each megabyte.
        let looking = tokio::task::spawn_blocking(move || intake::check(&bytes, &looked_at));
        let report = looking.await.map_err(unavailable)?;
        let report = report.map_err(|error| rejected(error.code(), error.to_string()))?;
        let began = Instant::now();
        let sealed = (self.compile)(tenant.clone(), tier, component).await.map_err(|error| match error {
            error if error.is_of_component() => rejected(error.code(), error.to_string()),
            error => unavailable(error),
        })?;
        let took = began.elapsed();
        let (description, self_test) =
            self.tried(&Self::context(tenant, limits), &report.digest, sealed.clone()).await?;
        let self_test = SelfTest {
            compiled_in_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            compiled_bytes: sealed.len() as u64,
            ..self_test
        };
        let report = HookReport {
            size_bytes: report.size_bytes,
            interface: report.generation,
            exports: report.exports.into_iter().map(|export| export.as_str().to_owned()).collect(),
            imports: report.imports.into_iter().collect(),
            description,
            self_test,
        };
        let artifact = SealedHook { engine: self.host.engine_hash().to_string(), bytes: sealed };
        Ok(JudgedHook { report, artifact })
    }

    fn most_bytes(&self, is_large: bool) -> u64 {
        self.settings.component_bytes(tier(is_large)) as u64
    }

    fn offered(&self, limit: HookLimit) -> OfferedLimit {
        let Offered { least, usual, most } = self.settings.offered(limit);
        OfferedLimit { least, usual, most }
    }
}

/// Where nothing was asked of a model.
struct NoTokens;

impl CountTokens for NoTokens {
    fn count(&self, _text: &str) -> u32 {
        0
    }
}

fn tier(is_large: bool) -> Tier {
    if is_large { Tier::Large } else { Tier::Usual }
}

fn rejected(code: &str, message: String) -> NotJudged {
    NotJudged::Rejected(vec![Finding { code: code.to_owned(), subject: "component".to_owned(), message }])
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> NotJudged {
    NotJudged::Unavailable(std::io::Error::other(error))
}
