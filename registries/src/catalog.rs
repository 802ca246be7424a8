//! Who calls and what they may call, asked of registries over HTTP.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt as _;
use sha2::{Digest as _, Sha256};
use souk_gateway::{AuthError, Catalog, ModelEntry, ModelPage};
use souk_http::token::is_token;
use souk_protocol::internal::{
    Authenticate, Authenticated, Caller, GetLimits, GetModel, ListModels, Model, Models, Resolve, Resolved, Template,
    TemplateFound,
};
use souk_protocol::{
    AdapterName, AdapterRef, KeyId, LimitTree, Principal, ResolveError, ResolvedAdapter, ServiceKind, TenantId,
};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::hearing::{Heard, Withdrawn, listen};
use crate::metrics;
use crate::registries::{ANSWER_TIME, Answered, AskError, Registries};
use crate::rights::{Holder, Rights};
use crate::settings::{Settings, SettingsError};
use crate::token_keys::{Doubt, TokenKeys};

/// How long a registry has for a list: tenants stand in line for it there.
const LIST_TIME: Duration = Duration::from_secs(10);
/// How long for a template, which may come from a bucket.
const TEMPLATE_TIME: Duration = Duration::from_secs(5);
/// A stream that is lost and found again at the next registry is no loss.
const SHORTEST_LOSS: Duration = Duration::from_secs(2);
/// Withdrawals that may be behind. Each is known to this catalog before it is handed on.
const WITHDRAWALS_BEHIND: usize = 1024;

/// Why who calls counts for no node. Fit to be told to who calls.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotANode {
    /// It is no token, or its time is over.
    #[error("the token is not valid, or has expired")]
    Invalid,
    /// It is signed with a key that is not known here, while no registry can be asked.
    #[error("the token is signed with a key that this gateway does not know")]
    Unknown,
    /// Its key was revoked.
    #[error("the key of the token was revoked")]
    Revoked,
    /// It is another service's.
    #[error("the token is a {0}'s, and a node's is needed; `souk services create NAME --kind node` makes a node's key")]
    Another(String),
}

/// A [`Catalog`] whose registries are elsewhere.
///
/// What a key is and what a name means is asked for, kept for [`FRESH`](crate::rights) and then asked for again. A
/// token is verified here, as long as revocations are heard; otherwise it is asked for like a key. Whatever is heard to be
/// withdrawn is refused from that moment on, however it is known.
pub struct HttpCatalog {
    registries: Registries,
    heard: Arc<Heard>,
    token_keys: TokenKeys,
    id_of_key: fn(&str) -> Option<KeyId>,
    stale: Duration,
    /// Callers by a hash of what they present: no secret is kept.
    callers: Rights<[u8; 32], Authenticated>,
    /// Of another value in each process, so that nobody knows what hashes alike.
    salt: [u8; 32],
    /// Versions by who asks, with which key, and what they wrote.
    adapters: Rights<(TenantId, KeyId, AdapterRef), Resolved>,
    /// What binds whom; `None` for whoever is gone.
    limits: Rights<(TenantId, KeyId), Option<Arc<LimitTree>>>,
    _listening: AbortOnDropHandle<()>,
}

