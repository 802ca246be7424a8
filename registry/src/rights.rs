//! What a caller may do: one table, a row per route. The API's functions ask it by action ([`require`]), its middleware
//! by route, [docs/publish.md](../../docs/publish.md#who-may-do-what) shows it, and tests hold all of them, and every
//! cell of routes × callers, to it.

use souk_protocol::Scope::{AdaptersRead, AdaptersWrite, Admin, KeysManage, TenantManage};
use souk_protocol::{Principal, Scope};

use crate::error::RegistryError;

/// A thing that can be done through the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is one route, in the table below")]
pub enum Action {
    ListBaseModels,
    ListTokenKeys,
    ExchangeToken,
    RotateSigningKey,
    FinishLogin,
    WhoAmI,
    GetSession,
    SignOut,
    ListSessions,
    EndSession,
    ChooseTenant,
    MakeOwnTenant,
    LeaveTenant,
    CreateTenant,
    ListTenants,
    ListMembers,
    ChangeRole,
    RemoveMember,
    CreateSignInLink,
    CreateInvitation,
    ListInvitations,
    RevokeInvitation,
    AcceptInvitation,
    ErasePerson,
    CreateKey,
    ListKeys,
    RevokeKey,
    CreateAdapter,
    ListAdapters,
    GetAdapter,
    UpdateAdapter,
    DeleteAdapter,
    ListVersions,
    PublishVersion,
    GetVersion,
    DownloadFile,
    DeleteVersion,
    YankVersion,
    UnyankVersion,
    TakeDownVersion,
    ListTags,
    GetTag,
    PutTag,
    DeleteTag,
}

/// Whose things an action can be done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Facts about the installation that belong to nobody.
    Installation,
    /// The key that is presented.
    Itself,
    /// What is of the person whose session it is.
    Person,
    /// The members of the caller's tenant; with the scope `admin` those of every tenant.
    Members,
    /// The keys of the caller's tenant that are not admin keys; with the scope `admin` every key.
    Keys,
    /// The adapters of the caller's tenant. Another's public one is refused, another's private one does not exist.
    Own,
    /// The adapters of the caller's tenant and every public one.
    Visible,
    /// Every tenant's adapters.
    Any,
}

/// What a caller needs to do something at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: anybody may.
    Nothing,
    /// A key, whatever its scopes.
    AnyKey,
    /// A session of a person, whatever the role.
    Session,
    /// A key or a session with this scope. `admin` implies the others.
    Scope(Scope),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// What is done.
    pub action: Action,
    /// HTTP method of its route.
    pub method: &'static str,
    /// Path of its route, below the prefix.
    pub path: &'static str,
    /// What the caller needs.
    pub needs: Needs,
    /// With whose things.
    pub reach: Reach,
}

