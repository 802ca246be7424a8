//! Comparing the sums of usage with the rows, and putting them right. Each comparison is one statement, so that it sees all
//! of one moment whoever writes meanwhile.

use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, FromQueryResult, Statement, Value};

use super::usage_days::SUMS;

/// A day of a tenant that has sums, rows, or both.
#[derive(Clone, Debug, FromQueryResult)]
pub(crate) struct Day {
    pub(crate) day: String,
    /// Above 0: rows of it may be gone.
    pub(crate) closed: i64,
}

/// A sum that is not that of its rows.
#[derive(Clone, Debug, FromQueryResult)]
pub(crate) struct Different {
    /// Whose and of what.
    pub(crate) name: String,
    /// Which of the sums.
    pub(crate) sum: String,
    /// As it is kept.
    pub(crate) kept: i64,
    /// As the rows say.
    pub(crate) counted: i64,
}

/// A total that is not that of its days.
#[derive(Clone, Debug, FromQueryResult)]
pub(crate) struct DifferentTotal {
    pub(crate) level: String,
    pub(crate) subject_id: String,
    pub(crate) period: String,
    pub(crate) kept: i64,
    pub(crate) counted: i64,
}

/// The columns by which days are summed, as rows have them.
const OF_ROWS: &str = "r.tenant_id, r.key_id, COALESCE(r.person_id, '') AS person_id, \
                       COALESCE(r.team_id, '') AS team_id, j.base, j.adapters, j.outcome";
/// What a row adds to each of [`SUMS`].
const ADDED: [&str; 8] = [
    "CASE WHEN j.job_index = 0 THEN 1 ELSE 0 END",
    "1",
    "j.prompt_tokens",
    "j.cached_tokens",
    "j.computed_tokens",
    "j.delivered_tokens",
    "j.charged_input_tokens",
    "j.charged_output_tokens",
];
const ROWS_OF_DAY: &str = "FROM usage_requests r JOIN usage_jobs j ON j.request_id = r.id \
                           WHERE r.tenant_id = $1 AND r.admitted_at_ms >= $2 AND r.admitted_at_ms < $3";
/// A millisecond's day.
const DAY_MS: i64 = 86_400_000;

/// Keeps writers of sums away until the transaction ends, so that what it counts is what there is.
pub(crate) async fn lock(connection: &impl ConnectionTrait) -> Result<(), DbErr> {
    if connection.get_database_backend() == DatabaseBackend::Postgres {
        connection.execute_unprepared("LOCK TABLE usage_days, usage_totals IN SHARE ROW EXCLUSIVE MODE").await?;
    }
    Ok(())
}

/// The days of which a tenant has sums.
pub(crate) async fn days(connection: &impl ConnectionTrait, tenant: &str) -> Result<Vec<Day>, DbErr> {
    let query = "SELECT day, CAST(MAX(closed) AS BIGINT) AS closed FROM usage_days WHERE tenant_id = $1 GROUP BY day";
    Day::find_by_statement(asked(connection, query, [tenant.into()])).all(connection).await
}

/// The days of which a tenant has rows, as their numbers since the Unix epoch.
pub(crate) async fn days_of_rows(connection: &impl ConnectionTrait, tenant: &str) -> Result<Vec<i64>, DbErr> {
    let query =
        format!("SELECT DISTINCT admitted_at_ms / {DAY_MS} AS day FROM usage_requests WHERE tenant_id = $1 ORDER BY 1");
    let rows = connection.query_all_raw(asked(connection, &query, [tenant.into()])).await?;
    rows.iter().map(|row| row.try_get("", "day")).collect()
}

/// How many rows a tenant's day has.
pub(crate) async fn num_rows(connection: &impl ConnectionTrait, of: &DayOf<'_>) -> Result<i64, DbErr> {
    let query = format!("SELECT COUNT(*) AS n {ROWS_OF_DAY}");
    let [tenant, begins, ends, _] = of.values();
    let row = connection.query_one_raw(asked(connection, &query, [tenant, begins, ends])).await?;
    row.map_or(Ok(0), |row| row.try_get("", "n"))
}

/// A day of a tenant.
pub(crate) struct DayOf<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) day: &'a str,
    pub(crate) begins_at_ms: i64,
    pub(crate) ends_at_ms: i64,
}

impl DayOf<'_> {
    fn values(&self) -> [Value; 4] {
        [self.tenant.into(), self.begins_at_ms.into(), self.ends_at_ms.into(), self.day.into()]
    }
}