impl HttpCatalog {
    /// Begins to listen to the registries; none needs to be there yet. Answers what running answers have to end for, too.
    /// Call it within a tokio runtime.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn new(settings: &Settings) -> Result<(Self, mpsc::Receiver<Withdrawn>), SettingsError> {
        let registries = Registries::new(settings)?;
        let heard = Arc::new(Heard::new());
        let (told, withdrawn) = mpsc::channel(WITHDRAWALS_BEHIND);
        let listening = tokio::spawn(listen(registries.clone(), Arc::clone(&heard), told));
        let catalog = Self {
            registries,
            heard,
            token_keys: TokenKeys::new(),
            id_of_key: settings.id_of_key,
            stale: settings.stale,
            callers: Rights::new(settings.stale),
            salt: rand::rng().random(),
            adapters: Rights::new(settings.stale),
            limits: Rights::new(settings.stale),
            _listening: AbortOnDropHandle::new(listening),
        };
        Ok((catalog, withdrawn))
    }

    /// The registries that it asks.
    #[must_use]
    pub const fn registries(&self) -> &Registries {
        &self.registries
    }

    /// What a name of the operator's settings means now, whoever may see it.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn resolve_for_operator(&self, reference: &AdapterRef) -> Result<ResolvedAdapter, ResolveError> {
        let question = Resolve { caller: None, reference: reference.clone() };
        let answered = self.registries.ask::<Resolved>("resolve", &question, ANSWER_TIME).await;
        answered.map_err(unavailable)?.answer.into_result(&reference.to_string())
    }

    /// Which node presents this token: the name that its key has. A node says at a gateway what came of jobs that it was given,
    /// and nothing else. Its token is believed by the keys that are known, also while no registry answers; that its key was
    /// revoked counts from when that is heard, and where it is not, the token has 15 minutes at most.
    ///
    /// # Errors
    /// [`NotANode`], with what the node is to be told.
    pub async fn authenticate_node(&self, presented: &str) -> Result<String, NotANode> {
        if !is_token(presented) {
            return Err(NotANode::Invalid);
        }
        let claims =
            self.token_keys.verify_service(&self.registries, presented).await.map_err(|doubt| match doubt {
                Doubt::Invalid => NotANode::Invalid,
                Doubt::Unknown => NotANode::Unknown,
            })?;
        if self.heard.is_revoked(&KeyId::from_stored(claims.sub.clone())) {
            return Err(NotANode::Revoked);
        }
        match claims.kind() {
            Some(ServiceKind::Node) => Ok(claims.service),
            _ => Err(NotANode::Another(claims.kind.unwrap_or_else(|| ServiceKind::Gateway.to_string()))),
        }
    }

    /// Who presents this token, as far as that can be told here.
    async fn by_token(&self, presented: &str) -> Result<Principal, Doubt> {
        if !self.heard.is_live() {
            return Err(Doubt::Unknown);
        }
        let claims = self.token_keys.verify(&self.registries, presented).await?;
        // Asked for once more: keys may have been read meanwhile, and that takes its time.
        if self.heard.is_live() { Ok(claims.principal()) } else { Err(Doubt::Unknown) }
    }

    /// Who presents this token, where no registry answers: what was heard of revocations a moment ago counts for as long as
    /// what was known of keys.
    fn by_what_was_heard(&self, presented: &str) -> Option<Principal> {
        let claims = self.token_keys.verify_by_known(presented).ok().filter(|_| self.heard.is_believed(self.stale))?;
        metrics::served_stale();
        Some(claims.principal())
    }

    async fn by_asking(&self, presented: &str) -> Result<Principal, AuthError> {
        let (registries, question) = (self.registries.clone(), Authenticate { presented: presented.to_owned() });
        let ask = move || async move { registries.ask("authenticate", &question, ANSWER_TIME).await };
        let answer = self.callers.get(&self.heard, self.hashed(presented), None, holder_of, ask).await;
        match &*answer.map_err(|error| AuthError::Unavailable(error.into()))? {
            Authenticated::Known(caller) => Ok(Principal::from(caller.clone())),
            Authenticated::Refused => Err(AuthError::Invalid),
        }
    }

    fn hashed(&self, presented: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.salt).chain_update(presented.as_bytes()).finalize().into()
    }
}

#[async_trait]
impl Catalog for HttpCatalog {
    async fn authenticate(&self, presented: &str) -> Result<Principal, AuthError> {
        let principal = if is_token(presented) {
            match self.by_token(presented).await {
                Ok(principal) => principal,
                Err(Doubt::Invalid) => return Err(AuthError::Invalid),
                Err(Doubt::Unknown) => match self.by_asking(presented).await {
                    Err(AuthError::Unavailable(cause)) => {
                        self.by_what_was_heard(presented).ok_or(AuthError::Unavailable(cause))?
                    }
                    told => told?,
                },
            }
        } else {
            let id = (self.id_of_key)(presented).ok_or(AuthError::Invalid)?;
            if self.heard.is_revoked(&id) {
                return Err(AuthError::Invalid);
            }
            self.by_asking(presented).await?
        };
        // Heard while it was asked for, or since it was kept.
        if self.heard.is_revoked(&principal.key) { Err(AuthError::Invalid) } else { Ok(principal) }
    }

