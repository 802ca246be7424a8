//! What each tenant may count on of a step's rows.
//!
//! The rows of a step belong to the tenants in the batch in equal shares. Whoever needs less leaves the rest to the
//! others, so a share matters only where there are more rows to run than the step has: there the prompts of a tenant
//! below its share come before the answers of those above theirs. So the first token of a lone request is as many steps
//! away as its prompt has shares of rows, whatever the others have in the batch. Those above their share take turns: a
//! row of a tenant with n answers sits out at most n - 1 steps in a row.

use std::collections::HashMap;

use souk_protocol::TenantId;

use super::batch::Batch;

/// The division of one step.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// Rows of an equal share.
    share: usize,
    /// Rows kept for the prompts of each tenant that is below its share.
    kept: HashMap<TenantId, usize>,
}

impl Shares {
    /// Of `max_rows` rows among the tenants of a batch, at most `max_prefill_rows` of them kept for prompts.
    pub(super) fn new(batch: &Batch, max_rows: usize, max_prefill_rows: usize) -> Self {
        let mut wants: HashMap<&TenantId, (usize, usize)> = HashMap::new();
        for sequence in batch.values() {
            let (answers, prompts) = wants.entry(&sequence.tenant).or_default();
            if sequence.is_decoding() {
                *answers += 1;
            } else {
                *prompts += sequence.tokens.len() - sequence.num_computed;
            }
        }
        let share = (max_rows / wants.len().max(1)).max(1);
        let mut below: Vec<(usize, &TenantId)> = wants
            .into_iter()
            .map(|(tenant, (answers, prompts))| (prompts.min(share.saturating_sub(answers)), tenant))
            .filter(|(rows, _)| *rows > 0)
            .collect();
        // Whoever needs least first, so that what it leaves is divided among the others.
        below.sort_unstable();
        let (mut left, mut num_sharing) = (max_prefill_rows, below.len());
        let mut kept = HashMap::new();
        for (wanted, tenant) in below {
            let rows = wanted.min(left.div_ceil(num_sharing));
            left -= rows;
            num_sharing -= 1;
            kept.insert(tenant.clone(), rows);
        }
        Self { share, kept }
    }

    /// Rows of a tenant that come before those of tenants above their share.
    pub(super) const fn share(&self) -> usize {
        self.share
    }

    /// All rows that answers leave to prompts.
    pub(super) fn num_kept(&self) -> usize {
        self.kept.values().sum()
    }

    /// Rows that are kept for a tenant's prompts.
    pub(super) fn kept_for(&self, tenant: &TenantId) -> usize {
        self.kept.get(tenant).copied().unwrap_or(0)
    }

    /// Books rows of a tenant's prompt.
    pub(super) fn spend(&mut self, tenant: &TenantId, num_rows: usize) {
        if let Some(kept) = self.kept.get_mut(tenant) {
            *kept = kept.saturating_sub(num_rows);
        }
    }
}
