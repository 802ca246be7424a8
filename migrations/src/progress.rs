//! How far a database is, and bringing it further.

use std::collections::HashMap;

use sea_orm_migration::sea_orm::{DatabaseConnection, DbErr, TransactionTrait as _};
use sea_orm_migration::{MigratorTrait as _, SchemaManager};

use crate::{Kind, Migrator, steps};

/// One migration and whether it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its name, which begins with its date.
    pub name: String,
    /// What it is; `None` if a newer program made it.
    pub kind: Option<Kind>,
    /// When it was made, in seconds since the Unix epoch.
    pub made_at_s: Option<i64>,
}

/// What [`expand`] left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expanded {
    /// Migrations that were not made, by name: one that contracts, and all after it.
    pub pending: Vec<String>,
    /// Whether this program can work without them: none of them expands.
    pub is_enough: bool,
}

/// Why [`try_out`] failed.
#[derive(Debug)]
pub struct TryOutError {
    /// The migration that failed; `None` if it was something else.
    pub migration: Option<String>,
    /// What the database says.
    pub source: DbErr,
}

/// Every migration that this program knows or the database has, oldest first. Changes nothing.
///
/// # Errors
/// What the database says.
pub async fn status(db: &DatabaseConnection) -> Result<Vec<State>, DbErr> {
    let mut made: HashMap<String, i64> = HashMap::new();
    if SchemaManager::new(db).has_table("seaql_migrations").await? {
        let rows = Migrator::get_migration_models(db).await?;
        made.extend(rows.into_iter().map(|row| (row.version, row.applied_at)));
    }
    let known = steps().into_iter().map(|(kind, migration)| {
        let name = migration.name().to_owned();
        State { made_at_s: made.remove(&name), kind: Some(kind), name }
    });
    let mut states: Vec<_> = known.collect();
    states.extend(made.into_iter().map(|(name, at_s)| State { name, kind: None, made_at_s: Some(at_s) }));
    states.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(states)
}

/// The names of migrations that a newer program made and this one does not know. With one that contracts among them the
/// database is not this program's to use, and this program cannot know whether there is.
///
/// # Errors
/// What the database says.
pub async fn from_a_newer_program(db: &DatabaseConnection) -> Result<Vec<String>, DbErr> {
    Ok(status(db).await?.into_iter().filter(|state| state.kind.is_none()).map(|state| state.name).collect())
}

/// Makes the migrations that expand, up to the first that contracts; of a new database all, since no older program can be
/// there.
///
/// # Errors
/// What the database says.
pub async fn expand(db: &DatabaseConnection) -> Result<Expanded, DbErr> {
    let states = status(db).await?;
    if states.iter().all(|state| state.made_at_s.is_none()) {
        Migrator::up(db, None).await?;
        return Ok(Expanded { pending: Vec::new(), is_enough: true });
    }
    let pending: Vec<_> = states.into_iter().filter(|state| state.made_at_s.is_none()).collect();
    let (num_first, left) = split(&pending);
    if num_first > 0 {
        Migrator::up(db, u32::try_from(num_first).ok()).await?;
    }
    Ok(left)
}

/// How many of what is pending a start makes, and what that leaves.
fn split(pending: &[State]) -> (usize, Expanded) {
    let expands = |state: &&State| state.kind == Some(Kind::Expand);
    let num_first = pending.iter().take_while(expands).count();
    let left = &pending[num_first..];
    let names = left.iter().map(|state| state.name.clone()).collect();
    (num_first, Expanded { pending: names, is_enough: !left.iter().any(|state| expands(&state)) })
}

/// Whether this program can work on the database as it is: every migration that expands was made.
///
/// # Errors
/// What the database says.
pub async fn is_enough(db: &DatabaseConnection) -> Result<bool, DbErr> {
    Ok(!status(db).await?.iter().any(|state| state.kind == Some(Kind::Expand) && state.made_at_s.is_none()))
}

/// Makes every pending migration in one transaction and takes it back, so that what would fail is known before. Others wait
/// for it meanwhile.
///
/// # Errors
/// [`TryOutError`], with the first that fails.
pub async fn try_out(db: &DatabaseConnection) -> Result<(), TryOutError> {
    let failed = |source| TryOutError { migration: None, source };
    let pending: Vec<_> = status(db).await.map_err(failed)?;
    let transaction = db.begin().await.map_err(failed)?;
    for state in pending.into_iter().filter(|state| state.made_at_s.is_none()) {
        if let Err(source) = Migrator::up(&transaction, Some(1)).await {
            return Err(TryOutError { migration: Some(state.name), source });
        }
    }
    transaction.rollback().await.map_err(failed)
}

impl std::fmt::Display for TryOutError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.migration {
            Some(name) => write!(f, "the migration {name} would fail"),
            None => f.write_str("the database cannot be used"),
        }
    }
}

impl std::error::Error for TryOutError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_goes_up_to_what_contracts_and_is_enough_if_nothing_behind_that_expands() {
        let pending = |kinds: &str| -> Vec<State> {
            let kind = |letter| if letter == 'e' { Kind::Expand } else { Kind::Contract };
            let state =
                |(number, letter)| State { name: format!("m{number}"), kind: Some(kind(letter)), made_at_s: None };
            kinds.chars().enumerate().map(state).collect()
        };
        for (kinds, num_made, left, is_enough) in [
            ("", 0, "", true),
            ("ee", 2, "", true),
            ("eec", 2, "m2", true),
            ("ecc", 1, "m1 m2", true),
            ("ece", 1, "m1 m2", false),
            ("ce", 0, "m0 m1", false),
        ] {
            let (num_first, expanded) = split(&pending(kinds));
            let found = (num_first, expanded.pending.join(" "), expanded.is_enough);
            assert_eq!(found, (num_made, left.to_owned(), is_enough), "{kinds}");
        }
    }
}
