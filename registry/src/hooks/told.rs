//! What hooks did and said, as gateways tell it, for their owners.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use souk_protocol::hooks::{HookLine, HookTold, MAX_LINE_BYTES};
use souk_protocol::limits::PeriodKey;
use souk_protocol::{Principal, wall_clock};
use uuid::Uuid;

use crate::Registry;
use crate::db::hook_lines::{FAILED, Model as LineRow};
use crate::db::{begin_row_write, hook_days, hook_lines, hook_versions, hooks};
use crate::error::RegistryError;
use crate::rights::Action;
use crate::slice::Slice;

/// Longest word for a level or a failure.
const MAX_KIND_CHARS: usize = 16;
const MAX_CODE_CHARS: usize = 40;
/// A day, in milliseconds.
const DAY_MS: u64 = 24 * 3600 * 1000;

/// A line of a hook.
pub(crate) type HookLineDetails = LineRow;

/// What a version did in a day.
pub(crate) struct HookDay {
    pub(crate) version: String,
    pub(crate) row: hook_days::Model,
}

impl Registry {
    /// Keeps what hooks said and how they failed, the last lines of each. Lines of versions that are not known, and of hooks that
    /// were deleted, are passed over.
    ///
    /// # Errors
    /// What the database says; then nothing was kept.
    pub async fn write_hook_lines(&self, lines: &[HookLine]) -> Result<(), RegistryError> {
        let ids: BTreeSet<_> = lines.iter().map(|line| line.version.as_str()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let versions = hook_versions::by_ids(&self.db, ids).await?;
        let versions: HashMap<_, _> = versions.into_iter().map(|row| (row.id.clone(), row)).collect();
        let mut of_hooks = BTreeMap::<String, Vec<LineRow>>::new();
        for line in lines {
            if let Some(version) = versions.get(line.version.as_str()) {
                let of_hook = of_hooks.entry(version.hook_id.clone()).or_default();
                of_hook.push(row_of(line, &version.hook_id, &version.version));
            }
        }
        if of_hooks.is_empty() {
            return Ok(());
        }
        let kept = self.config.settings.hooks.lines_kept;
        // One for all, since a gateway that hears of a failure sends all of it again. Hooks are in the order of their ids, so that
        // two of these do not wait for each other.
        let transaction = begin_row_write(&self.db).await?;
        for (hook_id, rows) in of_hooks {
            // Locked, so that it is not deleted meanwhile.
            if hooks::lock(&transaction, &hook_id).await? {
                hook_lines::insert_all(&transaction, rows).await?;
                hook_lines::delete_older(&transaction, &hook_id, kept).await?;
            }
        }
        Ok(transaction.commit().await?)
    }

    /// The last lines of a hook, the newest first; only how it failed if so asked.
    pub(crate) async fn list_hook_lines(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        only_failures: bool,
        slice: Slice,
    ) -> Result<Vec<HookLineDetails>, RegistryError> {
        let hook = self.hook_for(principal, Action::ListHookLines, owner, name).await?;
        let limit = slice.with_one_more();
        Ok(hook_lines::list(&self.db, &hook.id, only_failures, slice.after, limit).await?)
    }

    /// What the versions of a hook did in the last so many days, in whoever's requests, the last day first.
    pub(crate) async fn hook_usage(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        num_days: u32,
    ) -> Result<Vec<HookDay>, RegistryError> {
        let hook = self.hook_for(principal, Action::GetHookUsage, owner, name).await?;
        let versions = hook_versions::ever_of(&self.db, &hook.id).await?;
        let now_ms = u64::try_from(wall_clock::since_epoch().as_millis()).unwrap_or(u64::MAX);
        let since = PeriodKey::day(now_ms.saturating_sub(DAY_MS * u64::from(num_days.saturating_sub(1)))).to_string();
        let ids = versions.iter().map(|row| row.id.as_str());
        let days = hook_days::of_versions(&self.db, ids, &since).await?;
        let number = |id: &str| versions.iter().find(|row| row.id == id).map(|row| row.version.clone());
        Ok(days.into_iter().map(|row| HookDay { version: number(&row.version_id).unwrap_or_default(), row }).collect())
    }
}

fn row_of(line: &HookLine, hook_id: &str, version: &str) -> LineRow {
    let (kind, part, code, text) = match &line.what {
        HookTold::Log { level, text } => (cut(level, MAX_KIND_CHARS), None, None, Some(text)),
        HookTold::Failed { part, code, detail } => {
            (FAILED.to_owned(), Some(part.as_str().to_owned()), Some(cut(code, MAX_CODE_CHARS)), detail.as_ref())
        }
    };
    LineRow {
        // By time, so that the last lines are those with the last ids.
        id: format!("hkl_{}", Uuid::now_v7().simple()),
        hook_id: hook_id.to_owned(),
        version: version.to_owned(),
        tenant_id: line.tenant.to_string(),
        at_ms: i64::try_from(line.at_ms).unwrap_or(i64::MAX),
        request_id: line.request.as_ref().map(ToString::to_string),
        kind,
        part,
        code,
        text: text.map(|text| cut_bytes(text)),
    }
}

/// The beginning of a text, without the character that PostgreSQL has none for.
fn cut(text: &str, limit: usize) -> String {
    text.chars().filter(|character| *character != '\0').take(limit).collect()
}

fn cut_bytes(text: &str) -> String {
    let mut end = text.len().min(MAX_LINE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    cut(&text[..end], MAX_LINE_BYTES)
}
