//! Which adapter is asked about. Acme and rival have some, stranger and the operator none.

/// What the adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// Acme's.
    Private,
    /// Acme's.
    Public,
    /// A name of acme's that nothing has.
    Absent,
    /// Rival's.
    OthersPrivate,
    /// Rival's.
    OthersPublic,
    /// Acme's, private, its only version taken down.
    TakenDown,
    /// Rival's, public, its only version taken down.
    OthersTakenDown,
}

impl Subject {
    pub(crate) const ALL: [Self; 7] = [
        Self::Private,
        Self::Public,
        Self::Absent,
        Self::OthersPrivate,
        Self::OthersPublic,
        Self::TakenDown,
        Self::OthersTakenDown,
    ];

    pub(crate) const fn owner(self) -> &'static str {
        match self {
            Self::Private | Self::Public | Self::Absent | Self::TakenDown => "acme",
            Self::OthersPrivate | Self::OthersPublic | Self::OthersTakenDown => "rival",
        }
    }

    pub(crate) const fn is_public(self) -> bool {
        matches!(self, Self::Public | Self::OthersPublic | Self::OthersTakenDown)
    }

    pub(crate) const fn is_taken_down(self) -> bool {
        matches!(self, Self::TakenDown | Self::OthersTakenDown)
    }

    /// Whether it is there and `tenant` must not know.
    pub(crate) fn is_hidden_from(self, tenant: &str) -> bool {
        self != Self::Absent && !self.is_public() && self.owner() != tenant
    }
}
