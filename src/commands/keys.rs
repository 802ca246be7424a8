//! `souk keys`: create, list and revoke API keys; make a new admin key on the host.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use souk_registry::{RegistryConfig, recover_admin_key};

use crate::cli::KeysCommand;
use crate::client::Client;
use crate::config::Config;
use crate::private_file::PrivateFile;
use crate::{telemetry, terminal};

pub(crate) async fn run(config: &Config, command: KeysCommand) -> anyhow::Result<ExitCode> {
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
        KeysCommand::Revoke { server, id, keep_made } => {
            let client = Client::new(&server)?;
            let made = if keep_made { "?made_keys=keep" } else { "" };
            client.send(client.request(Method::DELETE, &format!("/registry/v1/keys/{id}{made}"))).await?;
            terminal::line(&format!("Revoked {id}"))?;
        }
        KeysCommand::Recover { data_dir, admin_key_file } => {
            telemetry::start_logging(config)?;
            let data_dir = data_dir.map_or_else(|| config.data_dir(), Ok)?;
            recover(&config.registry(data_dir), admin_key_file.as_deref()).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn recover(registry: &RegistryConfig, file: Option<&Path>) -> anyhow::Result<()> {
    // Opened first: a key that could then not be written would be lost again.
    let file = file.map(PrivateFile::open).transpose()?;
    let key = recover_admin_key(registry).await.context("no admin key was made")?;
    match file {
        Some(file) => file.write(key.expose())?,
        None => {
            terminal::note("This is an admin key. It is shown once; keep it:");
            terminal::line(key.expose())?;
        }
    }
    terminal::note(
        "`souk keys list` shows all keys; `souk keys revoke ID` ends one that was lost and those that were made with it, with --keep-made it alone.",
    );
    Ok(())
}

fn key_row(key: &Value) -> Vec<String> {
    let text = |field: &str| key.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let scopes: Vec<&str> =
        key.get("scopes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let state = if key.get("revoked_at").is_some_and(|at| !at.is_null()) { "revoked" } else { "active" };
    vec![text("id"), text("name"), scopes.join(" "), state.to_owned()]
}
