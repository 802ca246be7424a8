//! Reading what was used: sums by time and by whose and of what they are, and requests with their jobs.

use sea_orm::{ConnectionTrait, DbErr, FromQueryResult as _, QueryResult, Statement, Value};
use souk_protocol::limits::PeriodKey;

use super::usage_days::SUMS;
use super::usage_requests;

/// What is asked for of a tenant. `None` is all, an empty list nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) tenant: String,
    /// Admitted from this moment on.
    pub(crate) from_ms: i64,
    /// And before this one.
    pub(crate) to_ms: i64,
    pub(crate) keys: Option<Vec<String>>,
    pub(crate) persons: Option<Vec<String>>,
    pub(crate) teams: Option<Vec<String>>,
    /// Digests of base models.
    pub(crate) bases: Option<Vec<String>>,
    /// Digests of versions, of which one acted.
    pub(crate) adapters: Option<Vec<String>>,
    /// What was called as one of these models.
    pub(crate) models: Option<Models>,
    pub(crate) outcomes: Option<Vec<String>>,
}

/// What names of models mean.
#[derive(Clone, Debug, Default)]
pub(crate) struct Models {
    /// Digests of base models that were called without an adapter.
    pub(crate) bases: Vec<String>,
    /// Digests of versions, of which one acted.
    pub(crate) adapters: Vec<String>,
}

/// By what sums are taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    Key,
    Person,
    Team,
    Base,
    Adapters,
    Outcome,
}

/// Of which time each sum is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bucket {
    Minute,
    Hour,
    Day,
    Month,
    /// All of it.
    Whole,
}

/// From where sums are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The sums of days, which are there for ever. The filter's moments are beginnings of days.
    Days,
    /// Rows, as long as they are kept. They know no months.
    Rows,
}

/// A question for sums.
pub(crate) struct Question<'a> {
    pub(crate) filter: &'a Filter,
    pub(crate) source: Source,
    pub(crate) bucket: Bucket,
    pub(crate) by: &'a [By],
    /// [`Group::key`] of the one after which they begin.
    pub(crate) after: Option<&'a [String]>,
    pub(crate) limit: Option<u64>,
}

/// Sums of one bucket and one of each of what they are taken apart by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// A day, a month, or the milliseconds since the Unix epoch when it begins.
    pub(crate) bucket: String,
    /// In the order of [`Question::by`].
    pub(crate) names: Vec<String>,
    pub(crate) sums: Sums,
}

/// What was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) requests: i64,
    pub(crate) jobs: i64,
    pub(crate) prompt_tokens: i64,
    pub(crate) cached_tokens: i64,
    pub(crate) computed_tokens: i64,
    pub(crate) delivered_tokens: i64,
    pub(crate) charged_input_tokens: i64,
    pub(crate) charged_output_tokens: i64,
}

/// Where a list of requests goes on: the moment and the id of one.
pub(crate) type Place = (i64, String);

impl By {
    const fn column(self) -> &'static str {
        match self {
            Self::Key => "key_id",
            Self::Person => "person_id",
            Self::Team => "team_id",
            Self::Base => "base",
            Self::Adapters => "adapters",
            Self::Outcome => "outcome",
        }
    }
}

impl Group {
    /// By what groups are ordered.
    pub(crate) fn key(&self) -> Vec<String> {
        [&self.bucket].into_iter().chain(&self.names).cloned().collect()
    }
}

/// Values of a statement, each with its place.
struct Values(Vec<Value>);

impl Values {
    fn place(&mut self, value: impl Into<Value>) -> String {
        self.0.push(value.into());
        format!("${}", self.0.len())
    }

