//! What is changed, and by which part of these tests.

use std::collections::BTreeSet;

use reqwest::RequestBuilder;
use souk_registry::{Action, RULES};

use super::{Field, access, adapters, hooks, keys, limits, people, webhooks};
use crate::support::AdapterFiles;

/// A change, once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) action: Action,
    /// No other change of the field has it.
    pub(super) number: u8,
}

/// Changes that are not tried here, and why.
const EXCEPT: [(Action, &str); 3] = [
    (Action::ExchangeToken, "a token is kept nowhere"),
    (Action::AddressParts, "an address is kept nowhere"),
    (Action::ChooseTenant, "one statement on one row: there are no two things of which one could be missing"),
];

/// The parts of these tests, with what each tries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Adapters,
    Hooks,
    Keys,
    Access,
    Limits,
    People,
    Webhooks,
}

/// Every list of changes that a test goes through.
const TRIED: [(Part, &[Action]); 13] = [
    (Part::Adapters, &adapters::PUBLISHING),
    (Part::Adapters, &adapters::DELETIONS),
    (Part::Adapters, &adapters::UPLOADS),
    (Part::Adapters, &adapters::TEXTS),
    (Part::Hooks, &hooks::PUBLISHING),
    (Part::Hooks, &hooks::DELETIONS),
    (Part::Hooks, &hooks::TEXTS),
    (Part::Keys, &keys::ACTIONS),
    (Part::Access, &access::ACTIONS),
    (Part::Limits, &limits::ACTIONS),
    (Part::People, &people::OF_MEMBERS),
    (Part::People, &people::OF_PERSONS),
    (Part::Webhooks, &webhooks::ACTIONS),
];

impl Change {
    /// What it has to do with, and no other.
    pub(super) fn name(self) -> String {
        format!("{:?}-{}", self.action, self.number).to_lowercase()
    }

    /// Weights that no other has.
    pub(super) fn files(self) -> AdapterFiles {
        AdapterFiles::tiny(self.number)
    }

    /// Makes what the change is of.
    pub(super) async fn prepare(self, field: &mut Field) {
        match self.part() {
            Part::Adapters => adapters::prepare(self, field).await,
            Part::Hooks => hooks::prepare(self, field).await,
            Part::Keys => keys::prepare(self, field).await,
            Part::Access => access::prepare(self, field).await,
            Part::Limits => limits::prepare(self, field).await,
            Part::People => people::prepare(self, field).await,
            Part::Webhooks => webhooks::prepare(self, field).await,
        }
    }

    /// The same request each time.
    pub(super) fn request(self, field: &Field) -> RequestBuilder {
        let request = match self.part() {
            Part::Adapters => adapters::request(self, field),
            Part::Hooks => hooks::request(self, field),
            Part::Keys => keys::request(self, field),
            Part::Access => access::request(self, field),
            Part::Limits => limits::request(self, field),
            Part::People => people::request(self, field),
            Part::Webhooks => webhooks::request(self, field),
        };
        request.header("idempotency-key", format!("of {}", self.name()))
    }

    /// Whether exactly that is so which was asked for.
    pub(super) async fn check(self, field: &Field) {
        match self.part() {
            Part::Adapters => adapters::check(self, field).await,
            Part::Hooks => hooks::check(self, field).await,
            Part::Keys => keys::check(self, field).await,
            Part::Access => access::check(self, field).await,
            Part::Limits => limits::check(self, field).await,
            Part::People => people::check(self, field).await,
            Part::Webhooks => webhooks::check(self, field).await,
        }
    }

    /// The code of a problem by which a repeated request is told that it was done before the process ended.
    pub(super) const fn code_of_done(self) -> Option<&'static str> {
        match self.action {
            Action::DeleteAdapter
            | Action::DeleteVersion
            | Action::DeleteTag
            | Action::DeleteHook
            | Action::DeleteHookVersion
            | Action::DeleteHookGrant
            | Action::AbortUpload
            | Action::DeleteGrant
            | Action::DeleteWebhook
            | Action::RemoveMember
            | Action::DeleteTeam
            | Action::RemoveTeamMember
            | Action::ErasePerson
            // The code is used up before anything else is done, so that nobody has a second try.
            | Action::FinishLogin => Some("not_found"),
            Action::ApproveAccess | Action::RejectAccess | Action::RevokeAccess | Action::WithdrawAccessRequest => {
                Some("wrong_state")
            }
            Action::AcceptInvitation => Some("link_over"),
            Action::MakeOwnTenant => Some("already_exists"),
            Action::SignOut | Action::LeaveTenant => Some("session_over"),
            _ => None,
        }
    }

    fn part(self) -> Part {
        TRIED.into_iter().find(|(_, actions)| actions.contains(&self.action)).unwrap().0
    }
}

#[test]
fn every_route_that_changes_something_is_tried_or_it_is_said_why_not() {
    let name = |action: &Action| format!("{action:?}");
    let rules = RULES.iter().filter(|rule| rule.method != "GET").map(|rule| name(&rule.action));
    let here: Vec<_> = TRIED.into_iter().flat_map(|(_, actions)| actions).map(name).collect();
    let except: Vec<_> = EXCEPT.iter().map(|(action, _)| name(action)).collect();
    let all: BTreeSet<_> = here.iter().chain(&except).cloned().collect();
    assert_eq!(all.len(), here.len() + except.len(), "each is in one list");
    assert_eq!(all, rules.collect());
}
