//! Webhooks: what happens in a tenant is told to addresses that its owner names.
//!
//! An event is a row of the outbox, and each endpoint that wants it has a row for its delivery; both are written in the
//! transaction of the change ([`crate::events`]). Every registry delivers ([`deliver`]): it claims a row that is due by putting
//! off when it is due next, so that a registry that dies leaves it to the others, and two never have it at once. A delivery is
//! made at least once: who takes it looks at `webhook-id`.

mod address;
mod deliver;
mod deliveries;
mod secrets;
mod send;
mod settings;
mod sign;

use reqwest::Url;
use sea_orm::DatabaseTransaction;
use serde::Serialize;
use serde_json::{Value, json};
use souk_protocol::Principal;
use uuid::Uuid;

use crate::Registry;
use crate::audit::{self, Act, Actor};
use crate::db::webhook_endpoints::{self, ENABLED, PAUSED};
use crate::db::{WebhookEndpointRow, begin_write_of, ms_in, now_ms, tenants};
use crate::error::{Finding, RegistryError};
use crate::events::Kind;
use crate::idempotency::Once;
use crate::rights::{Action, require};
use crate::slice::Slice;

use address::Reachable;

pub(crate) use deliver::Deliverer;
pub(crate) use deliveries::DeliveryDetails;
pub(crate) use secrets::reseal;
pub use settings::WebhookSettings;
pub(crate) use sign::WebhookSecret;

/// Longest address.
const MAX_URL_CHARS: usize = 2000;
/// Longest description.
const MAX_DESCRIPTION_CHARS: usize = 200;

/// An endpoint as a caller asks for it, unchecked; what is `None` is left as it is, or takes its default.
#[derive(Debug, Default)]
pub(crate) struct EndpointRequest {
    pub(crate) url: Option<String>,
    pub(crate) description: Option<String>,
    /// Kinds of events, by name; none for all, of those too that there will be.
    pub(crate) kinds: Option<Vec<String>>,
    /// Whether it gets anything.
    pub(crate) enabled: Option<bool>,
}

impl Registry {
    /// Makes an endpoint; its secret is shown this once. `shape` makes the answer that is kept for an `Idempotency-Key`.
    pub(crate) async fn create_webhook<A: Serialize>(
        &self,
        principal: &Principal,
        request: EndpointRequest,
        once: &Once,
        shape: impl FnOnce(WebhookEndpointRow) -> A,
    ) -> Result<(WebhookEndpointRow, WebhookSecret), RegistryError> {
        require(principal, Action::CreateWebhook)?;
        let mut findings = self.check_endpoint(&request);
        if request.url.is_none() {
            findings.push(Finding::field("url", "where events are to be sent, given nothing"));
        }
        RegistryError::unless_valid(findings)?;
        let (tenant, secret) = (&principal.tenant, WebhookSecret::generate());
        let (id, now_ms) = (format!("whk_{}", Uuid::now_v7().simple()), now_ms());
        let sealed = self.seals.close(secret.bytes(), &id);
        let row = WebhookEndpointRow {
            tenant_id: tenant.to_string(),
            url: request.url.unwrap_or_default(),
            description: request.description.unwrap_or_default(),
            kinds: request.kinds.unwrap_or_default().join(" "),
            sealed_secret: sealed.bytes,
            seal_version: sealed.version,
            sealed_secret_before: None,
            seal_version_before: None,
            secret_before_until_ms: None,
            state: if request.enabled.unwrap_or(true) { ENABLED } else { PAUSED }.to_owned(),
            paused_reason: None,
            failing_since_ms: None,
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
            id,
        };
        let transaction = begin_write_of(&self.db, tenant).await?;
        tenants::lock(&transaction, tenant).await?;
        let given = webhook_endpoints::count_of(&transaction, tenant).await?;
        let limit = self.config.settings.webhooks.max_endpoints_per_tenant;
        RegistryError::unless_fewer(given, limit, |given, limit| {
            let of = format!("`{}`", principal.tenant_name);
            let setting = "registry.webhooks.max_endpoints_per_tenant";
            RegistryError::TooMany { what: "webhooks", of, setting, limit, given, remedy: "delete one first" }
        })?;
        webhook_endpoints::insert(&transaction, row.clone()).await?;
        note(&transaction, principal, &row, "webhook.created", json!({ "kinds": row.kinds })).await?;
        once.keep_in(&transaction, || shape(row.clone())).await?;
        transaction.commit().await?;
        Ok((row, secret))
    }

