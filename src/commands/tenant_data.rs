//! `souk tenants export` and `souk tenants erase`: all that is a tenant's, and its end.

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::download::save;
use crate::cli::{EraseTenantArgs, ExportTenantArgs};
use crate::client::Client;
use crate::terminal;

/// Writes an export, and fails if it broke off.
pub(super) async fn export(arguments: ExportTenantArgs) -> anyhow::Result<()> {
    let client = Client::new(&arguments.server)?;
    let mut request = client.request(Method::GET, "/registry/v1/export");
    if let Some(tenant) = &arguments.tenant {
        request = request.query(&[("tenant", tenant)]);
    }
    let last = save(client.send(request).await?, arguments.out.as_deref()).await?;
    ensure!(last.starts_with(br#"{"end":"#), "the export broke off: its last line is missing");
    Ok(())
}

/// Asks for a tenant's erasure, or takes that back.
pub(super) async fn erase(arguments: EraseTenantArgs) -> anyhow::Result<()> {
    let client = Client::new(&arguments.server)?;
    let (name, path) = (&arguments.name, format!("/registry/v1/tenants/{}/erasure", arguments.name));
    if arguments.cancel {
        client.send(client.request(Method::DELETE, &path)).await?;
        let text = format!("Tenant {name} is not to be erased");
        let told = if arguments.json { terminal::json(&json!({ "cancelled": name })) } else { terminal::line(&text) };
        return Ok(told?);
    }
    let body = arguments.due.map_or_else(|| json!({}), |due| json!({ "due_at": due }));
    let erasure: Value = client.json(client.request(Method::POST, &path).json(&body)).await?;
    if arguments.json {
        return Ok(terminal::json(&erasure)?);
    }
    let due = erasure["due_at"].as_str().context("the server's answer has no moment")?;
    terminal::line(&format!(
        "Tenant {name} is erased from {due} on; `souk tenants erase {name} --cancel` takes it back"
    ))?;
    Ok(())
}
