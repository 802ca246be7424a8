//! What binds a caller, for gateways.

use sea_orm::{ConnectionTrait, DbErr};
use souk_protocol::limits::{LimitTree, Subject};
use souk_protocol::{Principal, TenantId};

use super::LimitSettings;
use super::levels::levels_down_to;
use super::lookup::levels_of;
use crate::Registry;
use crate::db::tenant_limits;
use crate::error::RegistryError;
use crate::sessions::is_session;

impl Registry {
    /// What binds this caller now; `None` where it is gone: its key is unknown, or the person left the tenant.
    ///
    /// # Errors
    /// [`RegistryError`] from the database.
    pub async fn limits_of_caller(&self, principal: &Principal) -> Result<Option<LimitTree>, RegistryError> {
        let Some(levels) = levels_of_caller(&self.db, principal).await? else { return Ok(None) };
        let tree = tree_of(&self.db, &self.config.limits, &principal.tenant, &levels).await?;
        Ok(Some(LimitTree { hooks: self.hooks_of_caller(principal).await?, ..tree }))
    }
}

/// The levels that bind a caller, broadest first; `None` where it is gone.
pub(super) async fn levels_of_caller(
    connection: &impl ConnectionTrait,
    principal: &Principal,
) -> Result<Option<Vec<Subject>>, DbErr> {
    let tenant = &principal.tenant;
    let own = match &principal.person {
        // What a session uses is its member's.
        Some(person) if is_session(principal.key.as_str()) => Subject::Member(tenant.clone(), person.clone()),
        _ => Subject::Key(principal.key.clone()),
    };
    let levels = levels_down_to(connection, tenant, &own).await?;
    let has_member = |levels: &Vec<Subject>| levels.iter().any(|level| matches!(level, Subject::Member(..)));
    Ok(levels.filter(|levels| principal.person.is_none() || has_member(levels)))
}

/// The tree of these levels, which are the tenant's.
pub(super) async fn tree_of(
    connection: &impl ConnectionTrait,
    defaults: &LimitSettings,
    tenant: &TenantId,
    levels: &[Subject],
) -> Result<LimitTree, DbErr> {
    let row = tenant_limits::of(connection, tenant).await?;
    Ok(LimitTree {
        levels: levels_of(connection, defaults, levels).await?,
        gate_weight: u32::try_from(row.gate_weight).unwrap_or(1).max(1),
        output_ceiling: row.output_ceiling.and_then(|most| u32::try_from(most).ok()).or_else(|| defaults.ceiling()),
        keeps_answers: row.keeps_answers != 0,
        hooks: None,
    })
}
