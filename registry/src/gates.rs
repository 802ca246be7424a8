//! The gates of the registry: uploads, requests under way, and places at the database. Each has a share for every tenant
//! and a reserve for those who have next to nothing (docs/limits.md). Operators pass by all but that of uploads: what they
//! do is what ends a flood, and it has connections of its own ([`crate::db::Pools`]).

use std::time::{Duration, Instant};

use souk_http::serve::Origin;
use souk_protocol::gate::{Gate, Pass, Refusal, Rules};
use souk_protocol::{Principal, Scope, TenantId};

use crate::config::RegistrySettings;
use crate::db::{TENANTS_CHANGES, TENANTS_READS};
use crate::error::RegistryError;
use crate::metrics;

/// How long a request stands in line for the database: less than a client waits, and far longer than the line takes
/// while shares hold.
const PATIENCE: Duration = Duration::from_secs(5);

/// Requests with reports of leaked keys that are under way at once, and of one address. Each takes a quarter of a second.
const REPORTS: u64 = 16;
const REPORTS_OF_ONE: u64 = 2;

/// Who holds something; callers without a key are one holder.
pub(crate) type Holder = Option<TenantId>;

/// What requests hold while they are in the registry.
#[derive(Clone)]
pub(crate) struct Gates {
    /// One for each upload, from its first byte until it is visible or undone.
    uploads: Gate<Holder>,
    /// One for each other request, from before its body is read until it is answered.
    requests: Gate<Holder>,
    /// One for each request that reads from the database, once its body is there. Who is not let in stands in line.
    reads: Gate<Holder>,
    /// The same for requests that change something. Writers of SQLite wait for each other without any order, so few are
    /// let in, and operators and uploads find their turn.
    changes: Gate<Holder>,
    /// One for each request with reports of leaked keys, from before its body is read. Those who send them have no key: they
    /// are told apart by their addresses.
    reports: Gate<Option<Origin>>,
}

/// A request that is under way.
pub(crate) struct UnderWay {
    _pass: Pass<Holder>,
}

impl Gates {
    pub(crate) fn new(settings: &RegistrySettings) -> Self {
        Self {
            uploads: gate(settings.max_concurrent_uploads as u64),
            requests: gate(settings.max_requests as u64),
            reads: gate(u64::from(TENANTS_READS)),
            changes: gate(u64::from(TENANTS_CHANGES)),
            reports: Gate::new(Rules::with_an_eighth_kept(REPORTS, 1, REPORTS_OF_ONE)),
        }
    }

    /// Lets in an upload.
    pub(crate) fn begin_upload(&self, principal: &Principal) -> Result<Pass<Holder>, RegistryError> {
        let pass = self.uploads.enter(&Some(principal.tenant.clone()), 1, Instant::now());
        pass.map_err(|refusal| refused("uploads", refusal))
    }

    /// Lets in a request.
    pub(crate) fn begin_request(&self, holder: &Holder) -> Result<UnderWay, RegistryError> {
        let pass = self.requests.enter(holder, 1, Instant::now());
        let pass = pass.map_err(|refusal| refused("requests under way", refusal))?;
        metrics::requests_under_way(1.0);
        Ok(UnderWay { _pass: pass })
    }

    /// Lets in reports of leaked keys from an address.
    pub(crate) fn begin_reports(&self, from: Option<Origin>) -> Result<Pass<Option<Origin>>, RegistryError> {
        self.reports.enter(&from, 1, Instant::now()).map_err(|refusal| refused("reports of leaked keys", refusal))
    }

    /// Waits for a place to read, unless the caller is an operator.
    pub(crate) async fn read(&self, principal: &Principal) -> Result<Option<Pass<Holder>>, RegistryError> {
        wait(&self.reads, principal, "reading requests at the database").await
    }

    /// Waits for a place to change something, unless the caller is an operator.
    pub(crate) async fn change(&self, principal: &Principal) -> Result<Option<Pass<Holder>>, RegistryError> {
        wait(&self.changes, principal, "changing requests at the database").await
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        metrics::requests_under_way(-1.0);
    }
}

fn gate(total: u64) -> Gate<Holder> {
    Gate::new(Rules::with_an_eighth_kept(total, 1, total))
}

async fn wait(
    gate: &Gate<Holder>,
    principal: &Principal,
    what: &'static str,
) -> Result<Option<Pass<Holder>>, RegistryError> {
    if principal.may(Scope::Admin) {
        return Ok(None);
    }
    let pass = gate.wait(&Some(principal.tenant.clone()), 1, PATIENCE).await;
    pass.map(Some).map_err(|refusal| refused(what, refusal))
}

fn refused(what: &'static str, refusal: Refusal) -> RegistryError {
    metrics::refused(what, refusal.cause);
    RegistryError::NotLetIn { what, refusal }
}

#[cfg(test)]
mod tests {
    use souk_protocol::{KeyId, Scope};

    use super::*;

    fn principal(tenant: &str, scope: Scope) -> Principal {
        Principal {
            tenant: TenantId::from_stored(tenant),
            tenant_name: tenant.to_owned(),
            key: KeyId::from_stored("k"),
            person: None,
            models: None,
            scopes: [scope].into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_one_tenant_holds_another_and_an_operator_are_let_in_everywhere() {
        let gates = Gates::new(&RegistrySettings::default());
        let (flood, other) = (principal("flood", Scope::AdaptersWrite), principal("other", Scope::AdaptersWrite));
        let mut held: Vec<Box<dyn std::any::Any>> = Vec::new();
        while let Ok(pass) = gates.begin_upload(&flood) {
            held.push(Box::new(pass));
        }
        while let Ok(pass) = gates.begin_request(&Some(flood.tenant.clone())) {
            held.push(Box::new(pass));
        }
        while let Ok(pass) = gates.read(&flood).await {
            held.push(Box::new(pass));
        }
        while let Ok(pass) = gates.change(&flood).await {
            held.push(Box::new(pass));
        }
        let settings = RegistrySettings::default();
        let sevenths = |total: usize| total - total / 8;
        let most = sevenths(settings.max_concurrent_uploads) + sevenths(settings.max_requests);
        assert_eq!(held.len(), most + TENANTS_READS as usize - 1 + TENANTS_CHANGES as usize - 1);
        assert!(gates.begin_upload(&other).is_ok());
        assert!(gates.begin_request(&Some(other.tenant.clone())).is_ok());
        assert!(gates.begin_request(&None).is_ok(), "callers without a key are one holder");
        assert!(gates.read(&other).await.is_ok() && gates.change(&other).await.is_ok());
        let operator = principal("flood", Scope::Admin);
        assert!(gates.read(&operator).await.is_ok() && gates.change(&operator).await.is_ok());
    }

    #[test]
    fn one_address_sends_few_reports_at_once_and_another_is_let_in_beside_it() {
        let gates = Gates::new(&RegistrySettings::default());
        let from = |text: &str| Some(Origin::of(text.parse().unwrap()));
        let held: Vec<_> = (0..REPORTS_OF_ONE).map(|_| gates.begin_reports(from("10.0.0.1")).unwrap()).collect();
        let refused = gates.begin_reports(from("10.0.0.1")).unwrap_err();
        assert!(matches!(refused, RegistryError::NotLetIn { refusal, .. } if refusal.share == REPORTS_OF_ONE));
        assert!(gates.begin_reports(from("10.0.0.2")).is_ok());
        drop(held);
        assert!(gates.begin_reports(from("10.0.0.1")).is_ok());
    }
}
