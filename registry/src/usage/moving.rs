//! Totals that are moved by something else than requests, and totals as a transaction sees them.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};
use souk_protocol::{TenantId, Total, TotalKey};

use super::thresholds;
use super::totals::{key_of, totals};
use crate::db::usage_totals::{self, Added};
use crate::limits::LimitSettings;

/// What these sum up to, as `connection` sees it: one for each key, in their order.
pub(crate) async fn totals_in(connection: &impl ConnectionTrait, keys: &[TotalKey]) -> Result<Vec<Total>, DbErr> {
    let of_keys: Vec<_> = keys.iter().map(key_of).collect();
    Ok(totals(keys, &usage_totals::get(connection, &of_keys).await?))
}

/// Adds `amount` to totals of a tenant, and emits an event for each threshold that they pass by it.
pub(crate) async fn move_totals(
    transaction: &DatabaseTransaction,
    defaults: &LimitSettings,
    tenant: &TenantId,
    keys: &[TotalKey],
    amount: i64,
) -> Result<(), DbErr> {
    let added = |key| Added { key: key_of(key), tenant_id: tenant.to_string(), amount };
    let mut added: Vec<_> = keys.iter().map(added).collect();
    added.sort_by(|one, other| one.key.cmp(&other.key));
    let moved = usage_totals::add(transaction, &added).await?;
    let tenants = keys.iter().map(|key| (key.subject.clone(), tenant)).collect();
    thresholds::tell_of_totals(transaction, defaults, &tenants, keys.iter().cloned(), &moved).await
}
