//! The names under which the prefix cache keeps KV blocks.
//!
//! The key of a block is a SHA-256 over the key of the block before it, the block's own tokens, and the adapters that
//! act in it with the place where they begin. So what comes before an activated adapter's invocation is the base
//! model's. The chain starts from the tenant and the base model. So equal keys mean that all of (tenant, base, adapters
//! with their weights, tokens from position 0) are equal, and with them K and V, since they are the same bits however
//! they were computed. Nobody can make two different chains collide, neither by chance nor by trying, so a block that
//! is found needs no second look at its tokens. A tenant never finds another's blocks, not even by timing, and a new
//! version of an adapter has another digest.

use sha2::{Digest as _, Sha256};
use souk_protocol::{PoolId, TenantId, TokenId};
use souk_runner::BLOCK_TOKENS;

use super::adapter_set::AdapterSet;

/// What a full block holds, as a name: its own content and all that comes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlockKey([u8; 32]);

/// The keys of a sequence's full blocks, as far as they have been hashed.
#[derive(Clone, Debug)]
pub(crate) struct KeyChain {
    seed: BlockKey,
    keys: Vec<BlockKey>,
}

impl KeyChain {
    /// An empty chain of a tenant's sequences on a base model.
    #[must_use]
    pub(crate) fn new(tenant: &TenantId, pool: &PoolId) -> Self {
        let hash = Sha256::new().chain_update(b"souk kv blocks\0").chain_update(pool.0.as_bytes());
        Self { seed: BlockKey(hash.chain_update(tenant.as_str()).finalize().into()), keys: Vec::new() }
    }

    /// Hashes those full blocks of `tokens` that are new. What was hashed before must not have changed.
    pub(crate) fn extend(&mut self, tokens: &[TokenId], adapters: &AdapterSet) {
        for (index, block) in tokens.chunks_exact(BLOCK_TOKENS).enumerate().skip(self.keys.len()) {
            // Every field has a fixed width, so no two contents are the same bytes.
            let mut hash = Sha256::new().chain_update(self.keys.last().unwrap_or(&self.seed).0);
            for token in block {
                hash.update(token.to_le_bytes());
            }
            let first = index * BLOCK_TOKENS;
            for (positions, stage) in adapters.stages(first..first + BLOCK_TOKENS) {
                for (digest, weight_bits) in stage.key() {
                    hash.update((positions.start - first).to_le_bytes());
                    hash.update(digest.as_bytes());
                    hash.update(weight_bits.to_le_bytes());
                }
            }
            self.keys.push(BlockKey(hash.finalize().into()));
        }
    }

    /// The keys so far, in order of position.
    #[must_use]
    pub(crate) fn keys(&self) -> &[BlockKey] {
        &self.keys
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use souk_protocol::Digest;
    use souk_runner::scripted::adapter;

    use super::*;

    fn keys(tenant: &str, pool: &str, adapters: &[(&str, f32)], tokens: &[TokenId]) -> Vec<BlockKey> {
        let mut chain = KeyChain::new(&TenantId::from_stored(tenant), &PoolId(Digest::of(pool.as_bytes())));
        let adapters: Vec<_> = adapters.iter().map(|(name, weight)| (adapter(name), *weight)).collect();
        chain.extend(tokens, &AdapterSet::new(&adapters, tokens));
        chain.keys
    }

    #[test]
    fn a_key_depends_on_tenant_base_adapters_weights_and_all_tokens_so_far() {
        let tokens: Vec<TokenId> = (0..3 * BLOCK_TOKENS as TokenId + 5).collect();
        let mut early = tokens.clone();
        early[3] = 99;
        let mut late = tokens.clone();
        late[2 * BLOCK_TOKENS] = 99;
        let base = keys("t", "p", &[], &tokens);
        assert_eq!(base.len(), 3, "only full blocks have keys");
        let others = [
            keys("u", "p", &[], &tokens),
            keys("t", "q", &[], &tokens),
            keys("t", "p", &[("a", 1.0)], &tokens),
            keys("t", "p", &[("b", 1.0)], &tokens),
            keys("t", "p", &[("a", 0.5)], &tokens),
            keys("t", "p", &[("a", 1.0), ("b", 1.0)], &tokens),
            keys("t", "p", &[("b", 1.0), ("a", 1.0)], &tokens),
            keys("t", "p", &[], &early),
        ];
        let mut seen: HashSet<_> = base.iter().copied().collect();
        for (index, other) in others.into_iter().enumerate() {
            assert!(other.into_iter().all(|key| seen.insert(key)), "case {index}");
        }
        let late = keys("t", "p", &[], &late);
        assert_eq!(late[..2], base[..2], "what comes later changes nothing before");
        assert!(seen.insert(late[2]));
    }

    #[test]
    fn a_chain_is_the_same_whole_and_in_pieces() {
        let tokens: Vec<TokenId> = (0..70).map(|place| place * 3 % 50).collect();
        let mut chain = KeyChain::new(&TenantId::from_stored("t"), &PoolId(Digest::of(b"p")));
        for end in 0..=tokens.len() {
            chain.extend(&tokens[..end], &AdapterSet::new(&[], &[]));
        }
        assert_eq!(chain.keys, keys("t", "p", &[], &tokens));
    }
}
