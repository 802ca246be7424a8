//! The gateway itself: what all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use souk_http::Exporter;
use souk_http::cors::CorsOrigins;
use souk_protocol::{AdapterRef, BaseModel, Digest, GatewayId, ModelRef, Principal, ResolvedAdapter};
use souk_queue::{EventHub, JobQueue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use crate::catalog::Catalog;
use crate::error::ApiError;
use crate::limits::GatewayLimits;
use crate::outcomes::Outcomes;
use crate::request::WeightedAdapter;
use crate::served::{BaseError, ServedBase};
use crate::version_templates::{VersionTemplate, VersionTemplates};

/// What a gateway is built from.
pub struct GatewayParts {
    /// The base models that it serves; the first is meant where a request names none.
    pub bases: Vec<BaseModel>,
    /// Who may call what.
    pub catalog: Arc<dyn Catalog>,
    /// Where jobs go.
    pub queue: Arc<dyn JobQueue>,
    /// Where their events come from.
    pub hub: EventHub,
    /// Renders `/metrics`.
    pub metrics: Exporter,
    /// Which pages of other origins may call the routes that take a key.
    pub cors: CorsOrigins,
    /// What requests may use.
    pub limits: GatewayLimits,
}

/// A handle on a running gateway; clones share it.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

struct Shared {
    id: GatewayId,
    bases: Vec<Arc<ServedBase>>,
    catalog: Arc<dyn Catalog>,
    queue: Arc<dyn JobQueue>,
    hub: EventHub,
    outcomes: Outcomes,
    version_templates: VersionTemplates,
    metrics: Exporter,
    cors: CorsOrigins,
    limits: GatewayLimits,
    /// One permit per request under way.
    in_flight: Arc<Semaphore>,
    draining: AtomicBool,
    started_unix_s: u64,
    /// One per pool; they end with the gateway.
    _carriers: Vec<AbortOnDropHandle<()>>,
}

/// What the `model` of a request means.
#[derive(Clone)]
pub(crate) struct ResolvedModel {
    pub(crate) base: Arc<ServedBase>,
    /// Adapters with their weights, in order of application; none for the base model.
    pub(crate) adapters: Vec<(ResolvedAdapter, f32)>,
}

impl Gateway {
    /// Builds a gateway and starts to read the queue's outcomes. Call it within a tokio runtime.
    ///
    /// # Errors
    /// [`BaseError`] if a base model's tokenizer or template is not supported.
    pub fn new(parts: GatewayParts) -> Result<Self, BaseError> {
        let bases = parts.bases.iter().map(|base| Ok(Arc::new(ServedBase::new(base, &parts.limits)?)));
        let bases = bases.collect::<Result<Vec<_>, BaseError>>()?;
        if bases.is_empty() {
            return Err(BaseError::NoBase);
        }
        let (id, outcomes) = (GatewayId::new(), Outcomes::default());
        let carry = |base: &Arc<ServedBase>| {
            let carrier = outcomes.clone().carry(Arc::clone(&parts.queue), base.pool(), id.clone());
            AbortOnDropHandle::new(tokio::spawn(carrier))
        };
        let carriers = bases.iter().map(carry).collect();
        let shared = Shared {
            id,
            bases,
            catalog: parts.catalog,
            queue: parts.queue,
            hub: parts.hub,
            outcomes,
            version_templates: VersionTemplates::default(),
            metrics: parts.metrics,
            cors: parts.cors,
            in_flight: Arc::new(Semaphore::new(parts.limits.max_in_flight)),
            limits: parts.limits,
            draining: AtomicBool::new(false),
            started_unix_s: unix_now().as_secs(),
            _carriers: carriers,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Refuses new requests from now on and returns when the last running one has ended, streams included. Limit the
    /// wait with a timeout: a client that reads slowly may take long.
    pub async fn drain(&self) {
        self.shared.draining.store(true, Ordering::Release);
        let all = u32::try_from(self.limits().max_in_flight).unwrap_or(u32::MAX);
        // Fails only if the semaphore is closed, which nothing does.
        let _ = self.shared.in_flight.acquire_many(all).await;
    }

    /// Whether [`drain`](Self::drain) was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Acquire)
    }

    /// Lets a request in. The permit lives as long as its answer.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if self.is_draining() {
            return Err(ApiError::Draining);
        }
        Arc::clone(&self.shared.in_flight).try_acquire_owned().map_err(|_| ApiError::Overloaded {
            what: format!("{} requests are under way, which is the limit", self.limits().max_in_flight),
            retry_after: Duration::from_secs(1),
        })
    }

    /// What `model` means for this caller now. Nothing is queued that has not been through here.
    pub(crate) async fn resolve(&self, principal: &Principal, model: &str) -> Result<ResolvedModel, ApiError> {
        let not_found = || ApiError::ModelNotFound(model.chars().take(200).collect());
        match model.parse::<ModelRef>().map_err(|_| not_found())? {
            ModelRef::Base(id) => {
                let base = self.shared.bases.iter().find(|base| base.id == id).ok_or_else(not_found)?;
                Ok(ResolvedModel { base: Arc::clone(base), adapters: Vec::new() })
            }
            ModelRef::Adapter(reference) => {
                let adapter = self.shared.catalog.resolve(principal, &reference).await?;
                let base = self.base_with(&adapter.base).ok_or_else(|| ApiError::BaseNotServed(model.to_owned()))?;
                Ok(ResolvedModel { base, adapters: vec![(adapter, 1.0)] })
            }
        }
    }

    /// What `model` and `adapters` mean together for this caller now.
    pub(crate) async fn resolve_weighted(
        &self,
        principal: &Principal,
        model: &str,
        adapters: &[WeightedAdapter],
    ) -> Result<ResolvedModel, ApiError> {
        let mut resolved = self.resolve(principal, model).await?;
        if !adapters.is_empty() && !resolved.adapters.is_empty() {
            let message = format!("'adapters' takes a base model in 'model'; given '{model}'.");
            return Err(ApiError::invalid("adapters", message));
        }
        for (index, weighted) in adapters.iter().enumerate() {
            let path = format!("adapters[{index}].id");
            let reference = weighted.id.parse::<AdapterRef>();
            let reference = reference.map_err(|error| ApiError::invalid(&path, format!("'{path}': {error}.")))?;
            let adapter = self.shared.catalog.resolve(principal, &reference).await?;
            if adapter.base != resolved.base.digest {
                let message = format!("'{path}' is an adapter of another base model than '{model}'.");
                return Err(ApiError::invalid(&path, message));
            }
            if resolved.adapters.iter().any(|(other, _)| other.digest == adapter.digest) {
                return Err(ApiError::invalid(
                    &path,
                    format!("'{path}' names an adapter that is in the list already."),
                ));
            }
            resolved.adapters.push((adapter, weighted.weight));
        }
        Ok(resolved)
    }

    /// The chat template that the adapters of `model` bring along.
    pub(crate) async fn version_template(
        &self,
        model: &ResolvedModel,
    ) -> Result<Option<Arc<VersionTemplate>>, ApiError> {
        self.shared.version_templates.of(&model.adapters, &model.base, self.catalog()).await
    }

    fn base_with(&self, digest: &Digest) -> Option<Arc<ServedBase>> {
        self.shared.bases.iter().find(|base| base.digest == *digest).cloned()
    }

    /// The base models served, the default first.
    #[must_use]
    pub fn bases(&self) -> &[Arc<ServedBase>] {
        &self.shared.bases
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &GatewayLimits {
        &self.shared.limits
    }

    pub(crate) fn id(&self) -> &GatewayId {
        &self.shared.id
    }

    pub(crate) fn catalog(&self) -> &dyn Catalog {
        self.shared.catalog.as_ref()
    }

    pub(crate) fn queue(&self) -> &Arc<dyn JobQueue> {
        &self.shared.queue
    }

    pub(crate) fn hub(&self) -> &EventHub {
        &self.shared.hub
    }

    pub(crate) fn outcomes(&self) -> &Outcomes {
        &self.shared.outcomes
    }

    pub(crate) fn metrics(&self) -> &Exporter {
        &self.shared.metrics
    }

    pub(crate) fn cors(&self) -> &CorsOrigins {
        &self.shared.cors
    }

    /// When this gateway started; the `created` of base models, which have no date of their own.
    pub(crate) fn started_unix_s(&self) -> u64 {
        self.shared.started_unix_s
    }
}

/// Time since the Unix epoch.
pub(crate) fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
