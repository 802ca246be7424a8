//! `souk limits teams`: who has limits together.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::of_tenant::{all, request};
use crate::cli::{OfTenant, TeamsCommand};
use crate::client::Client;
use crate::terminal;

pub(super) async fn run(command: TeamsCommand) -> anyhow::Result<()> {
    match command {
        TeamsCommand::List { of } => {
            let teams = all(&of, "teams").await?;
            if of.json {
                terminal::json(&teams)?;
            } else {
                let row = |team: &Value| -> Vec<String> {
                    ["name", "id", "created_at"].map(|field| terminal::cell(team, field)).into()
                };
                terminal::table(&["NAME", "ID", "CREATED"], &teams.iter().map(row).collect::<Vec<_>>())?;
            }
        }
        TeamsCommand::Create { of, name } => {
            let mut body = json!({ "name": name });
            if let Some(tenant) = &of.tenant {
                body["tenant"] = json!(tenant);
            }
            let client = Client::new(&of.server)?;
            let made: Value = client.json(client.request(Method::POST, "/registry/v1/teams").json(&body)).await?;
            if of.json { terminal::json(&made)? } else { terminal::line(&format!("Made the team {name}"))? }
        }
        TeamsCommand::Delete { of, team } => {
            let id = id_of(&of, &team).await?;
            send(&of, Method::DELETE, &format!("teams/{id}")).await?;
            done(&of, &json!({ "deleted": id }), &format!("Deleted the team {team}"))?;
        }
        TeamsCommand::Add { of, team, person } => {
            let id = id_of(&of, &team).await?;
            send(&of, Method::PUT, &format!("teams/{id}/members/{person}")).await?;
            done(&of, &json!({ "team": id, "person": person }), &format!("{person} is of the team {team}"))?;
        }
        TeamsCommand::Remove { of, team, person } => {
            let id = id_of(&of, &team).await?;
            send(&of, Method::DELETE, &format!("teams/{id}/members/{person}")).await?;
            done(&of, &json!({ "team": null, "person": person }), &format!("{person} is of no team"))?;
        }
    }
    Ok(())
}

/// The id of the team that is called so, or has that id.
pub(super) async fn id_of(of: &OfTenant, team: &str) -> anyhow::Result<String> {
    let teams = all(of, "teams").await?;
    let found = teams.iter().find(|one| one["name"] == team || one["id"] == team);
    let id = found.and_then(|team| team["id"].as_str()).map(str::to_owned);
    id.with_context(|| format!("there is no team `{team}`; `souk limits teams list` has them"))
}

async fn send(of: &OfTenant, method: Method, path: &str) -> anyhow::Result<()> {
    let client = Client::new(&of.server)?;
    client.send(request(&client, of, method, path)).await.map(drop)
}

fn done(of: &OfTenant, value: &Value, text: &str) -> anyhow::Result<()> {
    if of.json {
        terminal::json(value)?;
    } else {
        terminal::line(text)?;
    }
    Ok(())
}
