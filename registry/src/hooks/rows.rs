//! What several acts on hooks do to rows.

use sea_orm::{DatabaseTransaction, DbErr};
use serde_json::{Value, json};

use crate::audit::{self, Act, Actor};
use crate::db::{HookRow, HookVersionRow, blobs, hook_grants, hook_lines, hook_versions, hooks, tenants};

/// Deletes a hook with its versions; what is left are the names. Answers the blobs to which a reference ended, for
/// [`remove_released`](crate::blobs::remove_released); `None` if the hook was gone.
pub(crate) async fn delete_rows(
    transaction: &DatabaseTransaction,
    hook: &HookRow,
) -> Result<Option<Vec<String>>, DbErr> {
    if !hooks::delete(transaction, &hook.id).await? {
        return Ok(None);
    }
    hook_grants::delete_of_hook(transaction, &hook.id).await?;
    hook_lines::delete_of_hook(transaction, &hook.id).await?;
    let versions = hook_versions::of_hook(transaction, &hook.id).await?;
    // Whoever validates them may be gone. Otherwise it finds out that they are, and does the same.
    let validating = hook_versions::validating_of(transaction, &hook.id).await?;
    hook_versions::delete_of_hook(transaction, &hook.id).await?;
    Ok(Some(free_with(transaction, hook, &versions, &validating).await?))
}

/// Ends what versions refer to that are deleted, or were taken down and are gone now. Answers the blobs to which a reference
/// ended.
pub(super) async fn free(
    transaction: &DatabaseTransaction,
    hook: &HookRow,
    versions: &[HookVersionRow],
) -> Result<Vec<String>, DbErr> {
    free_with(transaction, hook, versions, &[]).await
}

/// The same, and what versions refer to whose validation is given up. All blobs at once: they are written in one order.
async fn free_with(
    transaction: &DatabaseTransaction,
    hook: &HookRow,
    versions: &[HookVersionRow],
    validating: &[HookVersionRow],
) -> Result<Vec<String>, DbErr> {
    hook_versions::drop_bytes(transaction, versions.iter().map(|row| row.id.as_str())).await?;
    let size_bytes: i64 = versions.iter().map(|row| row.size_bytes).sum();
    tenants::add_stored(transaction, &hook.tenant(), -size_bytes).await?;
    let blobs_of = |row: &HookVersionRow| [Some(row.digest.clone()), row.artifact_digest.clone()];
    let mut freed: Vec<_> = versions.iter().chain(validating).flat_map(blobs_of).flatten().collect();
    freed.sort_unstable();
    freed.dedup();
    blobs::release(transaction, &freed).await?;
    Ok(freed)
}

/// Appends to the chain of the hook's tenant.
pub(super) async fn note(
    transaction: &DatabaseTransaction,
    actor: Actor,
    hook: &HookRow,
    action: &'static str,
    mut details: Value,
) -> Result<(), DbErr> {
    details["hook"] = json!(hook.id);
    let subject = &hook.full_name();
    audit::append(transaction, actor, Act { tenant_id: &hook.tenant_id, action, subject, details }).await
}