    async fn resolve(&self, principal: &Principal, reference: &AdapterRef) -> Result<ResolvedAdapter, ResolveError> {
        let question = Resolve { caller: Some(Caller::from(principal)), reference: reference.clone() };
        let registries = self.registries.clone();
        let ask = move || async move { registries.ask("resolve", &question, ANSWER_TIME).await };
        let key = (principal.tenant.clone(), principal.key.clone(), reference.clone());
        let tenant = Some(principal.tenant.clone());
        let asked = self.adapters.get(&self.heard, key, tenant.clone(), move |_| tenant.clone(), ask);
        let answer = asked.await.map_err(unavailable)?;
        let resolved = Resolved::clone(&answer).into_result(&reference.to_string())?;
        if self.heard.is_taken_down(&resolved.digest) {
            return Err(ResolveError::TakenDown(reference.to_string()));
        }
        Ok(resolved)
    }

    async fn chat_template(&self, adapter: &ResolvedAdapter) -> Result<Option<String>, ResolveError> {
        let question = Template { digest: adapter.digest };
        let found = self.registries.ask("template", &question, TEMPLATE_TIME).await.map_err(unavailable)?;
        match found.answer {
            TemplateFound::Found { source } => Ok(source),
            TemplateFound::NotFound => Err(ResolveError::NotFound(format!("{}@{}", adapter.name, adapter.version))),
        }
    }

    async fn list(&self, principal: &Principal, most_public: usize) -> Result<ModelPage, ResolveError> {
        let question = ListModels { caller: Caller::from(principal), most_public };
        let listed = self.registries.ask::<Models>("models", &question, LIST_TIME).await.map_err(unavailable)?;
        let Models { models, next } = listed.answer;
        Ok(ModelPage { entries: models.iter().map(entry).collect(), next })
    }

    async fn entry(&self, principal: &Principal, name: &AdapterName) -> Result<ModelEntry, ResolveError> {
        let question = GetModel { caller: Caller::from(principal), name: name.clone() };
        let found = self.registries.ask::<Option<Model>>("model", &question, ANSWER_TIME).await;
        found.map_err(unavailable)?.answer.as_ref().map(entry).ok_or_else(|| ResolveError::NotFound(name.to_string()))
    }

    async fn limits(&self, principal: &Principal) -> Result<Arc<LimitTree>, AuthError> {
        let question = GetLimits { caller: Caller::from(principal) };
        let registries = self.registries.clone();
        let ask = move || async move {
            let answered = registries.ask::<Option<LimitTree>>("limits", &question, ANSWER_TIME).await?;
            Ok(Answered { answer: answered.answer.map(Arc::new), asked_at: answered.asked_at })
        };
        let tenant = Some(principal.tenant.clone());
        let key = (principal.tenant.clone(), principal.key.clone());
        let answer = self.limits.get(&self.heard, key, tenant.clone(), move |_| tenant.clone(), ask).await;
        let answer = answer.map_err(|error| AuthError::Unavailable(error.into()))?;
        Option::clone(&*answer).ok_or(AuthError::Invalid)
    }

    fn lost_for(&self) -> Option<Duration> {
        match self.heard.silent_for() {
            None => Some(Duration::MAX),
            // It is silent between two beats, too.
            Some(silent) => (silent > self.stale.max(SHORTEST_LOSS)).then_some(silent),
        }
    }
}

fn holder_of(authenticated: &Authenticated) -> Holder {
    match authenticated {
        Authenticated::Known(caller) => Some(caller.tenant.clone()),
        Authenticated::Refused => None,
    }
}

fn entry(model: &Model) -> ModelEntry {
    ModelEntry {
        id: model.name.to_string(),
        owner: model.name.owner().to_owned(),
        created_unix_s: model.created_unix_s,
    }
}

fn unavailable(error: AskError) -> ResolveError {
    ResolveError::Unavailable(error.into())
}
