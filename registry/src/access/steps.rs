//! What becomes of a request for access: the one table of its states.

use crate::words::RequestState;
use crate::words::RequestState::{Approved, Pending, Rejected, Revoked, Withdrawn};

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The owner's person grants what was asked for.
    Approve,
    /// The owner's person does not.
    Reject,
    /// The owner's person takes back what was granted.
    Revoke,
    /// The tenant that asked does not want it any more.
    Withdraw,
}

/// From which state a step leads where. What is not here cannot be done.
const TABLE: [(RequestState, Step, RequestState); 5] = [
    (Pending, Step::Approve, Approved),
    (Pending, Step::Reject, Rejected),
    (Pending, Step::Withdraw, Withdrawn),
    (Approved, Step::Revoke, Revoked),
    (Approved, Step::Withdraw, Withdrawn),
];

/// Where a step leads; `None` if it cannot be done.
pub(super) fn after(state: RequestState, step: Step) -> Option<RequestState> {
    TABLE.into_iter().find(|(from, by, _)| *from == state && *by == step).map(|(.., to)| to)
}

impl Step {
    /// In "cannot be …".
    pub(super) const fn as_participle(self) -> &'static str {
        match self {
            Self::Approve => "approved",
            Self::Reject => "rejected",
            Self::Revoke => "revoked",
            Self::Withdraw => "withdrawn",
        }
    }

    /// As audit entries name it.
    pub(super) const fn as_action(self) -> &'static str {
        match self {
            Self::Approve => "access.approved",
            Self::Reject => "access.rejected",
            Self::Revoke => "access.revoked",
            Self::Withdraw => "access.request_withdrawn",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_decided_once_and_only_what_was_granted_is_taken_back() {
        let steps = [Step::Approve, Step::Reject, Step::Revoke, Step::Withdraw];
        for state in RequestState::ALL {
            let possible: Vec<_> = steps.into_iter().filter(|step| after(state, *step).is_some()).collect();
            let expected: &[Step] = match state {
                Pending => &[Step::Approve, Step::Reject, Step::Withdraw],
                Approved => &[Step::Revoke, Step::Withdraw],
                Rejected | Withdrawn | Revoked => &[],
            };
            assert_eq!(possible, expected, "{state:?}");
            assert!(steps.into_iter().all(|step| after(state, step) != Some(Pending)), "none begins anew");
        }
    }

    #[test]
    fn the_documents_show_this_table() {
        let rows = TABLE.iter().map(|(from, step, to)| {
            format!("| `{}` | {} | `{}` |\n", from.as_str(), step.as_participle(), to.as_str())
        });
        let table =
            format!("| a request that is | and is | is then |\n| --- | --- | --- |\n{}", rows.collect::<String>());
        let page = include_str!("../../../docs/access.md");
        assert!(page.contains(&table), "docs/access.md is to have this table:\n{table}");
    }
}
