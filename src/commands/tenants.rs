//! `souk tenants`: create and list tenants.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::TenantsCommand;
use crate::client::Client;
use crate::terminal;

const TENANTS: &str = "/registry/v1/tenants";

pub(crate) async fn run(command: TenantsCommand) -> anyhow::Result<ExitCode> {
    match command {
        TenantsCommand::Create { server, name, json } => {
            let client = Client::new(&server)?;
            let request = client.request(Method::POST, TENANTS).json(&json!({ "name": name }));
            let made: Value = client.json(request).await?;
            if json { terminal::json(&made)? } else { terminal::line(&format!("Created tenant {name}"))? }
        }
        TenantsCommand::Export(arguments) => super::tenant_data::export(arguments).await?,
        TenantsCommand::Erase(arguments) => super::tenant_data::erase(arguments).await?,
        TenantsCommand::List { server, json } => {
            let tenants = Client::new(&server)?.all(TENANTS).await?;
            if json {
                terminal::json(&tenants)?;
            } else {
                terminal::table(&["NAME", "ID", "CREATED"], &tenants.iter().map(row).collect::<Vec<_>>())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(tenant: &Value) -> Vec<String> {
    ["name", "id", "created_at"].map(|field| tenant[field].as_str().unwrap_or_default().to_owned()).into()
}
