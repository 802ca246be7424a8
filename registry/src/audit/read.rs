//! Reading chains: in pages, newest first, and as an export.

use souk_protocol::{Principal, Scope};

use super::line::{Entry, FORMAT, First, Last, written};
use super::{FIRST, INSTALLATION};
use crate::Registry;
use crate::db::{AuditEntryRow, PublishedHeadRow, audit_entries, audit_heads, published_heads};
use crate::error::RegistryError;
use crate::rights::{Action, require};
use crate::slice::{Slice, wrong_cursor};

/// Entries that are read at a time for an export: about a quarter of a megabyte.
const READ_AT_ONCE: u64 = 500;

/// Whose chain is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChainRequest {
    /// A tenant's name; `None` for the caller's own.
    pub(crate) tenant: Option<String>,
    /// The installation's chain instead.
    pub(crate) installation: bool,
}

/// A chain as it was at a moment, to be read from its first entry that is left to its last.
pub(crate) struct AuditExport {
    registry: Registry,
    principal: Principal,
    chain: String,
    /// The number of the last entry that was handed out.
    at: i64,
    /// The chain's end at that moment.
    end: Last,
    is_begun: bool,
    is_over: bool,
}

impl Registry {
    /// Entries of a chain, the newest first; a sort key is a number.
    pub(crate) async fn list_audit(
        &self,
        principal: &Principal,
        request: &ChainRequest,
        slice: Slice,
    ) -> Result<Vec<AuditEntryRow>, RegistryError> {
        require(principal, Action::ListAudit)?;
        let chain = self.chain_of(principal, request).await?;
        let (limit, below) = (slice.with_one_more(), below(&slice)?);
        Ok(audit_entries::below(&self.db, &chain, below, limit).await?)
    }

    /// Published heads of a chain, the newest first; a sort key is a number.
    pub(crate) async fn list_audit_heads(
        &self,
        principal: &Principal,
        request: &ChainRequest,
        slice: Slice,
    ) -> Result<Vec<PublishedHeadRow>, RegistryError> {
        require(principal, Action::ListAuditHeads)?;
        let chain = self.chain_of(principal, request).await?;
        let (limit, below) = (slice.with_one_more(), below(&slice)?);
        Ok(published_heads::below(&self.db, &chain, below, limit).await?)
    }

    /// Begins to read a whole chain.
    pub(crate) async fn export_audit(
        &self,
        principal: &Principal,
        request: &ChainRequest,
    ) -> Result<AuditExport, RegistryError> {
        require(principal, Action::ExportAudit)?;
        let chain = self.chain_of(principal, request).await?;
        self.audit_export(principal.clone(), chain).await
    }

    /// The same for a chain whose reader has been looked at.
    pub(crate) async fn audit_export(&self, principal: Principal, chain: String) -> Result<AuditExport, RegistryError> {
        let head = audit_heads::get(&self.db, &chain).await?;
        let end = head.map_or((0, FIRST.to_owned()), |head| (head.number, head.hash));
        let end = Last { end: end.0, hash: end.1 };
        Ok(AuditExport { registry: self.clone(), principal, chain, at: 0, end, is_begun: false, is_over: false })
    }

    /// The chain that is meant, if the caller may read it: its tenant's own, or with the scope `admin` any.
    async fn chain_of(&self, principal: &Principal, request: &ChainRequest) -> Result<String, RegistryError> {
        if request.installation {
            return if principal.may(Scope::Admin) {
                Ok(INSTALLATION.to_owned())
            } else {
                Err(RegistryError::MissingScope(Scope::Admin))
            };
        }
        Ok(self.tenant_meant(principal, request.tenant.as_deref()).await?.to_string())
    }
}

impl AuditExport {
    /// The next lines; `None` after the last. Each piece takes the caller's turn at the database anew, so that a long
    /// export keeps nobody from it.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, RegistryError> {
        if self.is_over {
            return Ok(None);
        }
        let _turn = self.registry.gates.read(&self.principal).await?;
        let mut text = String::new();
        if !std::mem::replace(&mut self.is_begun, true) {
            text.push_str(&written(&self.begin().await?));
        }
        let rows = audit_entries::above(&self.registry.db, &self.chain, self.at, self.end.end, READ_AT_ONCE).await?;
        let is_empty = rows.is_empty();
        for row in rows {
            if row.number != self.at + 1 {
                return Err(removed_meanwhile());
            }
            self.at = row.number;
            text.push_str(&written(&Entry::from(row)));
        }
        if self.at == self.end.end {
            self.is_over = true;
            text.push_str(&written(&self.end));
        } else if is_empty {
            return Err(removed_meanwhile());
        }
        Ok(Some(text))
    }

    /// The first line. Where entries are kept no longer, the export begins after a published head: the collector may be at
    /// removing what comes before it.
    async fn begin(&mut self) -> Result<First, RegistryError> {
        let (after, after_hash) = match audit_entries::lowest(&self.registry.db, &self.chain).await? {
            None => (self.end.end, self.end.hash.clone()),
            Some(1) => (0, FIRST.to_owned()),
            Some(lowest) => {
                let head = published_heads::lowest_from(&self.registry.db, &self.chain, lowest - 1).await?;
                // Without one, entries were removed by hand; the line says so to whoever verifies it.
                head.map_or_else(|| (lowest - 1, FIRST.to_owned()), |head| (head.number, head.hash))
            }
        };
        self.at = after;
        Ok(First { souk_audit: FORMAT, chain: self.chain.clone(), after, after_hash })
    }
}

/// The collector has removed entries since the export began, which ends it: what was handed out has no end.
fn removed_meanwhile() -> RegistryError {
    RegistryError::Storage(std::io::Error::other("entries were removed while they were exported"))
}

/// The number below which a page begins.
fn below(slice: &Slice) -> Result<Option<i64>, RegistryError> {
    slice.after.as_deref().map(str::parse).transpose().map_err(|_| wrong_cursor())
}