/// The table.
pub const RULES: [Rule; 44] = [
    rule(Action::ListBaseModels, "GET", "/base-models", Needs::Nothing, Reach::Installation),
    rule(Action::ListTokenKeys, "GET", "/auth/jwks", Needs::Nothing, Reach::Installation),
    rule(Action::ExchangeToken, "POST", "/auth/token", Needs::AnyKey, Reach::Itself),
    rule(Action::RotateSigningKey, "POST", "/auth/signing-keys", Needs::Scope(Admin), Reach::Installation),
    rule(Action::FinishLogin, "POST", "/auth/login", Needs::Nothing, Reach::Person),
    rule(Action::WhoAmI, "GET", "/auth/whoami", Needs::AnyKey, Reach::Itself),
    rule(Action::GetSession, "GET", "/auth/session", Needs::Session, Reach::Person),
    rule(Action::SignOut, "DELETE", "/auth/session", Needs::Session, Reach::Person),
    rule(Action::ListSessions, "GET", "/auth/sessions", Needs::Session, Reach::Person),
    rule(Action::EndSession, "DELETE", "/auth/sessions/{session}", Needs::Session, Reach::Person),
    rule(Action::ChooseTenant, "POST", "/auth/session/tenant", Needs::Session, Reach::Person),
    rule(Action::MakeOwnTenant, "POST", "/auth/tenants", Needs::Session, Reach::Person),
    rule(Action::LeaveTenant, "DELETE", "/auth/membership", Needs::Session, Reach::Person),
    rule(Action::CreateTenant, "POST", "/tenants", Needs::Scope(Admin), Reach::Installation),
    rule(Action::ListTenants, "GET", "/tenants", Needs::Scope(Admin), Reach::Installation),
    rule(Action::ListMembers, "GET", "/members", Needs::Scope(TenantManage), Reach::Members),
    rule(Action::ChangeRole, "PATCH", "/members/{person}", Needs::Scope(TenantManage), Reach::Members),
    rule(Action::RemoveMember, "DELETE", "/members/{person}", Needs::Scope(TenantManage), Reach::Members),
    rule(
        Action::CreateSignInLink,
        "POST",
        "/members/{person}/sign-in-link",
        Needs::Scope(TenantManage),
        Reach::Members,
    ),
    rule(Action::CreateInvitation, "POST", "/invitations", Needs::Scope(TenantManage), Reach::Members),
    rule(Action::ListInvitations, "GET", "/invitations", Needs::Scope(TenantManage), Reach::Members),
    rule(Action::RevokeInvitation, "DELETE", "/invitations/{invitation}", Needs::Scope(TenantManage), Reach::Members),
    rule(Action::AcceptInvitation, "POST", "/invitations/accept", Needs::Session, Reach::Person),
    rule(Action::ErasePerson, "DELETE", "/persons/{person}", Needs::Scope(Admin), Reach::Installation),
    rule(Action::CreateKey, "POST", "/keys", Needs::Scope(KeysManage), Reach::Keys),
    rule(Action::ListKeys, "GET", "/keys", Needs::Scope(KeysManage), Reach::Keys),
    rule(Action::RevokeKey, "DELETE", "/keys/{id}", Needs::Scope(KeysManage), Reach::Keys),
    rule(Action::CreateAdapter, "POST", "/adapters", Needs::Scope(AdaptersWrite), Reach::Own),
    rule(Action::ListAdapters, "GET", "/adapters", Needs::Scope(AdaptersRead), Reach::Visible),
    rule(Action::GetAdapter, "GET", "/adapters/{owner}/{name}", Needs::Scope(AdaptersRead), Reach::Visible),
    rule(Action::UpdateAdapter, "PATCH", "/adapters/{owner}/{name}", Needs::Scope(AdaptersWrite), Reach::Own),
    rule(Action::DeleteAdapter, "DELETE", "/adapters/{owner}/{name}", Needs::Scope(AdaptersWrite), Reach::Own),
    rule(Action::ListVersions, "GET", "/adapters/{owner}/{name}/versions", Needs::Scope(AdaptersRead), Reach::Visible),
    rule(Action::PublishVersion, "POST", "/adapters/{owner}/{name}/versions", Needs::Scope(AdaptersWrite), Reach::Own),
    rule(
        Action::GetVersion,
        "GET",
        "/adapters/{owner}/{name}/versions/{version}",
        Needs::Scope(AdaptersRead),
        Reach::Visible,
    ),
    rule(
        Action::DownloadFile,
        "GET",
        "/adapters/{owner}/{name}/versions/{version}/files/{file}",
        Needs::Scope(AdaptersRead),
        Reach::Visible,
    ),
    rule(
        Action::DeleteVersion,
        "DELETE",
        "/adapters/{owner}/{name}/versions/{version}",
        Needs::Scope(AdaptersWrite),
        Reach::Own,
    ),
    rule(
        Action::YankVersion,
        "POST",
        "/adapters/{owner}/{name}/versions/{version}/yank",
        Needs::Scope(AdaptersWrite),
        Reach::Own,
    ),
    rule(
        Action::UnyankVersion,
        "POST",
        "/adapters/{owner}/{name}/versions/{version}/unyank",
        Needs::Scope(AdaptersWrite),
        Reach::Own,
    ),
    rule(
        Action::TakeDownVersion,
        "POST",
        "/adapters/{owner}/{name}/versions/{version}/take-down",
        Needs::Scope(Admin),
        Reach::Any,
    ),
    rule(Action::ListTags, "GET", "/adapters/{owner}/{name}/tags", Needs::Scope(AdaptersRead), Reach::Visible),
    rule(Action::GetTag, "GET", "/adapters/{owner}/{name}/tags/{tag}", Needs::Scope(AdaptersRead), Reach::Visible),
    rule(Action::PutTag, "PUT", "/adapters/{owner}/{name}/tags/{tag}", Needs::Scope(AdaptersWrite), Reach::Own),
    rule(Action::DeleteTag, "DELETE", "/adapters/{owner}/{name}/tags/{tag}", Needs::Scope(AdaptersWrite), Reach::Own),
];

