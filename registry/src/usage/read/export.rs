//! Requests as lines of CSV, a job a line.

use std::fmt::Write as _;

use souk_protocol::Principal;
use time::format_description::well_known::Rfc3339;

use super::asked::{Asked, Grain};
use super::names::{Names, digests};
use super::requests::UsedRequest;
use crate::Registry;
use crate::db::usage_reading::{Filter, Place};
use crate::db::{UsageJobRow, moment};
use crate::error::RegistryError;
use crate::rights::{Action, require};

/// Requests that are read at a time.
const READ_AT_ONCE: u64 = 500;

/// The columns; docs/usage.md says what is in them. Addresses of persons are in none.
const COLUMNS: [&str; 24] = [
    "request",
    "job",
    "admitted_at",
    "ended_at",
    "key_id",
    "key_name",
    "member_id",
    "team_id",
    "team_name",
    "operation",
    "model",
    "base",
    "base_name",
    "adapters",
    "outcome",
    "prompt_tokens",
    "cached_tokens",
    "computed_tokens",
    "delivered_tokens",
    "charged_input_tokens",
    "charged_output_tokens",
    "attempts",
    "first_token_ms",
    "took_ms",
];

/// An export under way.
pub(crate) struct UsageExport {
    registry: Registry,
    principal: Principal,
    filter: Filter,
    after: Option<Place>,
    is_begun: bool,
    is_over: bool,
}

impl Registry {
    /// Begins to export the requests that are asked for, the oldest first.
    pub(crate) async fn export_usage(
        &self,
        principal: &Principal,
        asked: &Asked,
    ) -> Result<UsageExport, RegistryError> {
        require(principal, Action::ExportUsage)?;
        let filter = self.usage_filter(principal, asked, Grain::Moments).await?;
        let (registry, principal) = (self.clone(), principal.clone());
        Ok(UsageExport { registry, principal, filter, after: None, is_begun: false, is_over: false })
    }
}

impl UsageExport {
    /// The next lines; `None` after the last. Each piece takes the caller's turn at the database anew, so that a long export
    /// keeps nobody from it.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, RegistryError> {
        if self.is_over {
            return Ok(None);
        }
        let _turn = self.registry.gates.read(&self.principal).await?;
        let mut text = String::new();
        if !std::mem::replace(&mut self.is_begun, true) {
            push_line(&mut text, &COLUMNS.map(str::to_owned));
        }
        let after = self.after.take();
        let (requests, names) =
            self.registry.exported_requests(&self.principal, &self.filter, after, READ_AT_ONCE).await?;
        self.is_over = (requests.len() as u64) < READ_AT_ONCE;
        self.after = requests.last().map(|last| (last.row.admitted_at_ms, last.row.id.clone()));
        for request in &requests {
            for job in &request.jobs {
                push_line(&mut text, &line(request, job, &names));
            }
        }
        Ok(Some(text))
    }
}

fn line(UsedRequest { row, .. }: &UsedRequest, job: &UsageJobRow, names: &Names) -> [String; 24] {
    let at = |at_ms: i64| moment(at_ms).format(&Rfc3339).unwrap_or_default();
    let name = |names: &std::collections::HashMap<String, String>, id: &str| names.get(id).cloned().unwrap_or_default();
    let team = row.team_id.clone().unwrap_or_default();
    let adapters: Vec<_> = digests(&job.adapters).iter().map(|digest| names.adapter(digest)).collect();
    [
        row.id.clone(),
        job.job_index.to_string(),
        at(row.admitted_at_ms),
        at(row.ended_at_ms),
        row.key_id.clone(),
        name(&names.keys, &row.key_id),
        row.person_id.clone().unwrap_or_default(),
        team.clone(),
        name(&names.teams, &team),
        row.operation.clone(),
        row.model.clone(),
        job.base.clone(),
        name(&names.bases, &job.base),
        adapters.join(" "),
        job.outcome.clone(),
        job.prompt_tokens.to_string(),
        job.cached_tokens.to_string(),
        job.computed_tokens.to_string(),
        job.delivered_tokens.to_string(),
        job.charged_input_tokens.to_string(),
        job.charged_output_tokens.to_string(),
        job.attempts.to_string(),
        job.first_token_ms.map(|ms| ms.to_string()).unwrap_or_default(),
        job.took_ms.to_string(),
    ]
}

/// A line as RFC 4180 writes it.
fn push_line<const N: usize>(text: &mut String, cells: &[String; N]) {
    for (number, cell) in cells.iter().enumerate() {
        if number > 0 {
            text.push(',');
        }
        push_cell(text, cell);
    }
    text.push_str("\r\n");
}

/// A cell. One that a spreadsheet would take for a formula begins with an apostrophe, since what stands in it may be a stranger's
/// text.
fn push_cell(text: &mut String, cell: &str) {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let guard = if is_formula { "'" } else { "" };
    if cell.contains([',', '"', '\r', '\n']) || is_formula {
        // A String takes whatever is written.
        let _ = write!(text, "\"{guard}{}\"", cell.replace('"', "\"\""));
    } else {
        text.push_str(cell);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(cells: &[&str]) -> String {
        let mut text = String::new();
        for cell in cells {
            push_line(&mut text, &[(*cell).to_owned(), "x".to_owned()]);
        }
        text
    }

    /// The first cells of lines, as RFC 4180 reads them.
    fn read(text: &str) -> Vec<String> {
        let (mut cells, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let mut cell = String::new();
            if let Some(quoted) = rest.strip_prefix('"') {
                rest = quoted;
                loop {
                    let (before, after) = rest.split_once('"').expect("it ends");
                    cell.push_str(before);
                    rest = after;
                    match rest.strip_prefix('"') {
                        Some(more) => {
                            cell.push('"');
                            rest = more;
                        }
                        None => break,
                    }
                }
            } else {
                let (before, _) = rest.split_once(',').expect("two cells");
                cell.push_str(before);
                rest = &rest[before.len()..];
            }
            rest = rest.strip_prefix(",x\r\n").expect("the other cell");
            cells.push(cell);
        }
        cells
    }

    #[test]
    fn what_a_spreadsheet_would_compute_is_text() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            assert_eq!(read(&written(&[formula])), [format!("'{formula}")]);
        }
        assert_eq!(written(&["a,b", "a\"b", "plain"]), "\"a,b\",x\r\n\"a\"\"b\",x\r\nplain,x\r\n");
    }

    proptest! {
        #[test]
        fn every_text_reads_back_but_for_the_apostrophe_before_a_formula(
            cells in prop::collection::vec("[ -~éß\r\n\t\"',=+@-]{0,12}", 1..6),
        ) {
            let cells: Vec<_> = cells.iter().map(String::as_str).collect();
            let found = read(&written(&cells));
            prop_assert_eq!(found.len(), cells.len());
            for (found, cell) in found.iter().zip(&cells) {
                prop_assert!(found == cell || *found == format!("'{cell}"), "{found:?} {cell:?}");
                prop_assert!(!found.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']));
            }
        }
    }
}
