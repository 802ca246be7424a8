//! What a member may do: a role is a set of scopes. This is the one table of roles; docs/people.md shows it.

use serde::{Deserialize, Serialize};
use souk_protocol::{Scope, Scopes};
use utoipa::ToSchema;

/// What a person is in a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything but operating the installation.
    Owner,
    /// Makes and publishes adapters and decides who gets at them.
    Publisher,
    /// Calls models.
    Developer,
    /// Sees what was used, who changed what, and what there is.
    Billing,
    /// Sees what there is.
    Viewer,
}

impl Role {
    /// All roles, the mightiest first.
    pub const ALL: [Self; 5] = [Self::Owner, Self::Publisher, Self::Developer, Self::Billing, Self::Viewer];

    /// Its name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Publisher => "publisher",
            Self::Developer => "developer",
            Self::Billing => "billing",
            Self::Viewer => "viewer",
        }
    }

    /// What it is for, in a sentence.
    #[must_use]
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Owner => "all of the tenant: members, keys, adapters; not the installation",
            Self::Publisher => "makes and publishes adapters, and decides who gets at them",
            Self::Developer => "calls models and sees adapters",
            Self::Billing => "sees adapters, who changed what, and what was used",
            Self::Viewer => "sees adapters",
        }
    }

    /// What it may do.
    #[must_use]
    pub fn scopes(self) -> Scopes {
        match self {
            Self::Owner => Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin).collect(),
            Self::Publisher => {
                [Scope::Inference, Scope::AdaptersRead, Scope::AdaptersWrite, Scope::AccessDecide].into()
            }
            Self::Developer => [Scope::Inference, Scope::AdaptersRead].into(),
            Self::Billing => [Scope::AdaptersRead, Scope::AuditRead, Scope::UsageRead].into(),
            Self::Viewer => [Scope::AdaptersRead].into(),
        }
    }

    /// A word that this program does not know sees and does no more.
    pub(crate) fn from_column(text: &str) -> Self {
        Self::ALL.into_iter().find(|role| role.as_str() == text).unwrap_or(Self::Viewer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_reads_back_what_it_prints_and_an_unknown_one_may_least() {
        for role in Role::ALL {
            assert_eq!(Role::from_column(role.as_str()), role);
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        assert_eq!(Role::from_column("emperor"), Role::Viewer);
    }

    #[test]
    fn no_role_operates_the_installation_and_an_owner_may_what_all_others_may() {
        for role in Role::ALL {
            assert!(!role.scopes().contains(&Scope::Admin), "{role:?}");
            assert!(role.scopes().is_subset(&Role::Owner.scopes()), "{role:?}");
            assert!(role.scopes().is_superset(&Role::Viewer.scopes()), "{role:?}");
        }
    }

    #[test]
    fn the_documents_show_this_table() {
        let rows = Role::ALL.iter().map(|role| {
            let scopes: Vec<_> = role.scopes().into_iter().map(|scope| format!("`{scope}`")).collect();
            format!("| `{}` | {} | {} |\n", role.as_str(), role.purpose(), scopes.join(" "))
        });
        let table = format!("| role | what for | scopes |\n| --- | --- | --- |\n{}", rows.collect::<String>());
        let page = include_str!("../../../docs/people.md");
        assert!(page.contains(&table), "docs/people.md is to have this table:\n{table}");
    }
}
