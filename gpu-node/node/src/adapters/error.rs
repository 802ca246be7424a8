//! Why an adapter is not resident. Every message is fit to be shown to the caller.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use souk_models::adapter::PackError;
use souk_protocol::Digest;
use souk_protocol::peft::Problems;

use super::source::SourceError;

/// Where adapters are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Packed, in main memory.
    Host,
    /// Where the model runs.
    Device,
}

impl Tier {
    /// The tier's name in messages and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Device => "device",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an adapter cannot be leased.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AdapterError {
    /// Its files cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It was made for another base model.
    #[error("the adapter was made for the base model {given}, this node serves {expected}")]
    WrongBase {
        /// Digest of this node's base model.
        expected: Digest,
        /// Digest that the manifest names.
        given: Digest,
    },
    /// Its files are not a valid adapter for this base model.
    #[error("the adapter is not valid: {0}")]
    Invalid(Arc<Problems>),
    /// Its numbers overflow.
    #[error("the adapter cannot be packed: {0}")]
    Pack(#[from] PackError),
    /// It cannot fit even if nothing else is resident: a part of the room is kept for small adapters of others.
    #[error(
        "the adapter takes {needed_bytes} bytes, of the {tier} tier of this node one request may have {budget_bytes}"
    )]
    TooLarge {
        /// The adapter's size.
        needed_bytes: usize,
        /// The tier that it does not fit into.
        tier: Tier,
        /// The tier's budget without what is kept.
        budget_bytes: usize,
    },
    /// The adapters of one request do not fit side by side even if nothing else is resident.
    #[error(
        "the request's adapters take at least {needed_bytes} bytes together, of the {tier} tier of this node one \
         request may have {budget_bytes}"
    )]
    TogetherTooLarge {
        /// Size of those that were looked at.
        needed_bytes: usize,
        /// The tier that they do not fit into.
        tier: Tier,
        /// The tier's budget without what is kept.
        budget_bytes: usize,
    },
    /// Other adapters were in use all the time.
    #[error(
        "no room for the adapter within {waited_ms} ms: it takes {needed_bytes} bytes, and of the {budget_bytes} bytes \
         of the {tier} tier {in_use_bytes} are in use"
    )]
    NoRoom {
        /// The adapter's size.
        needed_bytes: usize,
        /// The tier that is full.
        tier: Tier,
        /// The tier's budget.
        budget_bytes: usize,
        /// Bytes that could not be evicted.
        in_use_bytes: usize,
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// It was still being loaded.
    #[error("the adapter was not loaded within {waited_ms} ms")]
    LoadTimeout {
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// Reading it took too long.
    #[error("the adapter could not be read within {limit_ms} ms")]
    ReadTimeout {
        /// How long it may take.
        limit_ms: u64,
    },
    /// The last load failed a moment ago.
    #[error("the adapter cannot be loaded (next attempt in {retry_in_ms} ms): {reason}")]
    BackingOff {
        /// When a request will try again.
        retry_in_ms: u64,
        /// What the last attempt said.
        reason: Arc<AdapterError>,
    },
    /// It was taken down, now or before.
    #[error("the adapter was taken down")]
    TakenDown,
    /// The load ended without a result: the node is shutting down, or a bug.
    #[error("the load was broken off")]
    Stopped,
}

impl AdapterError {
    /// Whether the adapter or its storage is at fault, so that the next attempt should wait a little.
    pub(super) const fn calls_for_pause(&self) -> bool {
        match self {
            // Another request may bring a grant that is good.
            Self::Source(SourceError::NotGranted(_)) => false,
            Self::Source(_)
            | Self::WrongBase { .. }
            | Self::Invalid(_)
            | Self::Pack(_)
            | Self::TooLarge { .. }
            | Self::ReadTimeout { .. }
            | Self::Stopped => true,
            Self::TogetherTooLarge { .. }
            | Self::NoRoom { .. }
            | Self::LoadTimeout { .. }
            | Self::BackingOff { .. }
            | Self::TakenDown => false,
        }
    }
}

pub(super) fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
