//! The sequences that hold KV blocks, by age, and how many each tenant has among them.

use std::collections::{BTreeMap, HashMap};

use souk_protocol::TenantId;

use crate::sequence::{Sequence, SequenceId};

/// The running sequences.
#[derive(Debug, Default)]
pub(super) struct Batch {
    sequences: BTreeMap<SequenceId, Sequence>,
    /// A tenant with none is not in here.
    by_tenant: HashMap<TenantId, usize>,
}

impl Batch {
    pub(super) fn insert(&mut self, sequence: Sequence) {
        *self.by_tenant.entry(sequence.tenant.clone()).or_default() += 1;
        self.sequences.insert(sequence.id, sequence);
    }

    pub(super) fn remove(&mut self, id: SequenceId) -> Option<Sequence> {
        let sequence = self.sequences.remove(&id)?;
        if let Some(count) = self.by_tenant.get_mut(&sequence.tenant) {
            *count -= 1;
            if *count == 0 {
                self.by_tenant.remove(&sequence.tenant);
            }
        }
        Some(sequence)
    }

    pub(super) fn get(&self, id: SequenceId) -> Option<&Sequence> {
        self.sequences.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: SequenceId) -> Option<&mut Sequence> {
        self.sequences.get_mut(&id)
    }

    /// All, the oldest first.
    pub(super) fn values(&self) -> impl Iterator<Item = &Sequence> {
        self.sequences.values()
    }

    /// All, the oldest first.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Sequence> {
        self.sequences.values_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.sequences.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// How many a tenant has.
    pub(super) fn of_tenant(&self, tenant: &TenantId) -> usize {
        self.by_tenant.get(tenant).copied().unwrap_or(0)
    }

    /// Who gives way: the youngest sequence of the tenant with the most, among those that may. Never the oldest of all,
    /// so that one always moves on.
    pub(super) fn victim(&self, may: impl Fn(&Sequence) -> bool) -> Option<SequenceId> {
        self.youngest_of_most(may, |sequence| self.of_tenant(&sequence.tenant))
    }

    /// The same where blocks are short: of the tenant that holds most of them, or is about to.
    pub(super) fn victim_by_blocks(&self, may: impl Fn(&Sequence) -> bool) -> Option<SequenceId> {
        let mut blocks: HashMap<&TenantId, usize> = HashMap::new();
        for sequence in self.sequences.values() {
            let held = sequence.blocks.as_slice().len() + sequence.blocks_missing();
            *blocks.entry(&sequence.tenant).or_default() += held;
        }
        self.youngest_of_most(may, |sequence| blocks.get(&sequence.tenant).copied().unwrap_or(0))
    }

    fn youngest_of_most(
        &self,
        may: impl Fn(&Sequence) -> bool,
        has: impl Fn(&Sequence) -> usize,
    ) -> Option<SequenceId> {
        let candidates = self.sequences.values().skip(1).filter(|sequence| may(sequence));
        candidates.max_by_key(|sequence| (has(sequence), sequence.id)).map(|sequence| sequence.id)
    }
}