/// The sums of a day that are not those of its rows.
pub(crate) async fn different(connection: &impl ConnectionTrait, of: &DayOf<'_>) -> Result<Vec<Different>, DbErr> {
    let name = "key_id || ' ' || person_id || ' ' || team_id || ' ' || base || ' ' || adapters || ' ' || outcome";
    let kept: Vec<_> = SUMS.iter().map(|sum| format!("{sum} AS k_{sum}, 0 AS c_{sum}")).collect();
    let counted: Vec<_> = ADDED.iter().map(|added| format!("0, {added}")).collect();
    let both: Vec<_> = SUMS.iter().map(|sum| format!("SUM(k_{sum}) AS k_{sum}, SUM(c_{sum}) AS c_{sum}")).collect();
    let each: Vec<_> = SUMS
        .iter()
        .map(|sum| {
            format!(
                "SELECT name, '{sum}' AS sum, CAST(k_{sum} AS BIGINT) AS kept, CAST(c_{sum} AS BIGINT) AS counted \
                 FROM both_sums WHERE k_{sum} <> c_{sum}"
            )
        })
        .collect();
    let query = format!(
        "WITH sums AS (SELECT tenant_id, key_id, person_id, team_id, base, adapters, outcome, {} FROM usage_days \
         WHERE tenant_id = $1 AND day = $4 UNION ALL SELECT {OF_ROWS}, {} {ROWS_OF_DAY}), \
         both_sums AS (SELECT {name} AS name, {} FROM sums GROUP BY {name}) {} ORDER BY 1, 2",
        kept.join(", "),
        counted.join(", "),
        both.join(", "),
        each.join(" UNION ALL ")
    );
    Different::find_by_statement(asked(connection, &query, of.values())).all(connection).await
}

/// Makes the sums of a day those of its rows.
pub(crate) async fn count_anew(connection: &impl ConnectionTrait, of: &DayOf<'_>) -> Result<(), DbErr> {
    let delete = "DELETE FROM usage_days WHERE tenant_id = $1 AND day = $2";
    connection.execute_raw(asked(connection, delete, [of.tenant.into(), of.day.into()])).await?;
    let sums: Vec<_> = ADDED.iter().map(|added| format!("SUM({added})")).collect();
    let insert = format!(
        "INSERT INTO usage_days (tenant_id, key_id, person_id, team_id, base, adapters, outcome, {}, day, closed) \
         SELECT {OF_ROWS}, {}, $4, 0 {ROWS_OF_DAY} GROUP BY r.tenant_id, r.key_id, COALESCE(r.person_id, ''), \
         COALESCE(r.team_id, ''), j.base, j.adapters, j.outcome",
        SUMS.join(", "),
        sums.join(", ")
    );
    connection.execute_raw(asked(connection, &insert, of.values())).await.map(|_| ())
}

/// The totals of a tenant that are not those of its days.
pub(crate) async fn different_totals(
    connection: &impl ConnectionTrait,
    tenant: &str,
) -> Result<Vec<DifferentTotal>, DbErr> {
    let levels = [
        ("tenant", "tenant_id", "TRUE"),
        ("team", "team_id", "team_id <> ''"),
        ("member", "tenant_id || '/' || person_id", "person_id <> ''"),
        // A session is no level of its own.
        ("key", "key_id", "SUBSTR(key_id, 1, 4) <> 'ses_'"),
    ];
    let periods = ["day", "SUBSTR(day, 1, 7)"];
    let counted = levels.iter().flat_map(|(level, subject, condition)| {
        periods.iter().map(move |period| {
            format!(
                " UNION ALL SELECT '{level}', {subject}, {period}, 0, charged_input_tokens + charged_output_tokens \
                 FROM usage_days WHERE tenant_id = $1 AND {condition}"
            )
        })
    });
    let query = format!(
        "WITH sums AS (SELECT level, subject_id, period, amount AS kept, 0 AS counted FROM usage_totals \
         WHERE tenant_id = $1 AND unit = 'tokens'{}) \
         SELECT level, subject_id, period, CAST(SUM(kept) AS BIGINT) AS kept, CAST(SUM(counted) AS BIGINT) AS counted \
         FROM sums GROUP BY level, subject_id, period HAVING SUM(kept) <> SUM(counted) ORDER BY 1, 2, 3",
        counted.collect::<String>()
    );
    DifferentTotal::find_by_statement(asked(connection, &query, [tenant.into()])).all(connection).await
}

/// Makes a total that of its days. Its version counts up, so that gateways take it for the later one.
pub(crate) async fn put_right(
    connection: &impl ConnectionTrait,
    tenant: &str,
    different: &DifferentTotal,
) -> Result<(), DbErr> {
    let upsert = "INSERT INTO usage_totals (level, subject_id, period, unit, tenant_id, amount, version, told) \
                  VALUES ($1, $2, $3, 'tokens', $4, $5, 1, 0) ON CONFLICT (level, subject_id, period, unit) \
                  DO UPDATE SET amount = excluded.amount, version = usage_totals.version + 1";
    let DifferentTotal { level, subject_id, period, counted, .. } = different;
    let values = [level.into(), subject_id.into(), period.into(), tenant.into(), (*counted).into()];
    connection.execute_raw(asked(connection, upsert, values)).await.map(|_| ())
}

fn asked(connection: &impl ConnectionTrait, query: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(connection.get_database_backend(), query, values)
}
