//! What the node says of itself.

use souk_protocol::peft;
use souk_queue::{MOST_RESIDENT_NAMED, NodeCapacity, NodeLimits, NodeLoad, NodeStatus, ResidentAdapter};

use super::state::NodeState;
use crate::adapters::ResidentAdapter as Held;

impl NodeState {
    /// What this node is, has, and does now.
    pub(super) fn status(&self) -> NodeStatus {
        let (engine, adapters) = (self.engine.stats(), self.adapters.stats());
        NodeStatus {
            capacity: NodeCapacity {
                places: count(self.engine.max_sequences()),
                kv_blocks: count(engine.num_blocks),
                adapter_bytes: self.adapters.most_device_bytes() as u64,
            },
            limits: NodeLimits {
                context_tokens: count(self.engine.limits().context_length),
                max_rank: count(peft::MAX_RANK),
            },
            load: NodeLoad {
                running: count(self.held_jobs.len()),
                free_slots: count(self.room()),
                free_kv_blocks: count(engine.num_free_blocks),
                adapter_bytes_in_use: adapters.totals.device_in_use_bytes as u64,
            },
            resident: named(adapters.resident),
            ..NodeStatus::new(self.config.node.clone(), self.config.pool)
        }
    }
}

/// What is resident, by digest; of more than can be named those that were used last.
fn named(mut held: Vec<Held>) -> Vec<ResidentAdapter> {
    if held.len() > MOST_RESIDENT_NAMED {
        held.sort_unstable_by_key(|adapter| adapter.idle_ms);
        held.truncate(MOST_RESIDENT_NAMED);
    }
    let mut named: Vec<_> = held.iter().map(Held::announced).collect();
    named.sort_unstable();
    named
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use souk_protocol::Digest;
    use souk_queue::AdapterTier;

    use super::*;
    use crate::adapters::Tier;

    #[test]
    fn of_more_than_can_be_named_those_that_were_used_last_are_in_the_order_of_their_digests() {
        let held = |at: usize| Held {
            digest: Digest::of(&at.to_le_bytes()),
            size_bytes: 1,
            tier: if at.is_multiple_of(2) { Tier::Device } else { Tier::Host },
            users: 0,
            idle_ms: at as u64,
        };
        let all: Vec<_> = (0..MOST_RESIDENT_NAMED + 3).rev().map(held).collect();
        let found = named(all.clone());
        assert_eq!(found.len(), MOST_RESIDENT_NAMED);
        assert!(found.is_sorted_by_key(|adapter| adapter.digest));
        for adapter in all {
            let tier = found.iter().find(|named| named.digest == adapter.digest).map(|named| named.tier);
            let expected = if adapter.idle_ms % 2 == 0 { AdapterTier::Device } else { AdapterTier::Host };
            assert_eq!(tier, (adapter.idle_ms < MOST_RESIDENT_NAMED as u64).then_some(expected));
        }
    }
}