    /// The tenant's endpoints, by id.
    pub(crate) async fn list_webhooks(
        &self,
        principal: &Principal,
        slice: Slice,
    ) -> Result<Vec<WebhookEndpointRow>, RegistryError> {
        require(principal, Action::ListWebhooks)?;
        let limit = slice.with_one_more();
        Ok(webhook_endpoints::list(&self.db, &principal.tenant, slice.after, limit).await?)
    }

    /// One endpoint.
    pub(crate) async fn get_webhook(
        &self,
        principal: &Principal,
        id: &str,
    ) -> Result<WebhookEndpointRow, RegistryError> {
        require(principal, Action::GetWebhook)?;
        self.webhook_of(principal, id).await
    }

    /// Changes an endpoint. One that is enabled again begins anew: what waits for it is delivered.
    pub(crate) async fn update_webhook(
        &self,
        principal: &Principal,
        id: &str,
        request: EndpointRequest,
    ) -> Result<WebhookEndpointRow, RegistryError> {
        require(principal, Action::UpdateWebhook)?;
        RegistryError::unless_valid(self.check_endpoint(&request))?;
        let transaction = begin_write_of(&self.db, &principal.tenant).await?;
        let mut row = live(&transaction, principal, id).await?;
        let mut changes = json!({});
        if let Some(url) = request.url {
            row.url = url;
            changes["url"] = json!("changed");
        }
        if let Some(description) = request.description {
            row.description = description;
            changes["description"] = json!("changed");
        }
        if let Some(kinds) = request.kinds {
            row.kinds = kinds.join(" ");
            changes["kinds"] = json!(row.kinds);
        }
        if let Some(is_enabled) = request.enabled {
            row.state = if is_enabled { ENABLED } else { PAUSED }.to_owned();
            (row.paused_reason, row.failing_since_ms) = (None, None);
            changes["state"] = json!(row.state);
        }
        row.updated_at_ms = now_ms();
        webhook_endpoints::update(&transaction, row.clone()).await?;
        note(&transaction, principal, &row, "webhook.updated", changes).await?;
        transaction.commit().await?;
        Ok(row)
    }

