//! `souk list`: the base model and the adapters that the key may use.

use std::process::ExitCode;

use reqwest::Method;
use serde::Deserialize;

use crate::cli::ListArgs;
use crate::client::Client;
use crate::terminal;

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    owned_by: String,
}

pub(crate) async fn run(arguments: ListArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.server)?;
    let models: Models = client.json(client.request(Method::GET, "/v1/models")).await?;
    let rows: Vec<Vec<String>> = models.data.into_iter().map(|model| vec![model.id, model.owned_by]).collect();
    terminal::table(&["MODEL", "OWNER"], &rows)?;
    Ok(ExitCode::SUCCESS)
}
