//! `souk tenants`: create and list tenants.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::TenantsCommand;
use crate::client::Client;
use crate::terminal;

pub(crate) async fn run(command: TenantsCommand) -> anyhow::Result<ExitCode> {
    match command {
        TenantsCommand::Create { server, name } => {
            let client = Client::new(&server)?;
            let request = client.request(Method::POST, "/registry/v1/tenants").json(&json!({ "name": name }));
            client.send(request).await?;
            terminal::line(&format!("Created tenant {name}"))?;
        }
        TenantsCommand::Export(arguments) => super::tenant_data::export(arguments).await?,
        TenantsCommand::Erase(arguments) => super::tenant_data::erase(arguments).await?,
        TenantsCommand::List { server } => {
            let client = Client::new(&server)?;
            let tenants: Value = client.json(client.request(Method::GET, "/registry/v1/tenants")).await?;
            let text =
                |tenant: &Value, field: &str| tenant.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
            let rows: Vec<Vec<String>> = tenants
                .get("data")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|tenant| vec![text(tenant, "name"), text(tenant, "id")])
                .collect();
            terminal::table(&["NAME", "ID"], &rows)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
