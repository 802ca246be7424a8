//! `souk services`: create, list and revoke the keys of services that call registries.

use std::process::ExitCode;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use souk_protocol::ServiceKind;

use crate::cli::ServicesCommand;
use crate::client::Client;
use crate::terminal;

pub(crate) async fn run(command: ServicesCommand) -> anyhow::Result<ExitCode> {
    match command {
        ServicesCommand::Create { server, name, kind, json: as_json } => {
            let asked = json!({ "name": name, "kind": ServiceKind::from(kind) });
            let client = Client::new(&server)?;
            let request = client.request(Method::POST, "/registry/v1/services").json(&asked);
            let made: Value = client.json(request).await?;
            if as_json {
                terminal::json(&made)?;
            } else {
                let secret = made.get("secret").and_then(Value::as_str).context("the server's answer has no secret")?;
                terminal::note("This secret is shown once:");
                terminal::line(secret)?;
            }
        }
        ServicesCommand::List { server, json } => {
            let services = all(&Client::new(&server)?).await?;
            if json {
                terminal::line(&serde_json::to_string_pretty(&services)?)?;
            } else {
                let rows: Vec<Vec<String>> = services.iter().map(row).collect();
                terminal::table(&["ID", "NAME", "KIND", "STATE"], &rows)?;
            }
        }
        ServicesCommand::Revoke { server, id, json: as_json } => {
            let client = Client::new(&server)?;
            client.send(client.request(Method::DELETE, &format!("/registry/v1/services/{id}"))).await?;
            if as_json { terminal::json(&json!({ "revoked": id }))? } else { terminal::line(&format!("Revoked {id}"))? }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// All pages.
async fn all(client: &Client) -> anyhow::Result<Vec<Value>> {
    let (mut services, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut request = client.request(Method::GET, "/registry/v1/services").query(&[("limit", "100")]);
        if let Some(cursor) = &cursor {
            request = request.query(&[("cursor", cursor)]);
        }
        let mut page: Value = client.json(request).await?;
        if let Some(Value::Array(data)) = page.get_mut("data").map(Value::take) {
            services.extend(data);
        }
        cursor = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() {
            return Ok(services);
        }
    }
}

fn row(service: &Value) -> Vec<String> {
    let text = |field: &str| service.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let state = if service.get("revoked_at").is_some_and(|at| !at.is_null()) { "revoked" } else { "active" };
    vec![text("id"), text("name"), text("kind"), state.to_owned()]
}
