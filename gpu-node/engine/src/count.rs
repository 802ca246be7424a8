//! Numbers of tokens in the words of the protocol.

/// A number of tokens as it travels. Contexts are far below 2^32.
pub(crate) fn count(num_tokens: usize) -> u32 {
    u32::try_from(num_tokens).unwrap_or(u32::MAX)
}
