//! Who asks, and at which port.

use souk_protocol::Scope;
use souk_registry::Role;

/// Where a request arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// `server.listen`.
    Public,
    /// `server.admin_listen`.
    Operators,
}

impl Port {
    pub(crate) const ALL: [Self; 2] = [Self::Public, Self::Operators];
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
    /// A session of a member of acme, by its cookie.
    Session(Role),
    /// One that is over.
    SessionOver,
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
    /// What [`Caller::Owner`]'s key was exchanged for.
    Token,
    /// What a session of an owner of acme was exchanged for: a person's, and no session.
    SessionToken,
    /// What [`Caller::Operator`]'s key was exchanged for.
    OperatorsToken,
    /// [`Caller::Token`] with another byte in its signature.
    TokenTampered,
    /// A token whose time is over, as its key's is.
    TokenExpired,
}

impl Caller {
    pub(crate) fn all() -> Vec<Self> {
        let unknown = [Self::Nobody, Self::Garbage, Self::Revoked, Self::Expired, Self::SessionOver];
        let known = [Self::Owner, Self::Person, Self::Decider, Self::Stranger, Self::Operator];
        let keys = Scope::ALL.into_iter().map(Self::Only).chain(known);
        // The one that takes longest to be over comes last.
        let tokens = [Self::Token, Self::SessionToken, Self::OperatorsToken, Self::TokenTampered, Self::TokenExpired];
        unknown.into_iter().chain(Role::ALL.into_iter().map(Self::Session)).chain(keys).chain(tokens).collect()
    }

    /// Whether the key is good and has `scope`.
    pub(crate) fn may(self, scope: Scope) -> bool {
        match self {
            Self::Nobody | Self::Garbage | Self::Revoked | Self::Expired | Self::SessionOver => false,
            Self::TokenTampered | Self::TokenExpired => false,
            Self::Session(role) => role.scopes().contains(&scope),
            Self::Only(own) => own == scope || own == Scope::Admin,
            Self::Owner | Self::Stranger | Self::Token => scope != Scope::Admin,
            Self::SessionToken => Role::Owner.scopes().contains(&scope),
            Self::Person => matches!(scope, Scope::Inference | Scope::AdaptersRead),
            Self::Decider => matches!(scope, Scope::AdaptersRead | Scope::AccessDecide),
            Self::Operator | Self::OperatorsToken => true,
        }
    }

    /// Whether it is a person who calls, with a key, a session or what that was exchanged for.
    pub(crate) const fn is_person(self) -> bool {
        matches!(self, Self::Person | Self::Decider | Self::Session(_) | Self::SessionToken)
    }

    /// Whether it presents a good token.
    pub(crate) const fn has_token(self) -> bool {
        matches!(self, Self::Token | Self::SessionToken | Self::OperatorsToken)
    }

    /// Why the key is no good, as the registry and the gateway call it; `None` for a good one.
    pub(crate) const fn fault(self) -> Option<(&'static str, Option<&'static str>)> {
        match self {
            Self::Nobody => Some(("key_missing", None)),
            Self::Garbage | Self::TokenTampered => Some(("key_invalid", Some("invalid_api_key"))),
            Self::Revoked => Some(("key_revoked", Some("invalid_api_key"))),
            Self::Expired | Self::TokenExpired => Some(("key_expired", Some("invalid_api_key"))),
            // The gateway takes no cookies: there, nothing was presented.
            Self::SessionOver => Some(("session_over", None)),
            _ => None,
        }
    }

    /// Whether a session was presented, good or not.
    pub(crate) const fn has_session(self) -> bool {
        matches!(self, Self::Session(_) | Self::SessionOver)
    }

    /// Who it belongs to, or would.
    pub(crate) const fn tenant(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::Operator | Self::OperatorsToken => "admin",
            _ => "acme",
        }
    }

    /// A scope that its key can give to another.
    pub(crate) const fn gives(self) -> &'static str {
        match self {
            Self::Only(scope) => scope.as_str(),
            Self::Decider | Self::Session(_) => "adapters:read",
            _ => "inference",
        }
    }
}
