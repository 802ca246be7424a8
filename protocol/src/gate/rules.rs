//! Who may have how much, as arithmetic.

use std::fmt;

/// How much there is, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// All that can be held.
    pub total: u64,
    /// What only those may take who hold no more than `small` with it.
    pub reserve: u64,
    /// What one small request needs.
    pub small: u64,
    /// Most that one holder may have, even if nobody waits.
    pub most: u64,
}

/// How large a holder's part of what is shared out is, beside those of others: a whole number from 1, which is usual, to 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u8);

impl Weight {
    /// The weight of who has no other.
    pub const USUAL: Self = Self(1);
    /// The largest.
    pub const MOST: Self = Self(16);

    /// The weight of a number; one that is out of bounds is the nearest.
    #[must_use]
    pub fn nearest(number: u32) -> Self {
        let most = u32::from(Self::MOST.0);
        Self(u8::try_from(number.clamp(1, most)).unwrap_or(Self::MOST.0))
    }

    /// As a number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0 as u64
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::USUAL
    }
}

/// On which terms something is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What is held.
    pub amount: u64,
    /// How large the holder's part is.
    pub weight: Weight,
    /// Most that the holder may have in all, even if nobody waits.
    pub most: u64,
}

/// Why a holder was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked for.
    pub asked: u64,
    /// What the holder has.
    pub held: u64,
    /// Most that it may have now.
    pub share: u64,
    /// What all have.
    pub used: u64,
    /// All that can be had.
    pub total: u64,
    /// What stands in the way.
    pub cause: Cause,
}

/// What stands in the way of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The holder has its share, and others wait or it is the most that one may have.
    Share,
    /// All is taken but for the reserve.
    Full,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, held, share, used, total, .. } = self;
        match self.cause {
            Cause::Share => write!(f, "you hold {held} of at most {share} and asked for {asked}"),
            Cause::Full => write!(f, "{used} of {total} are taken and you asked for {asked}"),
        }
    }
}

impl Rules {
    /// An eighth of the total is kept for those who hold no more than `small`, at least 1 where there is more than 1;
    /// one holder may have `most`.
    #[must_use]
    pub fn with_an_eighth_kept(total: u64, small: u64, most: u64) -> Self {
        let reserve = if total > 1 { (total / 8).max(1) } else { 0 };
        Self { total, reserve, small, most }
    }

    /// Whether one who has `held` may have `asked` too while all have `used` and each may have `share`.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check(&self, asked: u64, held: u64, used: u64, share: u64) -> Result<(), Refusal> {
        let (used_then, held_then) = (used.saturating_add(asked), held.saturating_add(asked));
        let room = self.room(held_then);
        let share = share.min(room).max(self.small.min(self.most));
        let cause = if held_then > share {
            // A share that only mirrors that all is taken is told as such.
            if share >= room { Cause::Full } else { Cause::Share }
        } else if used_then > room {
            Cause::Full
        } else {
            return Ok(());
        };
        Err(Refusal { asked, held, share, used, total: self.total, cause })
    }

    /// Most that each of so many may hold, of those who hold or wait, if one of them would then hold `held`.
    #[must_use]
    pub fn even_part(&self, held: u64, num_parts: usize) -> u64 {
        self.room(held) / num_parts.max(1) as u64
    }

    /// Most that one of this weight may hold beside others who hold or wait, if it would then hold `held`.
    #[must_use]
    pub fn part(&self, held: u64, weight: Weight, others: impl Iterator<Item = Weight>) -> u64 {
        let all = weight.number() + others.map(Weight::number).sum::<u64>();
        let part = u128::from(self.room(held)) * u128::from(weight.number()) / u128::from(all);
        u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// What there is for one who would hold so much.
    #[must_use]
    pub const fn room(&self, held: u64) -> u64 {
        if held <= self.small { self.total } else { self.total.saturating_sub(self.reserve) }
    }

    /// Whether one who may have `most` could hold so much if nobody else held anything.
    pub(super) fn could_hold(&self, held: u64, most: u64) -> bool {
        held <= most.min(self.room(held))
    }
}
