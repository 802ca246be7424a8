//! Which adapter is asked about. Acme and rival have some, stranger and the operator none.

/// What the adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// Acme's.
    Private,
    /// Acme's.
    Public,
    /// Acme's.
    Gated,
    /// A name of acme's that nothing has.
    Absent,
    /// Rival's.
    OthersPrivate,
    /// Rival's.
    OthersPublic,
    /// Rival's, shared with nobody.
    OthersShared,
    /// Rival's, shared and granted to acme.
    OthersSharedGranted,
    /// Rival's, shared, granted to acme until a moment that has passed.
    OthersSharedExpired,
    /// Rival's, granted to nobody.
    OthersGated,
    /// Rival's, gated and granted to acme.
    OthersGatedGranted,
    /// Rival's, gated, granted to acme until a moment that has passed.
    OthersGatedExpired,
    /// Acme's, private, its only version taken down.
    TakenDown,
    /// Rival's, public, its only version taken down.
    OthersTakenDown,
}

impl Subject {
    pub(crate) const ALL: [Self; 14] = [
        Self::Private,
        Self::Public,
        Self::Gated,
        Self::Absent,
        Self::OthersPrivate,
        Self::OthersPublic,
        Self::OthersShared,
        Self::OthersSharedGranted,
        Self::OthersSharedExpired,
        Self::OthersGated,
        Self::OthersGatedGranted,
        Self::OthersGatedExpired,
        Self::TakenDown,
        Self::OthersTakenDown,
    ];

    pub(crate) const fn owner(self) -> &'static str {
        match self {
            Self::Private | Self::Public | Self::Gated | Self::Absent | Self::TakenDown => "acme",
            _ => "rival",
        }
    }

    pub(crate) const fn visibility(self) -> &'static str {
        match self {
            Self::Private | Self::Absent | Self::OthersPrivate | Self::TakenDown => "private",
            Self::Public | Self::OthersPublic | Self::OthersTakenDown => "public",
            Self::OthersShared | Self::OthersSharedGranted | Self::OthersSharedExpired => "shared",
            Self::Gated | Self::OthersGated | Self::OthersGatedGranted | Self::OthersGatedExpired => "gated",
        }
    }

    pub(crate) const fn is_taken_down(self) -> bool {
        matches!(self, Self::TakenDown | Self::OthersTakenDown)
    }

    /// Whether it was granted to acme once.
    pub(crate) const fn was_granted(self) -> bool {
        matches!(self, Self::OthersSharedExpired | Self::OthersGatedExpired) || self.is_granted()
    }

    /// Whether it is granted to acme now.
    pub(crate) const fn is_granted(self) -> bool {
        matches!(self, Self::OthersSharedGranted | Self::OthersGatedGranted)
    }

    /// Whether it is there and `tenant` must not know.
    pub(crate) fn is_hidden_from(self, tenant: &str) -> bool {
        let is_seen = match self.visibility() {
            "public" | "gated" => true,
            "shared" => self.is_granted_to(tenant),
            _ => false,
        };
        self != Self::Absent && self.owner() != tenant && !is_seen
    }

    /// Whether it is there and `tenant` may see it and not call it.
    pub(crate) fn is_gated_for(self, tenant: &str) -> bool {
        self.visibility() == "gated" && self.owner() != tenant && !self.is_granted_to(tenant)
    }

    fn is_granted_to(self, tenant: &str) -> bool {
        self.is_granted() && tenant == "acme"
    }
}
