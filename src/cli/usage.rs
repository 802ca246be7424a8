//! What was used: `souk usage`.

use clap::{Args, ValueEnum};

use super::members::OfTenant;

#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    #[command(flatten)]
    pub(crate) of: OfTenant,
    /// One request, by the id that its answer had in `x-request-id`: what it used, and what of that was charged and why.
    #[arg(conflicts_with_all = ["from", "to", "bucket", "by", "csv"])]
    pub(crate) request: Option<String>,
    /// From this day, month or moment of UTC on. Default: the beginning of the month.
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// Until before this day, month or moment. Default: now.
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
    /// Sum up by hour, day or month.
    #[arg(long, value_name = "hour|day|month", default_value = "day")]
    pub(crate) bucket: String,
    /// Take it apart by key, member, team, adapter, base or outcome; several with commas between.
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub(crate) by: Vec<By>,
    /// Only this key's or session's.
    #[arg(long, value_name = "ID")]
    pub(crate) key: Option<String>,
    /// Only this member's, by the person's id.
    #[arg(long, value_name = "PERSON")]
    pub(crate) member: Option<String>,
    /// Only this team's, by its id.
    #[arg(long, value_name = "TEAM")]
    pub(crate) team: Option<String>,
    /// Only that on which this adapter acted: owner/name, owner/name@version or a digest.
    #[arg(long, value_name = "ADAPTER")]
    pub(crate) adapter: Option<String>,
    /// Print all requests as CSV, a line for each job.
    #[arg(long, conflicts_with_all = ["json", "by"])]
    pub(crate) csv: bool,
}

/// By what usage is taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    Key,
    Member,
    Team,
    Adapter,
    Base,
    Outcome,
}

impl By {
    /// As the API names it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Member => "member",
            Self::Team => "team",
            Self::Adapter => "adapter",
            Self::Base => "base",
            Self::Outcome => "outcome",
        }
    }
}
