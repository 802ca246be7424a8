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
use crate::terminal::cell;
use crate::{telemetry, terminal};

pub(crate) async fn run(config: &Config, command: KeysCommand) -> anyhow::Result<ExitCode> {
    match command {
        KeysCommand::Create { server, name, scopes, models, service, personal, expires_at, tenant, json } => {
            let mut body = json!({ "name": name, "scopes": scopes, "expires_at": expires_at, "tenant": tenant });
            if service || personal {
                body["kind"] = json!(if service { "service" } else { "personal" });
            }
            if !models.is_empty() {
                body["models"] = json!(models);
            }
            let client = Client::new(&server)?;
            let key: Value = client.json(client.request(Method::POST, "/registry/v1/keys").json(&body)).await?;
            show_secret(&key, json)?;
        }
        KeysCommand::List { server, tenant, json } => {
            let keys = Client::new(&server)?.all(&of_tenant("/registry/v1/keys", tenant.as_deref())).await?;
            show_keys(&keys, json)?;
        }
        KeysCommand::Rotate { server, id, overlap_s, json } => {
            let client = Client::new(&server)?;
            let path = format!("/registry/v1/keys/{id}/rotate");
            let request = client.request(Method::POST, &path).json(&json!({ "overlap_s": overlap_s }));
            let key: Value = client.json(request).await?;
            show_secret(&key, json)?;
            terminal::note(&format!("The old key {id} ends at {}.", cell(&key, "old_ends_at")));
        }
        KeysCommand::Policy { server, set, max_days, scopes, no_personal, end_breaking, tenant, json } => {
            let client = Client::new(&server)?;
            let path = of_tenant("/registry/v1/policy", tenant.as_deref());
            let request = if set {
                let scopes = (!scopes.is_empty()).then_some(scopes);
                client.request(Method::PUT, &path).json(&json!({
                    "max_key_days": max_days, "scopes": scopes, "personal_keys": !no_personal,
                    "end_breaking": end_breaking,
                }))
            } else {
                client.request(Method::GET, &path)
            };
            show_policy(&client.json(request).await?, json)?;
        }
        KeysCommand::Revoke { server, id, keep_made, json: as_json } => {
            let client = Client::new(&server)?;
            let made = if keep_made { "?made_keys=keep" } else { "" };
            client.send(client.request(Method::DELETE, &format!("/registry/v1/keys/{id}{made}"))).await?;
            if as_json { terminal::json(&json!({ "revoked": id }))? } else { terminal::line(&format!("Revoked {id}"))? }
        }
        KeysCommand::Recover { data_dir, admin_key_file } => {
            telemetry::start_logging(config)?;
            let data_dir = data_dir.map_or_else(|| config.data.folder(), Ok)?;
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

fn of_tenant(path: &str, tenant: Option<&str>) -> String {
    tenant.map_or_else(|| path.to_owned(), |tenant| format!("{path}?tenant={tenant}"))
}

fn show_secret(key: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return Ok(terminal::json(key)?);
    }
    let secret = key.get("secret").and_then(Value::as_str).context("the server's answer has no secret")?;
    terminal::note("This secret is shown once:");
    Ok(terminal::line(secret)?)
}

fn show_keys(keys: &[Value], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return Ok(terminal::json(&keys)?);
    }
    let rows: Vec<_> = keys.iter().map(key_row).collect();
    Ok(terminal::table(&["ID", "NAME", "KIND", "SCOPES", "MODELS", "EXPIRES", "LAST USED", "STATE"], &rows)?)
}

fn show_policy(policy: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return Ok(terminal::json(policy)?);
    }
    let or_none = |field: &str| Some(cell(policy, field)).filter(|text| !text.is_empty()).unwrap_or("no bound".into());
    let personal = if policy["personal_keys"] == true { "allowed" } else { "not allowed" };
    let rows = [("longest life in days", "max_key_days"), ("scopes", "scopes")]
        .map(|(what, field)| vec![what.to_owned(), or_none(field)]);
    let rows = rows.into_iter().chain([vec!["personal keys".to_owned(), personal.to_owned()]]);
    terminal::table(&["POLICY", ""], &rows.collect::<Vec<_>>())?;
    let breaking = policy.get("breaking").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if breaking.is_empty() {
        return Ok(());
    }
    let were = if policy["ended"] == true { "were revoked" } else { "break it and go on" };
    terminal::note(&format!("{} keys {were}:", policy["num_breaking"]));
    let rows: Vec<_> =
        breaking.iter().map(|key| vec![cell(key, "id"), cell(key, "name"), cell(key, "breaks")]).collect();
    Ok(terminal::table(&["ID", "NAME", "BREAKS"], &rows)?)
}

fn key_row(key: &Value) -> Vec<String> {
    let state = match () {
        () if !key["revoked_at"].is_null() && !key["revoked_for"].is_null() => cell(key, "revoked_for"),
        () if !key["revoked_at"].is_null() => "revoked".to_owned(),
        () if !key["replaced_by"].is_null() => "replaced".to_owned(),
        () => "active".to_owned(),
    };
    let models = if key["models"].is_null() { "all".to_owned() } else { cell(key, "models") };
    let fields = ["id", "name", "kind", "scopes"].map(|field| cell(key, field));
    let moments = ["expires_at", "last_used_at"].map(|field| cell(key, field));
    fields.into_iter().chain([models]).chain(moments).chain([state]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_row_with_what_became_of_it() {
        let key = |fields: Value| {
            let mut key = json!({
                "id": "k1", "name": "ci", "kind": "service", "scopes": ["inference", "adapters:read"], "models": null,
                "expires_at": null, "last_used_at": null, "revoked_at": null, "revoked_for": null, "replaced_by": null,
            });
            key.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            key_row(&key)
        };
        let active = ["k1", "ci", "service", "inference adapters:read", "all", "", "", "active"];
        assert_eq!(key(json!({})), active);
        let listed = key(json!({ "models": ["a/*", "b/c"], "replaced_by": "k2" }));
        assert_eq!((listed[4].as_str(), listed[7].as_str()), ("a/* b/c", "replaced"));
        assert_eq!(key(json!({ "revoked_at": "2026", "replaced_by": "k2" }))[7], "revoked");
        assert_eq!(key(json!({ "revoked_at": "2026", "revoked_for": "leaked" }))[7], "leaked");
    }
}
