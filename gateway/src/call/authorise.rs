//! What a caller's `model` and `adapters` mean, for this caller and now. Nothing is queued that has not been through
//! here.

use std::sync::Arc;

use souk_protocol::hooks::Attached;
use souk_protocol::{AdapterRef, JobFailure, ModelRef, Principal, ResolvedAdapter};
use tokio::time::Instant;

use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::request::WeightedAdapter;
use crate::served::ServedBase;
use crate::version_template::VersionTemplate;

/// What the `model` of a request means.
#[derive(Clone)]
pub(crate) struct CalledModel {
    pub(crate) base: Arc<ServedBase>,
    /// Adapters with their weights, in order of application; none for the base model.
    pub(crate) adapters: Vec<(ResolvedAdapter, f32)>,
    /// A moment before the registry was asked.
    pub(crate) asked_at: Instant,
}

impl CalledModel {
    /// The chat template that the model's adapters bring along, if it is not the base's.
    pub(crate) async fn template(&self, gateway: &Gateway) -> Result<Option<Arc<VersionTemplate>>, ApiError> {
        gateway.version_templates().of(&self.adapters, &self.base, gateway.catalog()).await
    }

    /// What the publisher of its adapter attached to it; of several together nobody's.
    pub(crate) fn hooks(&self) -> Option<&Arc<Attached>> {
        match self.adapters.as_slice() {
            [(adapter, _)] => adapter.hooks.as_ref(),
            _ => None,
        }
    }

    /// A base model alone, which nobody is asked about.
    pub(crate) fn of_base(base: &Arc<ServedBase>) -> Self {
        Self { base: Arc::clone(base), adapters: Vec::new(), asked_at: Instant::now() }
    }

    /// What `model` alone means.
    pub(crate) async fn of(gateway: &Gateway, caller: &Principal, model: &str) -> Result<Self, ApiError> {
        let asked_at = Instant::now();
        let not_found = || ApiError::ModelNotFound(model.chars().take(200).collect());
        match model.parse::<ModelRef>().map_err(|_| not_found())? {
            ModelRef::Base(id) => {
                if caller.models.as_ref().is_some_and(|allowed| !allowed.allow_base(&id)) {
                    return Err(not_allowed(model));
                }
                let base = gateway.bases().iter().find(|base| base.id == id).ok_or_else(not_found)?;
                Ok(Self::of_base(base))
            }
            ModelRef::Adapter(reference) => {
                let adapter = resolve(gateway, caller, &reference).await?;
                let base = gateway.base_with(&adapter.base).ok_or_else(|| ApiError::BaseNotServed(model.to_owned()))?;
                Ok(Self { base, adapters: vec![(adapter, 1.0)], asked_at })
            }
        }
    }

    /// What `model` and `adapters` mean together.
    pub(crate) async fn with_adapters(
        gateway: &Gateway,
        caller: &Principal,
        model: &str,
        adapters: &[WeightedAdapter],
    ) -> Result<Self, ApiError> {
        let mut called = Self::of(gateway, caller, model).await?;
        if !adapters.is_empty() && !called.adapters.is_empty() {
            let message = format!("'adapters' takes a base model in 'model'; given '{model}'.");
            return Err(ApiError::invalid("adapters", message));
        }
        for (index, weighted) in adapters.iter().enumerate() {
            let path = format!("adapters[{index}].id");
            let reference = weighted.id.parse::<AdapterRef>();
            let reference = reference.map_err(|error| ApiError::invalid(&path, format!("'{path}': {error}.")))?;
            let adapter = resolve(gateway, caller, &reference).await?;
            if adapter.base != called.base.digest {
                let message = format!("'{path}' is an adapter of another base model than '{model}'.");
                return Err(ApiError::invalid(&path, message));
            }
            if called.adapters.iter().any(|(other, _)| other.digest == adapter.digest) {
                let message = format!("'{path}' names an adapter that is in the list already.");
                return Err(ApiError::invalid(&path, message));
            }
            called.adapters.push((adapter, weighted.weight));
        }
        called.check_ranks()?;
        Ok(called)
    }

    /// Refuses adapters that some node of the pool does not take, since any of them may get the job. Nodes take the same ranks, unless
    /// they are of two versions.
    fn check_ranks(&self) -> Result<(), ApiError> {
        let Some(limit) = self.base.max_rank() else { return Ok(()) };
        match self.adapters.iter().filter_map(|(adapter, _)| adapter.rank).max() {
            Some(rank) if rank > limit => Err(ApiError::Job(JobFailure::TooLarge {
                unit: "ranks in an adapter".to_owned(),
                needed: u64::from(rank),
                available: u64::from(limit),
            })),
            _ => Ok(()),
        }
    }

    /// The adapter as the caller named it, if there is one and no other.
    pub(crate) fn only_adapter(&self, model: &str, adapters: &[WeightedAdapter]) -> Option<String> {
        match (self.adapters.len(), adapters) {
            (1, []) => Some(model.to_owned()),
            (1, [only]) => Some(only.id.clone()),
            _ => None,
        }
    }
}

/// What a reference means for this caller, if its key may call it. A name that is not on the key's list is not looked up:
/// the answer is the same whether or not there is such an adapter.
async fn resolve(gateway: &Gateway, caller: &Principal, reference: &AdapterRef) -> Result<ResolvedAdapter, ApiError> {
    let allowed = caller.models.as_ref();
    if allowed.is_some_and(|allowed| !allowed.may_allow(&reference.name)) {
        return Err(not_allowed(&reference.to_string()));
    }
    let adapter = gateway.catalog().resolve(caller, reference).await?;
    if allowed.is_some_and(|allowed| !allowed.allow(reference, &adapter.version, &adapter.digest)) {
        return Err(not_allowed(&reference.to_string()));
    }
    Ok(adapter)
}

fn not_allowed(model: &str) -> ApiError {
    ApiError::ModelNotAllowed(model.chars().take(200).collect())
}