    fn places<'a>(&mut self, values: impl IntoIterator<Item = &'a String>) -> String {
        let places: Vec<_> = values.into_iter().map(|value| self.place(value.clone())).collect();
        places.join(", ")
    }

    /// ` AND` a condition for each part of a filter that is about the caller, or about what ran.
    fn conditions(&mut self, filter: &Filter, of: [&'static str; 3]) -> String {
        let [key, person, team] = of;
        let mut conditions = String::new();
        for (column, wanted) in [(key, &filter.keys), (person, &filter.persons), (team, &filter.teams)] {
            conditions.push_str(&self.is_one_of(column, wanted.as_deref()));
        }
        conditions
    }

    fn conditions_of_jobs(&mut self, filter: &Filter, of: [&'static str; 3]) -> String {
        let [base, adapters, outcome] = of;
        let mut conditions = self.is_one_of(base, filter.bases.as_deref());
        conditions.push_str(&self.is_one_of(outcome, filter.outcomes.as_deref()));
        if let Some(digests) = &filter.adapters {
            conditions.push_str(&format!(" AND ({})", self.have_one_of(adapters, digests)));
        }
        if let Some(models) = &filter.models {
            let of_base = match &*models.bases {
                [] => "1 = 0".to_owned(),
                bases => format!("{adapters} = '[]' AND {base} IN ({})", self.places(bases)),
            };
            conditions.push_str(&format!(" AND ({of_base} OR {})", self.have_one_of(adapters, &models.adapters)));
        }
        conditions
    }

    /// Whether a column of adapters has one of these digests.
    fn have_one_of(&mut self, adapters: &str, digests: &[String]) -> String {
        // Digests have no character that means something to LIKE.
        let has = digests.iter().map(|digest| format!("{adapters} LIKE {}", self.place(format!("%\"{digest}\"%"))));
        let has: Vec<_> = has.collect();
        if has.is_empty() { "1 = 0".to_owned() } else { has.join(" OR ") }
    }

    fn is_one_of(&mut self, column: &str, wanted: Option<&[String]>) -> String {
        match wanted {
            None => String::new(),
            Some([]) => " AND 1 = 0".to_owned(),
            Some(wanted) => format!(" AND {column} IN ({})", self.places(wanted)),
        }
    }
}

/// Sums by bucket and then by what they are taken apart by.
pub(crate) async fn sums(connection: &impl ConnectionTrait, question: &Question<'_>) -> Result<Vec<Group>, DbErr> {
    let mut values = Values(Vec::new());
    let source = source(question, &mut values);
    let columns: Vec<_> = ["bucket"].into_iter().chain(question.by.iter().map(|by| by.column())).collect();
    let columns = columns.join(", ");
    let after =
        question.after.map_or_else(String::new, |after| format!(" WHERE ({columns}) > ({})", values.places(after)));
    let sums: Vec<_> = SUMS.iter().map(|sum| format!("CAST(SUM({sum}) AS BIGINT) AS {sum}")).collect();
    let limit = question.limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
    let query = format!(
        "SELECT {columns}, {} FROM ({source}) s{after} GROUP BY {columns} ORDER BY {columns}{limit}",
        sums.join(", ")
    );
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), query, values.0);
    connection.query_all_raw(statement).await?.iter().map(|row| group(row, question.by)).collect()
}

