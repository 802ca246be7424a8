//! What a cell must answer: the table of rights, and what a take-down means to each action.

use souk_protocol::Scope;
use souk_registry::{Action, Needs, RULES, Reach};

use crate::callers::{Caller, Port};
use crate::document::{Route, Service};
use crate::subjects::Subject;

/// What a cell answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// A success.
    Done,
    /// A status and the envelope's code.
    Refused(u16, Option<&'static str>),
}

pub(crate) fn expected(route: &Route, caller: Caller, port: Port, subject: Subject) -> Expected {
    match route.service {
        Service::Gateway => of_gateway(route, caller, port, subject),
        Service::Registry => of_registry(route, caller, port, subject),
    }
}

/// All of its guarded routes are for keys and tokens of scope `inference`, and see and call what the registry calls
/// [`Reach::Visible`] and [`Reach::Callable`].
fn of_gateway(route: &Route, caller: Caller, port: Port, subject: Subject) -> Expected {
    if route.path == "/metrics" && port == Port::Public {
        return Expected::Refused(404, Some("unknown_url"));
    }
    if !route.is_guarded {
        return Expected::Done;
    }
    match caller.fault() {
        Some((_, code)) => Expected::Refused(401, code),
        None if caller.has_session() => Expected::Refused(401, None),
        None if !caller.may(Scope::Inference) => Expected::Refused(403, Some("missing_scope")),
        None if !route.names_an_adapter() => Expected::Done,
        None if subject == Subject::Absent || subject.is_hidden_from(caller.tenant()) => {
            Expected::Refused(404, Some("model_not_found"))
        }
        None if subject.is_gated_for(caller.tenant()) => Expected::Refused(403, Some("access_needed")),
        None if subject.is_taken_down() => Expected::Refused(410, Some("model_taken_down")),
        None => Expected::Done,
    }
}

fn of_registry(route: &Route, caller: Caller, port: Port, subject: Subject) -> Expected {
    let below = route.path.strip_prefix("/registry/v1").expect("the prefix");
    let rule = RULES.iter().find(|rule| rule.method == route.method.as_str() && rule.path == below);
    let rule = rule.unwrap_or_else(|| panic!("{route} has no row in the table of rights"));
    // The matrix has no browser that lets a program have a code.
    if rule.action == Action::FinishLogin {
        return Expected::Refused(404, Some("not_found"));
    }
    if rule.needs == Needs::Nothing {
        return Expected::Done;
    }
    if let Some((code, _)) = caller.fault() {
        return Expected::Refused(401, Some(code));
    }
    if port == Port::Public && caller.may(Scope::Admin) {
        return Expected::Refused(403, Some("operators_port_only"));
    }
    let lacks_scope = rule.needs.scope().is_some_and(|scope| !caller.may(scope));
    let is_for_own = matches!(rule.needs, Needs::ScopeOrOwn(_)) && caller.is_person();
    if lacks_scope && !is_for_own {
        return Expected::Refused(403, Some("scope_missing"));
    }
    if rule.action == Action::ExchangeToken && caller.has_token() {
        return Expected::Refused(403, Some("token_for_token"));
    }
    // Of nobody are limits read, nobody is of a team, and nobody has called a model.
    let is_used = route.path.contains("{used_request}");
    // No hook is there.
    let is_of_none =
        route.path.contains("{team}") || route.path.contains("{hook}") || rule.action == Action::GetLimits || is_used;
    if route.path.contains("{webhook}") || is_of_none {
        // There is none, which is what another tenant's looks like, too.
        return Expected::Refused(404, Some("not_found"));
    }
    // Pipelines are numbered from 1, and the matrix asks for 0.
    if rule.action == Action::RollBackPipeline {
        return Expected::Refused(400, Some("invalid_fields"));
    }
    let may_decide = caller.is_person() || caller.may(Scope::Admin);
    if matches!(rule.needs, Needs::PersonWith(_)) && !may_decide {
        return Expected::Refused(403, Some("person_needed"));
    }
    if rule.needs == Needs::Session && !caller.has_session() {
        return Expected::Refused(403, Some("session_needed"));
    }
    // Nobody makes somebody who may more than they: the matrix makes viewers.
    let gives = matches!(rule.action, Action::ChangeRole | Action::CreateInvitation);
    if gives && !caller.may(Scope::AdaptersRead) {
        return Expected::Refused(403, Some("scope_not_held"));
    }
    // Whose role is looked at, and nothing is made for one who is refused.
    if rule.action == Action::CreateSignInLink && !caller.may(Scope::AdaptersRead) {
        return Expected::Refused(404, Some("not_found"));
    }
    if !route.names_an_adapter() {
        return Expected::Done;
    }
    let is_own = caller.tenant() == subject.owner();
    match rule.reach {
        _ if subject == Subject::Absent => Expected::Refused(404, Some("not_found")),
        Reach::Any => Expected::Done,
        Reach::Visible | Reach::Callable | Reach::Own if subject.is_hidden_from(caller.tenant()) => {
            Expected::Refused(404, Some("not_found"))
        }
        Reach::Own if !is_own => Expected::Refused(403, Some("not_owner")),
        // The server that is asked keeps objects in a folder. What a bucket takes is in registry/tests/api/direct_uploads.rs.
        _ if goes_past_the_registry(rule.action) => Expected::Refused(409, Some("direct_uploads_unavailable")),
        Reach::Callable if subject.is_gated_for(caller.tenant()) => Expected::Refused(403, Some("access_needed")),
        // Who has access has nothing to ask for.
        _ if rule.action == Action::RequestAccess && !subject.is_gated_for(caller.tenant()) => {
            Expected::Refused(409, Some("already_granted"))
        }
        _ if rule.action == Action::RollBackVersionPipeline => Expected::Refused(400, Some("invalid_fields")),
        // A gated adapter is granted by persons.
        _ if matches!(rule.action, Action::PutGrant | Action::DeleteGrant)
            && subject == Subject::Gated
            && !may_decide =>
        {
            Expected::Refused(403, Some("person_needed"))
        }
        _ if subject.is_taken_down() => of_taken_down(rule.action),
        _ => Expected::Done,
    }
}

const fn goes_past_the_registry(action: Action) -> bool {
    matches!(
        action,
        Action::BeginUpload
            | Action::ListUploads
            | Action::GetUpload
            | Action::AddressParts
            | Action::CompleteUpload
            | Action::AbortUpload
    )
}

/// What may still be done with a version that was taken down: see it, and let its record be.
const fn of_taken_down(action: Action) -> Expected {
    match action {
        Action::DownloadFile => Expected::Refused(410, Some("taken_down")),
        Action::YankVersion | Action::UnyankVersion | Action::PutTag => Expected::Refused(409, Some("wrong_state")),
        _ => Expected::Done,
    }
}
