//! What commands about one tenant ask the server.

use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::cli::OfTenant;
use crate::client::Client;

/// All pages of a list of the tenant's.
pub(super) async fn all(of: &OfTenant, list: &str) -> anyhow::Result<Vec<Value>> {
    let tenant = of.tenant.as_ref().map(|tenant| format!("?tenant={tenant}")).unwrap_or_default();
    Client::new(&of.server)?.all(&format!("/registry/v1/{list}{tenant}")).await
}

/// A request about the tenant.
pub(super) fn request(client: &Client, of: &OfTenant, method: Method, path: &str) -> RequestBuilder {
    let request = client.request(method, &format!("/registry/v1/{path}"));
    if let Some(tenant) = &of.tenant { request.query(&[("tenant", tenant)]) } else { request }
}
