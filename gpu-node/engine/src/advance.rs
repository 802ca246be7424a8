//! What a step did for a generation.

/// Tokens that a step brought to one generation, or to all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Advance {
    pub(super) num_generated: usize,
    pub(super) num_drafted: usize,
    pub(super) num_accepted: usize,
}

impl Advance {
    pub(super) const fn plus(self, other: Self) -> Self {
        Self {
            num_generated: self.num_generated + other.num_generated,
            num_drafted: self.num_drafted + other.num_drafted,
            num_accepted: self.num_accepted + other.num_accepted,
        }
    }
}