    /// Deletes an endpoint: nothing is delivered to it any more, and its secrets are gone at once. Its deliveries go with the
    /// collector.
    pub(crate) async fn delete_webhook(&self, principal: &Principal, id: &str) -> Result<(), RegistryError> {
        require(principal, Action::DeleteWebhook)?;
        let transaction = begin_write_of(&self.db, &principal.tenant).await?;
        let row = live(&transaction, principal, id).await?;
        webhook_endpoints::delete(&transaction, &row.id).await?;
        note(&transaction, principal, &row, "webhook.deleted", json!({})).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Gives an endpoint another secret; the one before signs too for a while, so that who takes deliveries can change it
    /// without missing one. The one before that does not.
    pub(crate) async fn rotate_webhook_secret(
        &self,
        principal: &Principal,
        id: &str,
    ) -> Result<(WebhookEndpointRow, WebhookSecret), RegistryError> {
        require(principal, Action::RotateWebhookSecret)?;
        let secret = WebhookSecret::generate();
        let transaction = begin_write_of(&self.db, &principal.tenant).await?;
        let mut row = live(&transaction, principal, id).await?;
        let sealed = self.seals.close(secret.bytes(), &row.id);
        row.sealed_secret_before = Some(std::mem::replace(&mut row.sealed_secret, sealed.bytes));
        row.seal_version_before = Some(std::mem::replace(&mut row.seal_version, sealed.version));
        row.secret_before_until_ms = Some(ms_in(self.config.settings.webhooks.secret_overlap));
        row.updated_at_ms = now_ms();
        webhook_endpoints::update(&transaction, row.clone()).await?;
        let details = json!({ "secret_before_until_ms": row.secret_before_until_ms });
        note(&transaction, principal, &row, "webhook.secret_rotated", details).await?;
        transaction.commit().await?;
        Ok((row, secret))
    }

    /// An endpoint of the caller's tenant; another's does not exist.
    async fn webhook_of(&self, principal: &Principal, id: &str) -> Result<WebhookEndpointRow, RegistryError> {
        let found = webhook_endpoints::get(&self.db, &principal.tenant, id).await?;
        found.ok_or_else(|| webhook_not_found(id))
    }

    fn check_endpoint(&self, request: &EndpointRequest) -> Vec<Finding> {
        let settings = &self.config.settings.webhooks;
        let reachable = Reachable::new(settings.allowed_networks.clone());
        let url = request.url.as_deref().and_then(|url| check_url(url, settings.allow_http, &reachable));
        let mut findings: Vec<_> = url.into_iter().map(|message| Finding::field("url", message)).collect();
        let num_chars = request.description.as_deref().map_or(0, |text| text.chars().count());
        if num_chars > MAX_DESCRIPTION_CHARS {
            let message = format!("at most {MAX_DESCRIPTION_CHARS} characters, given {num_chars}");
            findings.push(Finding::field("description", message));
        }
        for (index, name) in request.kinds.iter().flatten().enumerate() {
            if Kind::named(name).is_none() {
                let known = Kind::ALL.map(Kind::as_str).join(", ");
                let given: String = name.chars().take(80).collect();
                let message = format!("one of {known}, given `{given}`");
                findings.push(Finding::field(format!("kinds[{index}]"), message));
            }
        }
        findings
    }
}

/// What is wrong with an address.
fn check_url(text: &str, allow_http: bool, reachable: &Reachable) -> Option<String> {
    let num_chars = text.chars().count();
    if num_chars > MAX_URL_CHARS {
        return Some(format!("at most {MAX_URL_CHARS} characters, given {num_chars}"));
    }
    let given: String = text.chars().take(80).collect();
    let Ok(url) = Url::parse(text) else {
        return Some(format!("an address such as https://example.com/hook, given `{given}`"));
    };
    let is_known = url.scheme() == "https" || (url.scheme() == "http" && allow_http);
    if !is_known || url.cannot_be_a_base() {
        let setting =
            if allow_http { "https or http" } else { "https (http takes the setting registry.webhooks.allow_http)" };
        return Some(format!("an address with {setting}, given `{given}`"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Some("an address without a user, a password and a fragment".to_owned());
    }
    let is_refused = reachable.check_host(url.host_str().unwrap_or_default()).is_err();
    is_refused.then(|| "at a public address; the setting registry.webhooks.allowed_networks allows others".to_owned())
}

/// An endpoint of the caller's tenant, in the transaction that changes it.
async fn live(
    transaction: &DatabaseTransaction,
    principal: &Principal,
    id: &str,
) -> Result<WebhookEndpointRow, RegistryError> {
    let found = webhook_endpoints::get(transaction, &principal.tenant, id).await?;
    found.ok_or_else(|| webhook_not_found(id))
}

fn webhook_not_found(id: &str) -> RegistryError {
    RegistryError::NotFound { what: "webhook", name: id.to_owned() }
}

async fn note(
    transaction: &DatabaseTransaction,
    principal: &Principal,
    row: &WebhookEndpointRow,
    action: &'static str,
    details: Value,
) -> Result<(), RegistryError> {
    let act = Act { tenant_id: &row.tenant_id, action, subject: &row.id, details };
    Ok(audit::append(transaction, Actor::of(principal), act).await?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_is_refused_with_what_is_wrong_with_it() {
        let check = |url: &str, allow_http| check_url(url, allow_http, &Reachable::default());
        for good in ["https://example.com/hook?x=1", "https://1.1.1.1:8443/", "https://[2606:4700::1111]/"] {
            assert_eq!(check(good, false), None, "{good}");
        }
        assert_eq!(check("http://example.com/", true), None);
        for (bad, told) in [
            ("http://example.com/", "registry.webhooks.allow_http"),
            ("ftp://example.com/", "https"),
            ("example.com", "such as https://"),
            ("data:text/plain,x", "https"),
            ("https://user:secret@example.com/", "without a user"),
            ("https://example.com/#x", "without a user"),
            ("https://127.0.0.1/", "allowed_networks"),
            ("https://0x7f000001/", "allowed_networks"),
            ("https://[::ffff:10.0.0.1]/", "allowed_networks"),
        ] {
            let finding = check(bad, false).unwrap();
            assert!(finding.contains(told) && !finding.contains("secret"), "{bad}: {finding}");
        }
        assert!(check(&format!("https://example.com/{}", "a".repeat(2000)), false).unwrap().contains("2020"));
    }

    proptest! {
        #[test]
        fn any_text_is_answered_and_what_is_let_in_is_https_at_no_local_address(text in any::<String>(), host in "[0-9a-fx.:\\[\\]]{1,20}") {
            for url in [text, format!("https://{host}/")] {
                if check_url(&url, false, &Reachable::default()).is_none() {
                    let url = Url::parse(&url).unwrap();
                    prop_assert_eq!(url.scheme(), "https");
                    prop_assert!(Reachable::default().check_host(url.host_str().unwrap()).is_ok());
                }
            }
        }
    }
}
