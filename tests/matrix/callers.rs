//! Who asks, and at which port.

use souk_protocol::Scope;

/// Where a request arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// `server.listen`.
    Public,
    /// `server.admin_listen`.
    Operators,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Without a key.
    Nobody,
    /// With what is no key.
    Garbage,
    Revoked,
    Expired,
    /// A key of acme with one scope.
    Only(Scope),
    /// A key of acme with all scopes but `admin`.
    Owner,
    /// A key of a person of acme that may call models and see adapters.
    Person,
    /// A key of a person of acme that decides who gets access.
    Decider,
    /// A key as the owner's of another tenant, which has nothing.
    Stranger,
    /// The key of the first start.
    Operator,
}

impl Caller {
    pub(crate) fn all() -> Vec<Self> {
        let unknown = [Self::Nobody, Self::Garbage, Self::Revoked, Self::Expired];
        let known = [Self::Owner, Self::Person, Self::Decider, Self::Stranger, Self::Operator];
        unknown.into_iter().chain(Scope::ALL.into_iter().map(Self::Only)).chain(known).collect()
    }

    /// Whether the key is good and has `scope`.
    pub(crate) fn may(self, scope: Scope) -> bool {
        match self {
            Self::Nobody | Self::Garbage | Self::Revoked | Self::Expired => false,
            Self::Only(own) => own == scope || own == Scope::Admin,
            Self::Owner | Self::Stranger => scope != Scope::Admin,
            Self::Person => matches!(scope, Scope::Inference | Scope::AdaptersRead),
            Self::Decider => matches!(scope, Scope::AdaptersRead | Scope::AccessDecide),
            Self::Operator => true,
        }
    }

    /// Whether the key is a person's.
    pub(crate) const fn is_person(self) -> bool {
        matches!(self, Self::Person | Self::Decider)
    }

    /// Why the key is no good, as the registry and the gateway call it; `None` for a good one.
    pub(crate) const fn fault(self) -> Option<(&'static str, Option<&'static str>)> {
        match self {
            Self::Nobody => Some(("key_missing", None)),
            Self::Garbage => Some(("key_invalid", Some("invalid_api_key"))),
            Self::Revoked => Some(("key_revoked", Some("invalid_api_key"))),
            Self::Expired => Some(("key_expired", Some("invalid_api_key"))),
            _ => None,
        }
    }

    /// Who it belongs to, or would.
    pub(crate) const fn tenant(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::Operator => "admin",
            _ => "acme",
        }
    }

    /// A scope that its key can give to another.
    pub(crate) const fn gives(self) -> &'static str {
        match self {
            Self::Only(scope) => scope.as_str(),
            Self::Decider => "adapters:read",
            _ => "inference",
        }
    }
}
