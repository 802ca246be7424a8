//! The totals that budgets are held to, as gateways ask for them.

use std::collections::HashMap;

use souk_protocol::limits::Subject;
use souk_protocol::{Total, TotalKey};

use crate::Registry;
use crate::db::usage_totals::{self, Key, Sum};
use crate::error::RegistryError;

impl Registry {
    /// What rows sum up to now; version 0 where there are none. One for each key, in their order.
    ///
    /// # Errors
    /// What the database says.
    pub async fn usage_totals(&self, keys: &[TotalKey]) -> Result<Vec<Total>, RegistryError> {
        let of_keys: Vec<_> = keys.iter().map(key_of).collect();
        let sums = usage_totals::get(&self.db, &of_keys).await?;
        Ok(totals(keys, &sums))
    }
}

/// The row of a total.
pub(super) fn key_of(key: &TotalKey) -> Key {
    let subject_id = match &key.subject {
        Subject::Member(tenant, person) => format!("{tenant}/{person}"),
        subject => subject.id().to_owned(),
    };
    Key { level: key.subject.level(), subject_id, period: key.period.to_string(), unit: key.unit.as_str() }
}

/// A total for each key, of what was found.
pub(super) fn totals(keys: &[TotalKey], sums: &[Sum]) -> Vec<Total> {
    let found: HashMap<_, _> = sums.iter().map(|sum| (sum.key(), sum)).collect();
    let total = |key: &TotalKey| {
        let of = key_of(key);
        let sum = found.get(&of.parts());
        let number = |number: i64| u64::try_from(number).unwrap_or_default();
        let (amount, version) = sum.map_or((0, 0), |sum| (number(sum.amount), number(sum.version)));
        Total { key: key.clone(), amount, version }
    };
    keys.iter().map(total).collect()
}
