//! The rows of usage, read from the database itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, Statement, TransactionTrait as _};

use crate::stack::Stack;

/// A request as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) request: String,
    /// The digest that its repeats have in common.
    pub(crate) repeat: Option<String>,
    /// Input and output tokens.
    pub(crate) charged: (i64, i64),
    /// Of its jobs, by index: outcome, computed tokens, charged ones.
    pub(crate) jobs: Vec<(String, i64, (i64, i64))>,
}

impl Row {
    /// Whether it was under way when its process died.
    pub(crate) fn is_lost(&self) -> bool {
        self.charged == (0, 0) && self.jobs.iter().all(|(outcome, ..)| outcome == "failed")
    }
}

/// The SQLite database of a data folder.
pub(crate) async fn open(data: &Path) -> DatabaseConnection {
    Database::connect(format!("sqlite://{}?mode=ro", data.join("registry.sqlite").display())).await.unwrap()
}

/// All requests that are written, by id.
pub(crate) async fn requests(db: &DatabaseConnection) -> BTreeMap<String, Row> {
    // Both tables as they are at one moment, though rows are being written.
    let db = db.begin().await.unwrap();
    let select = |sql: &str| Statement::from_string(db.get_database_backend(), sql.to_owned());
    let mut rows = BTreeMap::new();
    let requests = "SELECT id, repeat_digest, charged_input_tokens, charged_output_tokens FROM usage_requests";
    for row in db.query_all_raw(select(requests)).await.unwrap() {
        let number = |column: &str| row.try_get::<i64>("", column).unwrap();
        let request: String = row.try_get("", "id").unwrap();
        let row = Row {
            request: request.clone(),
            repeat: row.try_get("", "repeat_digest").unwrap(),
            charged: (number("charged_input_tokens"), number("charged_output_tokens")),
            jobs: Vec::new(),
        };
        rows.insert(request, row);
    }
    let jobs = "SELECT request_id, outcome, computed_tokens, charged_input_tokens, charged_output_tokens \
                FROM usage_jobs ORDER BY request_id, job_index";
    for row in db.query_all_raw(select(jobs)).await.unwrap() {
        let number = |column: &str| row.try_get::<i64>("", column).unwrap();
        let request: String = row.try_get("", "request_id").unwrap();
        let job = (
            row.try_get("", "outcome").unwrap(),
            number("computed_tokens"),
            (number("charged_input_tokens"), number("charged_output_tokens")),
        );
        rows.get_mut(&request).expect("a job has a request").jobs.push(job);
    }
    for row in rows.values() {
        let sum = row.jobs.iter().fold((0, 0), |sum, (_, _, charged)| (sum.0 + charged.0, sum.1 + charged.1));
        assert!(!row.jobs.is_empty() && sum == row.charged, "{row:?}");
    }
    rows
}

/// The totals of a level for this month, by subject.
pub(crate) async fn totals(db: &DatabaseConnection, level: &str) -> BTreeMap<String, i64> {
    let sql = format!(
        "SELECT subject_id, SUM(amount) AS amount FROM usage_totals \
         WHERE level = '{level}' AND unit = 'tokens' AND LENGTH(period) = 7 GROUP BY subject_id"
    );
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let rows = db.query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| (row.try_get("", "subject_id").unwrap(), row.try_get("", "amount").unwrap())).collect()
}

/// Waits until nothing is under way and all that was used is written and counted.
pub(crate) async fn until_settled(stack: &Stack) {
    let left = async || {
        stack.metric("souk_gateway_usage_unwritten_requests").await
            + stack.metric("souk_gateway_limits_holding_requests").await
    };
    for _ in 0..3000 {
        if left().await == 0.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} requests stay\n{}", left().await, stack.log());
}
