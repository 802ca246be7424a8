//! What may be used: `souk limits`.

use clap::Subcommand;

use super::members::OfTenant;

#[derive(Debug, Subcommand)]
pub(crate) enum LimitsCommand {
    /// Show the limits of your tenant, its teams, members and keys, with what is used of those that count by the day or month.
    List {
        #[command(flatten)]
        of: OfTenant,
    },
    /// Set a limit. Those of a tenant itself are the operator's to set.
    Set {
        #[command(flatten)]
        of: OfTenant,
        /// Whose: `team/NAME`, `member/PERSON`, `key/KEY`, or `tenant` with --tenant (admin).
        subject: String,
        /// Which: requests_per_minute, input_tokens_per_minute, output_tokens_per_minute, tokens_per_day, tokens_per_month,
        /// training_tokens_per_month or versions_per_day.
        limit: String,
        /// Most that may be used in its period.
        value: u64,
        /// From where it is told to webhooks, and nothing refused.
        #[arg(long, value_name = "NUMBER")]
        soft: Option<u64>,
        /// Count and tell what goes beyond it, and refuse nothing.
        #[arg(long)]
        shadow: bool,
    },
    /// Take a limit away.
    Unset {
        #[command(flatten)]
        of: OfTenant,
        /// Whose, as for `set`.
        subject: String,
        /// Which, as for `set`.
        limit: String,
    },
    /// Say how long answers may be, and whether whole ones may be kept for a day, to be given again to repeated requests.
    Answers {
        #[command(flatten)]
        of: OfTenant,
        /// Most tokens of one answer.
        #[arg(long, value_name = "TOKENS", conflicts_with = "default_ceiling")]
        ceiling: Option<u32>,
        /// As many tokens as the operator's default says.
        #[arg(long)]
        default_ceiling: bool,
        /// Whether answers to requests with an Idempotency-Key may be kept.
        #[arg(long, value_name = "true|false")]
        keep: Option<bool>,
    },
    /// Say what a tenant gets of what is shared out, beside others of which each has 1 (admin).
    Weight {
        #[command(flatten)]
        of: OfTenant,
        /// 1 to 16.
        weight: u32,
    },
    /// List, make and delete teams, and say who is of which.
    #[command(subcommand)]
    Teams(TeamsCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TeamsCommand {
    /// List the teams of your tenant.
    List {
        #[command(flatten)]
        of: OfTenant,
    },
    /// Make a team.
    Create {
        #[command(flatten)]
        of: OfTenant,
        /// 1 to 64 of a-z, 0-9, `-`, `_`, `.`.
        name: String,
    },
    /// Delete a team with its limits. Its members and keys go on.
    Delete {
        #[command(flatten)]
        of: OfTenant,
        /// The team's name or id.
        team: String,
    },
    /// Put a member into a team, out of the one before.
    Add {
        #[command(flatten)]
        of: OfTenant,
        /// The team's name or id.
        team: String,
        /// The person's id, as `souk members list` has it.
        person: String,
    },
    /// Take a member out of a team.
    Remove {
        #[command(flatten)]
        of: OfTenant,
        /// The team's name or id.
        team: String,
        /// The person's id, as `souk members list` has it.
        person: String,
    },
}
