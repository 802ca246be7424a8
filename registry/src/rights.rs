//! What a caller may do: one table, a row per route. The API's functions ask it by action ([`require`]), its middleware
//! by route, [docs/publish.md](../../docs/publish.md#who-may-do-what) shows it, and tests hold all of them, and every
//! cell of routes × callers, to it.

use souk_protocol::Scope::{
    AccessDecide, AdaptersRead, AdaptersWrite, Admin, AuditRead, KeysManage, TenantManage, UsageRead,
};
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
    CreateService,
    ListServices,
    RevokeService,
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
    CreateTeam,
    ListTeams,
    DeleteTeam,
    AddTeamMember,
    RemoveTeamMember,
    CreateKey,
    ListKeys,
    RevokeKey,
    RotateKey,
    ReportLeakedKeys,
    GetPolicy,
    SetPolicy,
    ListLimits,
    GetLimits,
    SetLimits,
    SetAnswers,
    SetTenantLimits,
    CreateAdapter,
    ListAdapters,
    GetAdapter,
    UpdateAdapter,
    DeleteAdapter,
    ListVersions,
    PublishVersion,
    BeginUpload,
    ListUploads,
    GetUpload,
    AddressParts,
    CompleteUpload,
    AbortUpload,
    GetVersion,
    DownloadFile,
    DeleteVersion,
    YankVersion,
    UnyankVersion,
    TakeDownVersion,
    ListAudit,
    ExportAudit,
    ListAuditHeads,
    GetUsage,
    ListUsageRequests,
    GetUsageRequest,
    ExportUsage,
    CreateWebhook,
    ListWebhooks,
    GetWebhook,
    UpdateWebhook,
    DeleteWebhook,
    RotateWebhookSecret,
    ListDeliveries,
    GetDelivery,
    ReplayDelivery,
    ExportTenant,
    RequestErasure,
    CancelErasure,
    ListTags,
    GetTag,
    PutTag,
    DeleteTag,
    GetGate,
    SetGate,
    ListGrants,
    PutGrant,
    DeleteGrant,
    RequestAccess,
    ListAccessRequests,
    GetAccessRequest,
    WithdrawAccessRequest,
    ListReceivedRequests,
    ApproveAccess,
    RejectAccess,
    RevokeAccess,
    CreateHook,
    ListHooks,
    GetHook,
    UpdateHook,
    DeleteHook,
    ListHookVersions,
    PublishHookVersion,
    GetHookVersion,
    DownloadComponent,
    DeleteHookVersion,
    YankHookVersion,
    UnyankHookVersion,
    TakeDownHookVersion,
    ListHookGrants,
    PutHookGrant,
    DeleteHookGrant,
    ListHookLines,
    GetHookUsage,
    GetHookSettings,
    SetHookSettings,
    GetHookLimits,
    SetHookLimits,
    ListPipelines,
    GetPipeline,
    SetPipeline,
    ListPipelineHistory,
    RollBackPipeline,
    GetVersionPipeline,
    SetVersionPipeline,
    ListVersionPipelineHistory,
    RollBackVersionPipeline,
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
    /// The keys of the caller's tenant that are not admin keys; with the scope `admin` every key.
    Keys,
    /// The caller's tenant itself: its members, its chain of audit entries, what it used, its webhooks. With the scope `admin` every tenant.
    Tenant,
    /// The keys that the caller, a person, has in its tenant. No row has it: it is what is left of [`Reach::Keys`] without
    /// the scope.
    Persons,
    /// Whatever is shown in full.
    Shown,
    /// The adapters of the caller's tenant. Another's public one is refused, another's private one does not exist.
    Own,
    /// The adapters of the caller's tenant, public and gated ones, and those that are shared with it.
    Visible,
    /// Those of them that it may call: gated ones that it was granted. Of others the model card.
    Callable,
    /// The requests for access that the caller's tenant made.
    Asked,
    /// The requests for access to the adapters of the caller's tenant; with the scope `admin` those of every tenant.
    Received,
    /// Every tenant's adapters.
    Any,
    /// The hooks of the caller's tenant. Another's public one is refused, another's private one does not exist.
    OwnHooks,
    /// The hooks of the caller's tenant, public ones, and those that are shared with it: it may attach them.
    VisibleHooks,
    /// Every tenant's hooks.
    AnyHook,
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
    /// The same, or a person's key or session for what is that person's own.
    ScopeOrOwn(Scope),
    /// A person's key or session with this scope, or the scope `admin`.
    PersonWith(Scope),
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
pub const RULES: [Rule; 130] = [
    rule(Action::ListBaseModels, "GET", "/base-models", Needs::Nothing, Reach::Installation),
    rule(Action::ListTokenKeys, "GET", "/auth/jwks", Needs::Nothing, Reach::Installation),
    rule(Action::ExchangeToken, "POST", "/auth/token", Needs::AnyKey, Reach::Itself),
    rule(Action::RotateSigningKey, "POST", "/auth/signing-keys", Needs::Scope(Admin), Reach::Installation),
    rule(Action::CreateService, "POST", "/services", Needs::Scope(Admin), Reach::Installation),
    rule(Action::ListServices, "GET", "/services", Needs::Scope(Admin), Reach::Installation),
    rule(Action::RevokeService, "DELETE", "/services/{id}", Needs::Scope(Admin), Reach::Installation),
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
    rule(Action::ListMembers, "GET", "/members", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::ChangeRole, "PATCH", "/members/{person}", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::RemoveMember, "DELETE", "/members/{person}", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::CreateSignInLink, "POST", "/members/{person}/sign-in-link", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::CreateInvitation, "POST", "/invitations", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::ListInvitations, "GET", "/invitations", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::RevokeInvitation, "DELETE", "/invitations/{invitation}", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::AcceptInvitation, "POST", "/invitations/accept", Needs::Session, Reach::Person),
    rule(Action::ErasePerson, "DELETE", "/persons/{person}", Needs::Scope(Admin), Reach::Installation),
    rule(Action::CreateTeam, "POST", "/teams", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::ListTeams, "GET", "/teams", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::DeleteTeam, "DELETE", "/teams/{team}", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::AddTeamMember, "PUT", "/teams/{team}/members/{person}", Needs::Scope(TenantManage), Reach::Tenant),
    rule(
        Action::RemoveTeamMember,
        "DELETE",
        "/teams/{team}/members/{person}",
        Needs::Scope(TenantManage),
        Reach::Tenant,
    ),
    rule(Action::CreateKey, "POST", "/keys", Needs::ScopeOrOwn(KeysManage), Reach::Keys),
    rule(Action::ListKeys, "GET", "/keys", Needs::ScopeOrOwn(KeysManage), Reach::Keys),
    rule(Action::RevokeKey, "DELETE", "/keys/{id}", Needs::ScopeOrOwn(KeysManage), Reach::Keys),
    rule(Action::RotateKey, "POST", "/keys/{id}/rotate", Needs::ScopeOrOwn(KeysManage), Reach::Keys),
    rule(Action::ReportLeakedKeys, "POST", "/keys/revoke", Needs::Nothing, Reach::Shown),
    rule(Action::GetPolicy, "GET", "/policy", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::SetPolicy, "PUT", "/policy", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::ListLimits, "GET", "/limits", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::GetLimits, "GET", "/limits/{level}/{subject}", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::SetLimits, "PATCH", "/limits/{level}/{subject}", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::SetAnswers, "PATCH", "/limits/answers", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::SetTenantLimits, "PATCH", "/tenants/{tenant}/limits", Needs::Scope(Admin), Reach::Installation),
    rule(Action::CreateAdapter, "POST", "/adapters", Needs::Scope(AdaptersWrite), Reach::Own),
    rule(Action::ListAdapters, "GET", "/adapters", Needs::Scope(AdaptersRead), Reach::Visible),
    rule(Action::GetAdapter, "GET", "/adapters/{owner}/{name}", Needs::Scope(AdaptersRead), Reach::Visible),
    rule(Action::UpdateAdapter, "PATCH", "/adapters/{owner}/{name}", Needs::Scope(AdaptersWrite), Reach::Own),
    rule(Action::DeleteAdapter, "DELETE", "/adapters/{owner}/{name}", Needs::Scope(AdaptersWrite), Reach::Own),
    rule(Action::ListVersions, "GET", "/adapters/{owner}/{name}/versions", Needs::Scope(AdaptersRead), Reach::Visible),
    rule(Action::PublishVersion, "POST", "/adapters/{owner}/{name}/versions", Needs::Scope(AdaptersWrite), Reach::Own),
    rule(Action::BeginUpload, "POST", "/adapters/{owner}/{name}/uploads", Needs::Scope(AdaptersWrite), Reach::Own),
    rule(Action::ListUploads, "GET", "/adapters/{owner}/{name}/uploads", Needs::Scope(AdaptersWrite), Reach::Own),
    rule(
        Action::GetUpload,
        "GET",
        "/adapters/{owner}/{name}/uploads/{upload}",
        Needs::Scope(AdaptersWrite),
        Reach::Own,
    ),
    rule(
        Action::AddressParts,
        "POST",
        "/adapters/{owner}/{name}/uploads/{upload}/parts",
        Needs::Scope(AdaptersWrite),
        Reach::Own,
    ),
    rule(
        Action::CompleteUpload,
        "POST",
        "/adapters/{owner}/{name}/uploads/{upload}/complete",
        Needs::Scope(AdaptersWrite),
        Reach::Own,
    ),
    rule(
        Action::AbortUpload,
        "DELETE",
        "/adapters/{owner}/{name}/uploads/{upload}",
        Needs::Scope(AdaptersWrite),
        Reach::Own,
    ),
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
        Reach::Callable,
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
    rule(Action::ListAudit, "GET", "/audit", Needs::Scope(AuditRead), Reach::Tenant),
    rule(Action::ExportAudit, "GET", "/audit/export", Needs::Scope(AuditRead), Reach::Tenant),
    rule(Action::ListAuditHeads, "GET", "/audit/heads", Needs::Scope(AuditRead), Reach::Tenant),
    rule(Action::GetUsage, "GET", "/usage", Needs::Scope(UsageRead), Reach::Tenant),
    rule(Action::ListUsageRequests, "GET", "/usage/requests", Needs::Scope(UsageRead), Reach::Tenant),
    rule(Action::GetUsageRequest, "GET", "/usage/{used_request}", Needs::Scope(UsageRead), Reach::Tenant),
    rule(Action::ExportUsage, "GET", "/usage/export", Needs::Scope(UsageRead), Reach::Tenant),
    rule(Action::CreateWebhook, "POST", "/webhooks", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::ListWebhooks, "GET", "/webhooks", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::GetWebhook, "GET", "/webhooks/{webhook}", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::UpdateWebhook, "PATCH", "/webhooks/{webhook}", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::DeleteWebhook, "DELETE", "/webhooks/{webhook}", Needs::Scope(TenantManage), Reach::Tenant),
    rule(
        Action::RotateWebhookSecret,
        "POST",
        "/webhooks/{webhook}/rotate-secret",
        Needs::Scope(TenantManage),
        Reach::Tenant,
    ),
    rule(Action::ListDeliveries, "GET", "/webhooks/{webhook}/deliveries", Needs::Scope(TenantManage), Reach::Tenant),
    rule(
        Action::GetDelivery,
        "GET",
        "/webhooks/{webhook}/deliveries/{delivery}",
        Needs::Scope(TenantManage),
        Reach::Tenant,
    ),
    rule(
        Action::ReplayDelivery,
        "POST",
        "/webhooks/{webhook}/deliveries/{delivery}/replay",
        Needs::Scope(TenantManage),
        Reach::Tenant,
    ),
    rule(Action::ExportTenant, "GET", "/export", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::RequestErasure, "POST", "/tenants/{tenant}/erasure", Needs::Scope(Admin), Reach::Installation),
    rule(Action::CancelErasure, "DELETE", "/tenants/{tenant}/erasure", Needs::Scope(Admin), Reach::Installation),
    rule(Action::ListTags, "GET", "/adapters/{owner}/{name}/tags", Needs::Scope(AdaptersRead), Reach::Visible),
    rule(Action::GetTag, "GET", "/adapters/{owner}/{name}/tags/{tag}", Needs::Scope(AdaptersRead), Reach::Visible),
    rule(Action::PutTag, "PUT", "/adapters/{owner}/{name}/tags/{tag}", Needs::Scope(AdaptersWrite), Reach::Own),
    rule(Action::DeleteTag, "DELETE", "/adapters/{owner}/{name}/tags/{tag}", Needs::Scope(AdaptersWrite), Reach::Own),
    rule(Action::GetGate, "GET", "/adapters/{owner}/{name}/gate", Needs::Scope(AdaptersRead), Reach::Visible),
    rule(Action::SetGate, "PUT", "/adapters/{owner}/{name}/gate", Needs::Scope(AdaptersWrite), Reach::Own),
    rule(Action::ListGrants, "GET", "/adapters/{owner}/{name}/grants", Needs::Scope(AccessDecide), Reach::Own),
    rule(Action::PutGrant, "PUT", "/adapters/{owner}/{name}/grants/{tenant}", Needs::Scope(AccessDecide), Reach::Own),
    rule(
        Action::DeleteGrant,
        "DELETE",
        "/adapters/{owner}/{name}/grants/{tenant}",
        Needs::Scope(AccessDecide),
        Reach::Own,
    ),
    rule(
        Action::RequestAccess,
        "POST",
        "/adapters/{owner}/{name}/access-requests",
        Needs::Scope(AdaptersRead),
        Reach::Visible,
    ),
    rule(Action::ListAccessRequests, "GET", "/access-requests", Needs::Scope(AdaptersRead), Reach::Asked),
    rule(Action::GetAccessRequest, "GET", "/access-requests/{request}", Needs::Scope(AdaptersRead), Reach::Asked),
    rule(
        Action::WithdrawAccessRequest,
        "POST",
        "/access-requests/{request}/withdraw",
        Needs::Scope(AdaptersRead),
        Reach::Asked,
    ),
    rule(Action::ListReceivedRequests, "GET", "/access-requests/received", Needs::Scope(AccessDecide), Reach::Received),
    rule(
        Action::ApproveAccess,
        "POST",
        "/access-requests/{request}/approve",
        Needs::PersonWith(AccessDecide),
        Reach::Received,
    ),
    rule(
        Action::RejectAccess,
        "POST",
        "/access-requests/{request}/reject",
        Needs::PersonWith(AccessDecide),
        Reach::Received,
    ),
    rule(
        Action::RevokeAccess,
        "POST",
        "/access-requests/{request}/revoke",
        Needs::PersonWith(AccessDecide),
        Reach::Received,
    ),
    rule(Action::CreateHook, "POST", "/hooks", Needs::Scope(AdaptersWrite), Reach::OwnHooks),
    rule(Action::ListHooks, "GET", "/hooks", Needs::Scope(AdaptersRead), Reach::VisibleHooks),
    rule(Action::GetHook, "GET", "/hooks/{owner}/{hook}", Needs::Scope(AdaptersRead), Reach::VisibleHooks),
    rule(Action::UpdateHook, "PATCH", "/hooks/{owner}/{hook}", Needs::Scope(AdaptersWrite), Reach::OwnHooks),
    rule(Action::DeleteHook, "DELETE", "/hooks/{owner}/{hook}", Needs::Scope(AdaptersWrite), Reach::OwnHooks),
    rule(
        Action::ListHookVersions,
        "GET",
        "/hooks/{owner}/{hook}/versions",
        Needs::Scope(AdaptersRead),
        Reach::VisibleHooks,
    ),
    rule(
        Action::PublishHookVersion,
        "POST",
        "/hooks/{owner}/{hook}/versions",
        Needs::Scope(AdaptersWrite),
        Reach::OwnHooks,
    ),
    rule(
        Action::GetHookVersion,
        "GET",
        "/hooks/{owner}/{hook}/versions/{version}",
        Needs::Scope(AdaptersRead),
        Reach::VisibleHooks,
    ),
    rule(
        Action::DownloadComponent,
        "GET",
        "/hooks/{owner}/{hook}/versions/{version}/component",
        Needs::Scope(AdaptersRead),
        Reach::VisibleHooks,
    ),
    rule(
        Action::DeleteHookVersion,
        "DELETE",
        "/hooks/{owner}/{hook}/versions/{version}",
        Needs::Scope(AdaptersWrite),
        Reach::OwnHooks,
    ),
    rule(
        Action::YankHookVersion,
        "POST",
        "/hooks/{owner}/{hook}/versions/{version}/yank",
        Needs::Scope(AdaptersWrite),
        Reach::OwnHooks,
    ),
    rule(
        Action::UnyankHookVersion,
        "POST",
        "/hooks/{owner}/{hook}/versions/{version}/unyank",
        Needs::Scope(AdaptersWrite),
        Reach::OwnHooks,
    ),
    rule(
        Action::TakeDownHookVersion,
        "POST",
        "/hooks/{owner}/{hook}/versions/{version}/take-down",
        Needs::Scope(Admin),
        Reach::AnyHook,
    ),
    rule(Action::ListHookGrants, "GET", "/hooks/{owner}/{hook}/grants", Needs::Scope(AccessDecide), Reach::OwnHooks),
    rule(
        Action::PutHookGrant,
        "PUT",
        "/hooks/{owner}/{hook}/grants/{tenant}",
        Needs::Scope(AccessDecide),
        Reach::OwnHooks,
    ),
    rule(
        Action::DeleteHookGrant,
        "DELETE",
        "/hooks/{owner}/{hook}/grants/{tenant}",
        Needs::Scope(AccessDecide),
        Reach::OwnHooks,
    ),
    rule(Action::ListHookLines, "GET", "/hooks/{owner}/{hook}/lines", Needs::Scope(AdaptersWrite), Reach::OwnHooks),
    rule(Action::GetHookUsage, "GET", "/hooks/{owner}/{hook}/usage", Needs::Scope(UsageRead), Reach::OwnHooks),
    rule(Action::GetHookSettings, "GET", "/hook-settings", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::SetHookSettings, "PUT", "/hook-settings", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::GetHookLimits, "GET", "/hook-limits", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::SetHookLimits, "PATCH", "/tenants/{tenant}/hook-limits", Needs::Scope(Admin), Reach::Installation),
    rule(Action::ListPipelines, "GET", "/pipelines", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::GetPipeline, "GET", "/pipelines/{at}/{target}", Needs::Scope(TenantManage), Reach::Tenant),
    rule(Action::SetPipeline, "PUT", "/pipelines/{at}/{target}", Needs::Scope(TenantManage), Reach::Tenant),
    rule(
        Action::ListPipelineHistory,
        "GET",
        "/pipelines/{at}/{target}/history",
        Needs::Scope(TenantManage),
        Reach::Tenant,
    ),
    rule(
        Action::RollBackPipeline,
        "POST",
        "/pipelines/{at}/{target}/roll-back",
        Needs::Scope(TenantManage),
        Reach::Tenant,
    ),
    rule(
        Action::GetVersionPipeline,
        "GET",
        "/adapters/{owner}/{name}/versions/{version}/pipeline",
        Needs::Scope(AdaptersWrite),
        Reach::Own,
    ),
    rule(
        Action::SetVersionPipeline,
        "PUT",
        "/adapters/{owner}/{name}/versions/{version}/pipeline",
        Needs::Scope(AdaptersWrite),
        Reach::Own,
    ),
    rule(
        Action::ListVersionPipelineHistory,
        "GET",
        "/adapters/{owner}/{name}/versions/{version}/pipeline/history",
        Needs::Scope(AdaptersWrite),
        Reach::Own,
    ),
    rule(
        Action::RollBackVersionPipeline,
        "POST",
        "/adapters/{owner}/{name}/versions/{version}/pipeline/roll-back",
        Needs::Scope(AdaptersWrite),
        Reach::Own,
    ),
];

