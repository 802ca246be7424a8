//! All that is a tenant's, as JSON lines: a head, a row a line, and an end with a digest. Of adapters it has the digests of
//! their files and where to fetch them; of secrets nothing.

use sea_orm::Value as SqlValue;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use souk_protocol::{Digest, Principal};
use time::format_description::well_known::Rfc3339;

use crate::Registry;
use crate::db::data_map::TABLES;
use crate::db::{TenantRow, moment, now_ms, tenants};
use crate::error::RegistryError;
use crate::rights::{Action, require};

/// Rows that are read at a time.
const READ_AT_ONCE: u64 = 200;
/// The version of the format.
const FORMAT: u32 = 1;

/// An export under way.
pub(crate) struct TenantExport {
    registry: Registry,
    principal: Principal,
    tenant: TenantRow,
    /// Which table is read, and after which key.
    at: (usize, Option<Vec<SqlValue>>),
    num_rows: u64,
    sha256: Sha256,
    is_begun: bool,
    is_over: bool,
}

impl Registry {
    /// Begins to read all that is a tenant's: the caller's own, or for an operator the one named.
    pub(crate) async fn export_tenant(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
    ) -> Result<TenantExport, RegistryError> {
        require(principal, Action::ExportTenant)?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        let not_found = || RegistryError::NotFound { what: "tenant", name: tenant.to_string() };
        let tenant = tenants::of_id(&self.db, &tenant).await?.ok_or_else(not_found)?;
        Ok(TenantExport {
            registry: self.clone(),
            principal: principal.clone(),
            tenant,
            at: (0, None),
            num_rows: 0,
            sha256: Sha256::new(),
            is_begun: false,
            is_over: false,
        })
    }
}

impl TenantExport {
    /// The next lines; `None` after the last. Each piece takes the caller's turn at the database anew.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, RegistryError> {
        if self.is_over {
            return Ok(None);
        }
        let mut text = String::new();
        if !std::mem::replace(&mut self.is_begun, true) {
            let at = moment(now_ms()).format(&Rfc3339).unwrap_or_default();
            let TenantRow { id, name, .. } = &self.tenant;
            push(&mut text, &json!({ "souk_export": FORMAT, "tenant": name, "tenant_id": id, "at": at }));
        }
        let (index, after) = std::mem::take(&mut self.at);
        if let Some(table) = TABLES.get(index) {
            let _turn = self.registry.gates.read(&self.principal).await?;
            let rows = table.rows(&self.registry.db, &self.tenant.tenant(), after, READ_AT_ONCE).await?;
            let last = rows.last().map(|(key, _)| key.clone());
            self.at = if rows.len() as u64 == READ_AT_ONCE { (index, last) } else { (index + 1, None) };
            self.num_rows += rows.len() as u64;
            for (_, row) in rows {
                push(&mut text, &json!({ "table": table.name, "row": row }));
            }
            self.sha256.update(text.as_bytes());
        } else {
            self.is_over = true;
            let digest = Digest::from_bytes(self.sha256.clone().finalize().into());
            push(&mut text, &json!({ "end": { "rows": self.num_rows, "digest": digest.to_string() } }));
        }
        Ok(Some(text))
    }
}

fn push(text: &mut String, line: &Value) {
    text.push_str(&line.to_string());
    text.push('\n');
}
