//! `souk keys`: create, list and revoke API keys.

use std::process::ExitCode;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::KeysCommand;
use crate::client::Client;
use crate::terminal;

pub(crate) async fn run(command: KeysCommand) -> anyhow::Result<ExitCode> {
    match command {
        KeysCommand::Create { server, name, scopes, tenant } => {
            let client = Client::new(&server)?;
            let mut body = json!({ "name": name, "scopes": scopes });
            if let Some(tenant) = tenant {
                body["tenant"] = Value::String(tenant);
            }
            let key: Value = client.json(client.request(Method::POST, "/registry/v1/keys").json(&body)).await?;
            let secret = key.get("secret").and_then(Value::as_str).context("the server's answer has no secret")?;
            terminal::note("This secret is shown once:");
            terminal::line(secret)?;
        }
        KeysCommand::List { server } => {
            let client = Client::new(&server)?;
            let keys: Value = client.json(client.request(Method::GET, "/registry/v1/keys")).await?;
            let rows: Vec<Vec<String>> =
                keys.get("data").and_then(Value::as_array).into_iter().flatten().map(key_row).collect();
            terminal::table(&["ID", "NAME", "SCOPES", "STATE"], &rows)?;
        }
        KeysCommand::Revoke { server, id } => {
            let client = Client::new(&server)?;
            client.send(client.request(Method::DELETE, &format!("/registry/v1/keys/{id}"))).await?;
            terminal::line(&format!("Revoked {id}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn key_row(key: &Value) -> Vec<String> {
    let text = |field: &str| key.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let scopes: Vec<&str> =
        key.get("scopes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let state = if key.get("revoked_at").is_some_and(|at| !at.is_null()) { "revoked" } else { "active" };
    vec![text("id"), text("name"), scopes.join(" "), state.to_owned()]
}
