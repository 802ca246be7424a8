//! `souk members`: who is a member of a tenant, and as what.

use std::process::ExitCode;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use souk_http::public_url::PublicUrl;
use souk_registry::sign_in_link_on_host;

use super::of_tenant::{all, request};
use crate::cli::{MembersCommand, OfTenant};
use crate::client::Client;
use crate::config::Config;
use crate::{telemetry, terminal};

const HEADER: [&str; 5] = ["PERSON", "ROLE", "EMAIL", "NAME", "SINCE"];
const INVITATIONS: [&str; 6] = ["ID", "EMAIL", "ROLE", "STATE", "UNTIL", "BECAME"];

pub(crate) async fn run(config: &Config, command: MembersCommand) -> anyhow::Result<ExitCode> {
    match command {
        MembersCommand::List { of } => {
            let members = all(&of, "members").await?;
            if of.json {
                terminal::json(&members)?;
            } else {
                terminal::table(&HEADER, &members.iter().map(row).collect::<Vec<_>>())?;
            }
        }
        MembersCommand::Invite { of, email, role } => {
            let mut body = json!({ "email": email, "role": role });
            if let Some(tenant) = &of.tenant {
                body["tenant"] = json!(tenant);
            }
            let client = Client::new(&of.server)?;
            let made: Value = client.json(client.request(Method::POST, "/registry/v1/invitations").json(&body)).await?;
            show_link(&of, &made, "Hand this link over. It is shown once, and works once:")?;
        }
        MembersCommand::Invitations { of } => {
            let invitations = all(&of, "invitations").await?;
            if of.json {
                terminal::json(&invitations)?;
            } else {
                terminal::table(&INVITATIONS, &invitations.iter().map(invitation_row).collect::<Vec<_>>())?;
            }
        }
        MembersCommand::Uninvite { of, invitation } => {
            let client = Client::new(&of.server)?;
            client.send(request(&client, &of, Method::DELETE, &format!("invitations/{invitation}"))).await?;
            let text = format!("Took {invitation} back");
            if of.json { terminal::json(&json!({ "revoked": invitation }))? } else { terminal::line(&text)? }
        }
        MembersCommand::Role { of, person, role } => {
            let request = json!({ "role": role });
            let changed: Value = call(&of, Method::PATCH, &format!("members/{person}"), Some(&request)).await?;
            if of.json {
                terminal::line(&serde_json::to_string_pretty(&changed)?)?;
            } else {
                terminal::table(&HEADER, &[row(&changed)])?;
            }
        }
        MembersCommand::Remove { of, person } => {
            let client = Client::new(&of.server)?;
            client.send(request(&client, &of, Method::DELETE, &format!("members/{person}"))).await?;
            let text = if of.json { json!({ "removed": person }).to_string() } else { format!("Removed {person}") };
            terminal::line(&text)?;
        }
        MembersCommand::Link { of, person, host: true, public_url, data_dir } => {
            telemetry::start_logging(config)?;
            let data_dir = data_dir.map_or_else(|| config.data.folder(), Ok)?;
            let public_url = match public_url {
                Some(url) => PublicUrl::parse(&url).context("--public-url cannot be used")?,
                None => config.server.public_url().context("say where browsers reach the server: --public-url")?,
            };
            let link = sign_in_link_on_host(&config.registry(data_dir), &public_url, &person).await?;
            show_link(&of, &json!({ "link": link }), LINK)?;
        }
        MembersCommand::Link { of, person, .. } => {
            let path = format!("members/{person}/sign-in-link");
            let made: Value = call(&of, Method::POST, &path, None).await?;
            show_link(&of, &made, LINK)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

const LINK: &str = "This link signs in whoever opens it, once:";

async fn call(of: &OfTenant, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
    let client = Client::new(&of.server)?;
    let request = request(&client, of, method, path);
    client.json(if let Some(body) = body { request.json(body) } else { request }).await
}

fn show_link(of: &OfTenant, made: &Value, note: &str) -> anyhow::Result<()> {
    if of.json {
        terminal::line(&serde_json::to_string_pretty(made)?)?;
        return Ok(());
    }
    terminal::note(note);
    terminal::line(made.get("link").and_then(Value::as_str).context("the server's answer has no link")?)?;
    Ok(())
}

fn row(member: &Value) -> Vec<String> {
    let text = |field: &str| terminal::cell(member, field);
    let since = text("joined_at").chars().take(10).collect();
    vec![text("person"), text("role"), text("email"), text("name"), since]
}

fn invitation_row(invitation: &Value) -> Vec<String> {
    let text = |field: &str| terminal::cell(invitation, field);
    let until = text("expires_at").chars().take(10).collect();
    vec![text("id"), text("email"), text("role"), text("state"), until, text("accepted_by")]
}
