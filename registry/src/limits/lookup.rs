//! Which limits hold for somebody now: rows of their own, and at the tenant's level the installation's defaults.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DbErr};
use souk_protocol::limits::{LevelLimits, Limit, Policy, Subject};

use super::LimitSettings;
use crate::db::limits;

/// The limits of these subjects, in their order and each by policy. A tenant has the installation's default of what it has no
/// limit of its own for.
pub(crate) async fn limits_of(
    connection: &impl ConnectionTrait,
    defaults: &LimitSettings,
    subjects: &[Subject],
) -> Result<Vec<(Subject, Policy, Limit)>, DbErr> {
    let levels = levels_of(connection, defaults, subjects).await?;
    let flat = |level: LevelLimits| {
        let LevelLimits { subject, limits } = level;
        limits.into_iter().map(move |(policy, limit)| (subject.clone(), policy, limit))
    };
    Ok(levels.into_iter().flat_map(flat).collect())
}

/// The same with one item for each subject, those without limits included.
pub(crate) async fn levels_of(
    connection: &impl ConnectionTrait,
    defaults: &LimitSettings,
    subjects: &[Subject],
) -> Result<Vec<LevelLimits>, DbErr> {
    let mut found: BTreeMap<Subject, BTreeMap<Policy, Limit>> = BTreeMap::new();
    for row in limits::of_subjects(connection, subjects).await? {
        if let Some((subject, (policy, limit))) = row.subject().zip(row.limit()) {
            found.entry(subject).or_default().insert(policy, limit);
        }
    }
    let with_defaults = |subject: &Subject| {
        let mut limits = found.get(subject).cloned().unwrap_or_default();
        if matches!(subject, Subject::Tenant(_)) {
            for policy in Policy::ALL {
                if let Some(default) = defaults.limit(policy) {
                    limits.entry(policy).or_insert(default);
                }
            }
        }
        LevelLimits { subject: subject.clone(), limits }
    };
    Ok(subjects.iter().map(with_defaults).collect())
}