/// Ends a call unless the caller's key carries the scope that `action` needs; answers with whose things it may be done.
pub(crate) fn require(principal: &Principal, action: Action) -> Result<Reach, RegistryError> {
    let rule = RULES.iter().find(|rule| rule.action == action).expect("every action has a row");
    match rule.needs {
        Needs::ScopeOrOwn(scope) if !principal.may(scope) && principal.person.is_some() => Ok(Reach::Persons),
        Needs::Scope(scope) | Needs::ScopeOrOwn(scope) | Needs::PersonWith(scope) if !principal.may(scope) => {
            Err(RegistryError::MissingScope(scope))
        }
        Needs::PersonWith(_) => require_decider(principal).map(|()| rule.reach),
        Needs::Session if principal.person.is_none() => Err(RegistryError::SessionNeeded),
        _ => Ok(rule.reach),
    }
}

/// Ends a call of a service with what persons decide, unless it is the operator's.
pub(crate) fn require_decider(principal: &Principal) -> Result<(), RegistryError> {
    if principal.person.is_some() || principal.may(Admin) { Ok(()) } else { Err(RegistryError::PersonNeeded) }
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

impl Needs {
    /// The scope without which a service's key is refused, if there is one.
    #[must_use]
    pub const fn scope(self) -> Option<Scope> {
        match self {
            Self::Nothing | Self::AnyKey | Self::Session => None,
            Self::Scope(scope) | Self::ScopeOrOwn(scope) | Self::PersonWith(scope) => Some(scope),
        }
    }
}

impl Reach {
    /// As the documents say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Installation => "the installation",
            Self::Itself => "the key itself",
            Self::Person => "the person who is signed in",
            Self::Keys => "the tenant's keys",
            Self::Tenant => "the tenant itself",
            Self::Persons => "the person's own keys",
            Self::Shown => "the keys that are shown",
            Self::Own => "the tenant's adapters",
            Self::Visible => "adapters that the tenant may see",
            Self::Callable => "adapters that the tenant may call",
            Self::Asked => "the tenant's requests",
            Self::Received => "requests for the tenant's adapters",
            Self::Any => "everybody's adapters",
            Self::OwnHooks => "the tenant's hooks",
            Self::VisibleHooks => "hooks that the tenant may see",
            Self::AnyHook => "everybody's hooks",
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
            tenant: TenantId::from_stored("t"),
            tenant_name: "acme".to_owned(),
            key: KeyId::from_stored("k"),
            person: None,
            models: None,
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
                let has_scope = rule.needs.scope().is_none_or(|needed| needed == scope || scope == Admin);
                let may = match rule.needs {
                    Needs::PersonWith(_) => scope == Admin,
                    Needs::Session => false,
                    _ => has_scope,
                };
                assert_eq!(require(&principal([scope]), rule.action).is_ok(), may, "{scope}: {:?}", rule.action);
            }
            let may = matches!(rule.needs, Needs::Nothing | Needs::AnyKey);
            assert_eq!(require(&principal([]), rule.action).is_ok(), may, "{:?}", rule.action);
        }
    }

    #[test]
    fn a_person_without_the_scope_reaches_what_is_its_own_and_a_service_nothing() {
        let person = Principal { person: Some(PersonId::new()), ..principal([]) };
        for rule in RULES {
            let reach = require(&person, rule.action);
            match rule.needs {
                Needs::ScopeOrOwn(scope) => {
                    assert_eq!(reach.ok(), Some(Reach::Persons), "{:?}", rule.action);
                    let with_scope = Principal { scopes: [scope].into(), ..person.clone() };
                    assert_eq!(require(&with_scope, rule.action).ok(), Some(rule.reach));
                }
                Needs::Scope(_) => assert!(reach.is_err(), "{:?}", rule.action),
                Needs::PersonWith(scope) => {
                    assert!(reach.is_err(), "{:?}", rule.action);
                    let with_scope = Principal { scopes: [scope].into(), ..person.clone() };
                    assert_eq!(require(&with_scope, rule.action).ok(), Some(rule.reach));
                }
                Needs::Nothing | Needs::AnyKey | Needs::Session => assert_eq!(reach.ok(), Some(rule.reach)),
            }
            assert_ne!(rule.reach, Reach::Persons, "it is what is left of another");
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
                Needs::ScopeOrOwn(scope) => format!("`{scope}`, or a person for own ones"),
                Needs::PersonWith(scope) => format!("`{scope}` of a person, or `admin`"),
            };
            format!("| `{} {}` | {scope} | {} |\n", rule.method, rule.path, rule.reach.as_str())
        });
        let table = format!("| call | scope | acts on |\n| --- | --- | --- |\n{}", rows.collect::<String>());
        let page = include_str!("../../docs/publish.md");
        assert!(page.contains(&table), "docs/publish.md is to have this table:\n{table}");
    }
}