/// Ends a call unless the caller's key carries the scope that `action` needs; answers with whose things it may be done.
pub(crate) fn require(principal: &Principal, action: Action) -> Result<Reach, RegistryError> {
    let rule = RULES.iter().find(|rule| rule.action == action).expect("every action has a row");
    match rule.needs {
        Needs::Scope(scope) if !principal.may(scope) => Err(RegistryError::MissingScope(scope)),
        Needs::Session if principal.person.is_none() => Err(RegistryError::PersonNeeded),
        _ => Ok(rule.reach),
    }
}

/// Whether a route is for persons who act for no tenant, too.
pub(crate) fn is_of_session(action: Action) -> bool {
    RULES.iter().any(|rule| rule.action == action && rule.needs == Needs::Session)
}

/// What a route does; `path` is the route's pattern below the prefix.
pub(crate) fn action_of(method: &str, path: &str) -> Option<Action> {
    RULES.iter().find(|rule| rule.method == method && rule.path == path).map(|rule| rule.action)
}

/// The scope that it takes to make keys that may `admin`, to see and to revoke them, and to do all that with the keys
/// of other tenants.
pub(crate) const OVER_ALL_KEYS: Scope = Admin;

const fn rule(action: Action, method: &'static str, path: &'static str, needs: Needs, reach: Reach) -> Rule {
    Rule { action, method, path, needs, reach }
}

impl Reach {
    /// As the documents say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Installation => "the installation",
            Self::Itself => "the key itself",
            Self::Person => "the person who is signed in",
            Self::Members => "the tenant's members",
            Self::Keys => "the tenant's keys",
            Self::Own => "the tenant's adapters",
            Self::Visible => "the tenant's and public adapters",
            Self::Any => "everybody's adapters",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use souk_protocol::{KeyId, PersonId, Scopes, TenantId};

    use super::*;

    fn principal(scopes: impl IntoIterator<Item = Scope>) -> Principal {
        Principal {
            tenant: TenantId::from_stored("t".to_owned()),
            tenant_name: "acme".to_owned(),
            key: KeyId::from_stored("k"),
            person: None,
            scopes: scopes.into_iter().collect::<Scopes>(),
        }
    }

    #[test]
    fn every_route_of_the_document_has_one_row_and_every_row_a_route() {
        let document = serde_json::to_value(crate::openapi()).expect("a document");
        let mut routes = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().expect("paths") {
            let path = path.strip_prefix("/registry/v1").expect("the prefix");
            for method in operations.as_object().expect("operations").keys().filter(|key| *key != "parameters") {
                routes.insert((method.to_uppercase(), path.to_owned()));
            }
        }
        let rows: BTreeSet<_> = RULES.iter().map(|rule| (rule.method.to_owned(), rule.path.to_owned())).collect();
        assert_eq!(rows, routes);
        assert_eq!(rows.len(), RULES.len());
        for rule in RULES {
            assert_eq!(action_of(rule.method, rule.path), Some(rule.action));
        }
    }

    #[test]
    fn a_key_may_do_what_its_scopes_are_for_and_nothing_else() {
        for rule in RULES {
            for scope in Scope::ALL {
                let may = !matches!(rule.needs, Needs::Scope(needed) if needed != scope && scope != Admin);
                let may = may && rule.needs != Needs::Session;
                assert_eq!(require(&principal([scope]), rule.action).is_ok(), may, "{scope}: {:?}", rule.action);
            }
            let may = matches!(rule.needs, Needs::Nothing | Needs::AnyKey);
            assert_eq!(require(&principal([]), rule.action).is_ok(), may);
            let person = Principal { person: Some(PersonId::new()), ..principal([]) };
            assert_eq!(require(&person, rule.action).is_ok(), !matches!(rule.needs, Needs::Scope(_)));
        }
    }

    #[test]
    fn the_documents_show_this_table() {
        let rows = RULES.iter().map(|rule| {
            let scope = match rule.needs {
                Needs::Nothing => "no key".to_owned(),
                Needs::AnyKey => "any".to_owned(),
                Needs::Session => "a session".to_owned(),
                Needs::Scope(scope) => format!("`{scope}`"),
            };
            format!("| `{} {}` | {scope} | {} |\n", rule.method, rule.path, rule.reach.as_str())
        });
        let table = format!("| call | scope | acts on |\n| --- | --- | --- |\n{}", rows.collect::<String>());
        let page = include_str!("../../docs/publish.md");
        assert!(page.contains(&table), "docs/publish.md is to have this table:\n{table}");
    }
}
