//! Making a key within the bounds of what it is made with.

use sea_orm::DatabaseTransaction;
use serde::Serialize;
use serde_json::json;
use souk_protocol::allowed_models::{MAX_CHARS, MAX_PATTERNS};
use souk_protocol::{AllowedModels, ModelPattern, PersonId, Principal, Scope, Scopes, TenantId, wall_clock};
use time::OffsetDateTime;

use super::policy::Policy;
use super::{NewKey, insert_key};
use crate::Registry;
use crate::audit::{self, Act, Actor};
use crate::auth::ApiKey;
use crate::authority::Authority;
use crate::db::{KeyRow, api_keys, begin_write, ms_of, tenants};
use crate::error::{Finding, RegistryError};
use crate::idempotency::Once;
use crate::rights::{Action, Reach, require};
use crate::teams::team_in;
use crate::tenants::check_not_erased;

/// Longest name of a key.
const MAX_NAME_CHARS: usize = 100;

/// A key as a caller asks for it, unchecked.
pub(crate) struct KeyRequest {
    /// What its owner calls it.
    pub(crate) name: String,
    /// Whose it is to be; `None`: a person's who asks, in its own tenant, else a service's.
    pub(crate) whose: Option<Whose>,
    /// Scopes by name.
    pub(crate) scopes: Vec<String>,
    /// Patterns of models; `None` for all that the maker may call.
    pub(crate) models: Option<Vec<String>>,
    /// When it stops working by itself.
    pub(crate) expires_at: Option<OffsetDateTime>,
    /// A tenant's name; `None` for the caller's own.
    pub(crate) tenant: Option<String>,
    /// The team that a service's key is to be of, by id; `None`: of none.
    pub(crate) team: Option<String>,
}

/// Whose a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The person's that asks for it.
    Person,
    /// A service's: it stays when who asked for it leaves.
    Service,
}

impl Registry {
    /// Makes a key; its secret is nowhere but in the answer. `shape` makes the answer that is kept for an
    /// `Idempotency-Key`, which has no secret.
    pub(crate) async fn create_key<A: Serialize>(
        &self,
        principal: &Principal,
        request: KeyRequest,
        once: &Once,
        shape: impl FnOnce(KeyRow) -> A,
    ) -> Result<(KeyRow, ApiKey), RegistryError> {
        let reach = require(principal, Action::CreateKey)?;
        let (scopes, models) = check_fields(&request)?;
        let tenant = self.tenant_meant(principal, request.tenant.as_deref()).await?;
        let person = whose(&request, principal, &tenant, reach)?;
        if request.team.is_some() && person.is_some() {
            let message = "a personal key is of the team that its person is of; leave this out";
            return Err(RegistryError::invalid(vec![Finding::field("team", message)]));
        }
        let transaction = begin_write(&self.db).await?;
        let maker = self.authority(&transaction, principal).await?;
        check_scopes(&maker, principal, &scopes)?;
        let models = models_within(&maker, models)?;
        let policy = Policy::of(&transaction, &tenant).await?;
        policy.check(&scopes, person.is_some())?;
        let expires_at_ms = policy.expiry(&scopes, maker.expires_at_ms, request.expires_at.map(ms_of), None)?;
        let team = match &request.team {
            Some(id) => Some(team_in(&transaction, &tenant, id).await?.team()),
            None => None,
        };
        let new = NewKey {
            tenant_id: tenant.to_string(),
            person,
            name: request.name,
            scopes,
            models,
            expires_at_ms,
            made_by: Some(maker.id),
            team,
        };
        let (row, secret) = self.issue_key(&transaction, new, Actor::of(principal)).await?;
        once.keep_in(&transaction, || shape(row.clone())).await?;
        transaction.commit().await?;
        let (key, maker) = (&row.id, &principal.key);
        tracing::info!(
            key.id = key,
            key.scopes = row.scopes,
            key.tenant = row.tenant_id,
            key.expires_at_ms = row.expires_at_ms,
            by.key = %maker,
            by.tenant = principal.tenant_name,
            "Made key {key} with key {maker}"
        );
        Ok((row, secret))
    }

    /// Makes a key in the place that the tenant has for it, and says so in its chain. Nobody else makes one before the
    /// transaction ends.
    pub(crate) async fn issue_key(
        &self,
        transaction: &DatabaseTransaction,
        new: NewKey,
        actor: Actor,
    ) -> Result<(KeyRow, ApiKey), RegistryError> {
        self.check_room_for_a_key(transaction, &TenantId::from_stored(&new.tenant_id)).await?;
        let (row, secret) = insert_key(transaction, &self.authenticator, new).await?;
        let details = json!({
            "scopes": row.scopes, "models": row.models, "person": row.person_id, "expires_at_ms": row.expires_at_ms,
            "team": row.team_id,
        });
        let act = Act { tenant_id: &row.tenant_id, action: "key.created", subject: &row.id, details };
        audit::append(transaction, actor, act).await?;
        Ok((row, secret))
    }

