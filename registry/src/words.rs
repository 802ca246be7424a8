//! The fixed words of adapters and versions, and version numbers.

use semver::Version;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Who may see and call an adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Visibility {
    /// Its owner alone.
    #[default]
    Private,
    /// Its owner and the tenants that it was granted to; nobody else can tell that it exists.
    Shared,
    /// Every tenant sees it; its owner and the tenants that it was granted to call it and fetch its files.
    Gated,
    /// Every tenant.
    Public,
}

/// Where a version stands. A rejected upload has no state: its author gets every problem in the answer, nothing of it
/// is kept, and the number stays free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VersionState {
    /// Bytes are arriving. Only in the table of uploads.
    Uploading,
    /// All bytes are here and are being judged. Only in the table of uploads.
    Validating,
    /// It serves.
    Ready,
    /// It serves who names it by number or digest, and nobody else.
    Yanked,
    /// The operator stopped it.
    TakenDown,
    /// Its bytes are gone; the row keeps the number from being used again. Never shown.
    Deleted,
}

/// Where a request for access stands. What leads where is in [`crate::access`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RequestState {
    /// The owner has not decided.
    Pending,
    /// The tenant was granted access.
    Approved,
    /// It was not.
    Rejected,
    /// The tenant took it back, or gave up what was granted.
    Withdrawn,
    /// The owner took back what was granted.
    Revoked,
}

impl RequestState {
    pub(crate) const ALL: [Self; 5] = [Self::Pending, Self::Approved, Self::Rejected, Self::Withdrawn, Self::Revoked];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Withdrawn => "withdrawn",
            Self::Revoked => "revoked",
        }
    }

    /// A word that this program does not know leads nowhere.
    pub(crate) fn from_column(text: &str) -> Self {
        Self::ALL.into_iter().find(|state| state.as_str() == text).unwrap_or(Self::Withdrawn)
    }
}

impl Visibility {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Shared => "shared",
            Self::Gated => "gated",
            Self::Public => "public",
        }
    }

    /// Whether somebody may call what is `before` and not what is this. A grant counts for shared and gated ones alike.
    pub(crate) const fn hides_from_some_that(self, before: Self) -> bool {
        self.openness() < before.openness()
    }

    /// How many may call it: its owner, those with a grant, everybody.
    const fn openness(self) -> u8 {
        match self {
            Self::Private => 0,
            Self::Shared | Self::Gated => 1,
            Self::Public => 2,
        }
    }

    /// A word that this program does not know hides.
    pub(crate) fn from_column(text: &str) -> Self {
        [Self::Shared, Self::Gated, Self::Public]
            .into_iter()
            .find(|visibility| visibility.as_str() == text)
            .unwrap_or(Self::Private)
    }
}

impl VersionState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Uploading => "uploading",
            Self::Validating => "validating",
            Self::Ready => "ready",
            Self::Yanked => "yanked",
            Self::TakenDown => "taken_down",
            Self::Deleted => "deleted",
        }
    }

    /// A word that this program does not know serves nobody.
    pub(crate) fn from_column(text: &str) -> Self {
        [Self::Uploading, Self::Validating, Self::Ready, Self::Yanked, Self::Deleted]
            .into_iter()
            .find(|state| state.as_str() == text)
            .unwrap_or(Self::TakenDown)
    }
}

/// Reads a version number. Build metadata is refused: `1.0.0+a` and `1.0.0+b` would be two names of equal rank.
pub(crate) fn parse_version(text: &str) -> Result<Version, String> {
    const MAX_BYTES: usize = 64;
    if text.len() > MAX_BYTES {
        return Err(format!("a version may have {MAX_BYTES} characters, given {}", text.len()));
    }
    let version = Version::parse(text).map_err(|error| format!("`{text}` is not a semantic version: {error}"))?;
    if version.build.is_empty() {
        Ok(version)
    } else {
        Err(format!("`{text}` has build metadata (`+…`); leave it out"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_reads_back_what_it_prints_and_an_unknown_one_serves_nobody() {
        for state in [VersionState::Ready, VersionState::Yanked, VersionState::TakenDown, VersionState::Deleted] {
            assert_eq!(VersionState::from_column(state.as_str()), state);
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        assert_eq!(VersionState::from_column("quarantined"), VersionState::TakenDown);
        for visibility in [Visibility::Private, Visibility::Shared, Visibility::Gated, Visibility::Public] {
            assert_eq!(Visibility::from_column(visibility.as_str()), visibility);
        }
        assert_eq!(Visibility::from_column("secret"), Visibility::Private);
        for state in RequestState::ALL {
            assert_eq!(RequestState::from_column(state.as_str()), state);
        }
        assert_eq!(RequestState::from_column("escalated"), RequestState::Withdrawn);
    }

    #[test]
    fn a_version_is_semantic_short_and_without_build_metadata() {
        assert_eq!(parse_version("1.2.0-rc.1").unwrap(), Version::parse("1.2.0-rc.1").unwrap());
        for bad in ["1.2", "v1.2.0", "latest", "", "1.0.0+build", &format!("1.0.0-{}", "a".repeat(60))] {
            assert!(parse_version(bad).is_err(), "{bad}");
        }
    }
}