fn source(question: &Question<'_>, values: &mut Values) -> String {
    let Question { filter, source, bucket, .. } = question;
    let tenant = values.place(filter.tenant.clone());
    match source {
        Source::Days => {
            let bucket = match bucket {
                Bucket::Month => "SUBSTR(day, 1, 7)",
                Bucket::Whole => "''",
                Bucket::Minute | Bucket::Hour | Bucket::Day => "day",
            };
            let [from, to] = [filter.from_ms, filter.to_ms].map(|at_ms| values.place(day_of(at_ms)));
            let who = values.conditions(filter, ["key_id", "person_id", "team_id"]);
            let what = values.conditions_of_jobs(filter, ["base", "adapters", "outcome"]);
            format!(
                "SELECT {bucket} AS bucket, key_id, person_id, team_id, base, adapters, outcome, {} FROM usage_days \
                 WHERE tenant_id = {tenant} AND day >= {from} AND day < {to}{who}{what}",
                SUMS.join(", ")
            )
        }
        Source::Rows => {
            let bucket = match bucket {
                Bucket::Minute => "CAST(r.admitted_at_ms / 60000 * 60000 AS TEXT)",
                Bucket::Hour => "CAST(r.admitted_at_ms / 3600000 * 3600000 AS TEXT)",
                Bucket::Day | Bucket::Month => "CAST(r.admitted_at_ms / 86400000 * 86400000 AS TEXT)",
                Bucket::Whole => "''",
            };
            let [from, to] = [filter.from_ms, filter.to_ms].map(|at_ms| values.place(at_ms));
            let who = values.conditions(filter, ["r.key_id", "r.person_id", "r.team_id"]);
            let what = values.conditions_of_jobs(filter, ["j.base", "j.adapters", "j.outcome"]);
            format!(
                "SELECT {bucket} AS bucket, r.key_id, COALESCE(r.person_id, '') AS person_id, \
                 COALESCE(r.team_id, '') AS team_id, j.base, j.adapters, j.outcome, \
                 CASE WHEN j.job_index = 0 THEN 1 ELSE 0 END AS requests, 1 AS jobs, j.prompt_tokens, j.cached_tokens, \
                 j.computed_tokens, j.delivered_tokens, j.charged_input_tokens, j.charged_output_tokens \
                 FROM usage_requests r JOIN usage_jobs j ON j.request_id = r.id \
                 WHERE r.tenant_id = {tenant} AND r.admitted_at_ms >= {from} AND r.admitted_at_ms < {to}{who}{what}"
            )
        }
    }
}

fn group(row: &QueryResult, by: &[By]) -> Result<Group, DbErr> {
    let sum = |name: &str| row.try_get::<i64>("", name);
    Ok(Group {
        bucket: row.try_get("", "bucket")?,
        names: by.iter().map(|by| row.try_get("", by.column())).collect::<Result<_, _>>()?,
        sums: Sums {
            requests: sum("requests")?,
            jobs: sum("jobs")?,
            prompt_tokens: sum("prompt_tokens")?,
            cached_tokens: sum("cached_tokens")?,
            computed_tokens: sum("computed_tokens")?,
            delivered_tokens: sum("delivered_tokens")?,
            charged_input_tokens: sum("charged_input_tokens")?,
            charged_output_tokens: sum("charged_output_tokens")?,
        },
    })
}

/// The next `limit` requests after a place, the newest first or the oldest.
pub(crate) async fn requests(
    connection: &impl ConnectionTrait,
    filter: &Filter,
    is_newest_first: bool,
    after: Option<Place>,
    limit: u64,
) -> Result<Vec<usage_requests::Model>, DbErr> {
    let mut values = Values(Vec::new());
    let tenant = values.place(filter.tenant.clone());
    let [from, to] = [filter.from_ms, filter.to_ms].map(|at_ms| values.place(at_ms));
    let who = values.conditions(filter, ["r.key_id", "r.person_id", "r.team_id"]);
    let what = values.conditions_of_jobs(filter, ["j.base", "j.adapters", "j.outcome"]);
    let what = if what.is_empty() {
        what
    } else {
        format!(" AND EXISTS (SELECT 1 FROM usage_jobs j WHERE j.request_id = r.id{what})")
    };
    let (order, follows) = if is_newest_first { ("DESC", "<") } else { ("ASC", ">") };
    let after = after.map_or_else(String::new, |(at_ms, id)| {
        let (at_ms, id) = (values.place(at_ms), values.place(id));
        format!(" AND (r.admitted_at_ms, r.id) {follows} ({at_ms}, {id})")
    });
    let query = format!(
        "SELECT r.* FROM usage_requests r WHERE r.tenant_id = {tenant} AND r.admitted_at_ms >= {from} \
         AND r.admitted_at_ms < {to}{who}{what}{after} ORDER BY r.admitted_at_ms {order}, r.id {order} LIMIT {limit}"
    );
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), query, values.0);
    usage_requests::Model::find_by_statement(statement).all(connection).await
}

/// The text of the day of a moment.
fn day_of(at_ms: i64) -> String {
    PeriodKey::day(u64::try_from(at_ms).unwrap_or_default()).to_string()
}