    /// Ends a call that would make one key more than a tenant may have, or one for a tenant that was erased. Nobody else makes one before the transaction ends.
    pub(super) async fn check_room_for_a_key(
        &self,
        transaction: &DatabaseTransaction,
        tenant: &TenantId,
    ) -> Result<(), RegistryError> {
        check_not_erased(transaction, tenant).await?;
        tenants::lock(transaction, tenant).await?;
        let given = api_keys::count_usable(transaction, tenant).await?;
        RegistryError::unless_fewer(given, self.config.settings.max_keys_per_tenant, |given, limit| {
            let (of, setting) = ("the tenant".to_owned(), "registry.max_keys_per_tenant");
            RegistryError::TooMany { what: "keys", of, setting, limit, given, remedy: "revoke one first" }
        })
    }
}

/// Ends a call that would hand out a scope which the caller does not have, or has not any more.
pub(super) fn check_scopes(maker: &Authority, principal: &Principal, scopes: &Scopes) -> Result<(), RegistryError> {
    let now = maker.of(principal);
    match scopes.iter().find(|scope| !principal.may(**scope) || !now.may(**scope)) {
        Some(missing) => Err(RegistryError::ScopeNotHeld(*missing)),
        None => Ok(()),
    }
}

/// The models of what is made: as asked for, within the maker's own.
pub(super) fn models_within(
    maker: &Authority,
    asked: Option<AllowedModels>,
) -> Result<Option<AllowedModels>, RegistryError> {
    let (Some(own), Some(asked)) = (&maker.models, &asked) else { return Ok(asked.or_else(|| maker.models.clone())) };
    match own.first_beyond(asked) {
        Some(pattern) => Err(RegistryError::ModelNotHeld(pattern.to_string())),
        None => Ok(Some(asked.clone())),
    }
}

/// Whose the key is to be.
fn whose(
    request: &KeyRequest,
    principal: &Principal,
    tenant: &TenantId,
    reach: Reach,
) -> Result<Option<PersonId>, RegistryError> {
    let is_at_home = *tenant == principal.tenant;
    let person = principal.person.clone().filter(|_| is_at_home);
    match (request.whose, person) {
        (Some(Whose::Person), None) => Err(RegistryError::PersonNeeded),
        (Some(Whose::Person) | None, Some(person)) => Ok(Some(person)),
        _ if reach == Reach::Persons => Err(RegistryError::MissingScope(Scope::KeysManage)),
        _ => Ok(None),
    }
}

fn check_fields(request: &KeyRequest) -> Result<(Scopes, Option<AllowedModels>), RegistryError> {
    let mut findings = Vec::new();
    let num_chars = request.name.chars().count();
    if !(1..=MAX_NAME_CHARS).contains(&num_chars) {
        findings.push(Finding::field("name", format!("1 to {MAX_NAME_CHARS} characters, given {num_chars}")));
    }
    let mut scopes = Scopes::new();
    for (index, text) in request.scopes.iter().enumerate() {
        match text.parse::<Scope>() {
            Ok(scope) => _ = scopes.insert(scope),
            Err(error) => findings.push(Finding::field(format!("scopes[{index}]"), error.to_string())),
        }
    }
    if request.scopes.is_empty() {
        findings.push(Finding::field("scopes", "at least one scope, given none"));
    }
    let models = request.models.as_deref().map(|texts| check_models(texts, &mut findings));
    if request.expires_at.is_some_and(|moment| moment <= wall_clock::now()) {
        findings.push(Finding::field("expires_at", "a moment in the future"));
    }
    RegistryError::unless_valid(findings)?;
    Ok((scopes, models))
}

fn check_models(texts: &[String], findings: &mut Vec<Finding>) -> AllowedModels {
    let mut patterns = Vec::new();
    for (index, text) in texts.iter().take(MAX_PATTERNS).enumerate() {
        match text.parse::<ModelPattern>() {
            Ok(pattern) if patterns.contains(&pattern) => {}
            Ok(pattern) => patterns.push(pattern),
            Err(error) => findings.push(Finding::field(format!("models[{index}]"), error.to_string())),
        }
    }
    if !(1..=MAX_PATTERNS).contains(&texts.len()) {
        let detail = format!("1 to {MAX_PATTERNS} patterns, or no such field for all models; given {}", texts.len());
        findings.push(Finding::field("models", detail));
    }
    let num_chars: usize = texts.iter().map(|text| text.chars().count() + 1).sum();
    if num_chars > MAX_CHARS + 1 {
        let detail =
            format!("at most {MAX_CHARS} characters together, with one between any two; given {}", num_chars - 1);
        findings.push(Finding::field("models", detail));
    }
    AllowedModels::new(patterns)
}
