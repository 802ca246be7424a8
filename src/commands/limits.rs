//! `souk limits`: what tenants, teams, members and keys may use, and have used.

mod teams;

use std::process::ExitCode;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::of_tenant::{all, request};
use crate::cli::{LimitsCommand, OfTenant};
use crate::client::Client;
use crate::terminal;

const HEADER: [&str; 8] = ["LEVEL", "SUBJECT", "LIMIT", "VALUE", "SOFT", "MODE", "USED", ""];

pub(crate) async fn run(command: LimitsCommand) -> anyhow::Result<ExitCode> {
    match command {
        LimitsCommand::List { of } => {
            let limits = all(&of, "limits").await?;
            if of.json {
                terminal::json(&limits)?;
            } else {
                let teams = all(&of, "teams").await?;
                show(&limits, &teams)?;
            }
        }
        LimitsCommand::Set { of, subject, limit, value, soft, shadow } => {
            let mode = if shadow { "shadow" } else { "enforce" };
            let limit = json!({ limit: { "value": value, "soft": soft, "mode": mode } });
            set(&of, &subject, json!({ "limits": limit })).await?;
        }
        LimitsCommand::Unset { of, subject, limit } => {
            set(&of, &subject, json!({ "limits": { limit: null } })).await?;
        }
        LimitsCommand::Answers { of, ceiling, default_ceiling, keep } => {
            let mut request = Map::new();
            if ceiling.is_some() || default_ceiling {
                request.insert("output_ceiling".to_owned(), json!(ceiling));
            }
            if let Some(keep) = keep {
                request.insert("keeps_answers".to_owned(), json!(keep));
            }
            print(&of, &call(&of, Method::PATCH, "limits/answers", &Value::Object(request)).await?).await?;
        }
        LimitsCommand::Weight { of, weight } => set(&of, "tenant", json!({ "gate_weight": weight })).await?,
        LimitsCommand::Teams(command) => teams::run(command).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Changes what `subject` has, and prints what it has then.
async fn set(of: &OfTenant, subject: &str, request: Value) -> anyhow::Result<()> {
    let path = match subject.split_once('/') {
        None if subject == "tenant" => {
            let tenant = of
                .tenant
                .as_deref()
                .context("say whose with --tenant; an operator's key sets the limits of tenants")?;
            format!("tenants/{tenant}/limits")
        }
        Some(("team", team)) => format!("limits/team/{}", teams::id_of(of, team).await?),
        Some((level @ ("member" | "key"), id)) => format!("limits/{level}/{id}"),
        _ => anyhow::bail!("`{subject}` is none of `tenant`, `team/NAME`, `member/PERSON` and `key/KEY`"),
    };
    let client = Client::new(&of.server)?;
    // Of a tenant the path says whose it is.
    let request = match path.starts_with("tenants/") {
        true => client.request(Method::PATCH, &format!("/registry/v1/{path}")),
        false => super::of_tenant::request(&client, of, Method::PATCH, &path),
    }
    .json(&request);
    let now: Value = client.json(request).await?;
    print(of, &now).await
}

async fn print(of: &OfTenant, now: &Value) -> anyhow::Result<()> {
    if of.json {
        terminal::json(now)?;
        return Ok(());
    }
    let teams = if now["level"] == "team" { all(of, "teams").await? } else { Vec::new() };
    show(std::slice::from_ref(now), &teams)
}

fn show(limits: &[Value], teams: &[Value]) -> anyhow::Result<()> {
    let rows: Vec<_> = limits.iter().flat_map(|one| rows(one, teams)).collect();
    terminal::table(&HEADER, &rows)?;
    for tenant in limits.iter().map(|one| &one["tenant"]).filter(|tenant| !tenant.is_null()) {
        let ceiling = match &tenant["output_ceiling"] {
            Value::Null => "what the context leaves".to_owned(),
            most => most.to_string(),
        };
        let kept = if tenant["keeps_answers"] == true { "kept for a day" } else { "not kept" };
        let weight = &tenant["gate_weight"];
        terminal::line(&format!(
            "\nweight at gates {weight}; tokens of one answer: {ceiling}; answers to repeated requests: {kept}"
        ))?;
    }
    Ok(())
}

/// A row for each limit; one that says that there is none.
fn rows(one: &Value, teams: &[Value]) -> Vec<Vec<String>> {
    let level = terminal::cell(one, "level");
    let name = teams.iter().find(|team| team["id"] == one["subject"]).unwrap_or(one);
    let subject = [terminal::cell(name, "name"), terminal::cell(one, "subject")];
    let subject = subject.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    let limits = one["limits"].as_object().into_iter().flatten();
    let mut rows: Vec<_> = limits.map(|(limit, of)| row([&level, &subject, limit], of)).collect();
    if rows.is_empty() {
        rows.push(vec![level, subject, "no limit".to_owned()]);
    }
    rows
}

fn row([level, subject, limit]: [&String; 3], of: &Value) -> Vec<String> {
    let text = |field: &str| terminal::cell(of, field);
    let mode = if of["is_default"] == true { "default".to_owned() } else { text("mode") };
    let bar = match (of["used"].as_u64(), of["value"].as_u64()) {
        (Some(used), Some(value)) => terminal::bar(used, value),
        _ => String::new(),
    };
    vec![level.clone(), subject.clone(), limit.clone(), text("value"), text("soft"), mode, text("used"), bar]
}

async fn call(of: &OfTenant, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
    let client = Client::new(&of.server)?;
    client.json(request(&client, of, method, path).json(body)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_a_row_with_a_bar_where_something_counts_and_a_team_its_name() {
        let team = json!({ "level": "team", "subject": "team_1", "name": null, "limits": {
            "requests_per_minute": { "value": 60, "soft": null, "mode": "shadow", "is_default": false, "used": null },
            "tokens_per_day": { "value": 10, "soft": 8, "mode": "enforce", "is_default": false, "used": 6 },
        } });
        let teams = [json!({ "id": "team_1", "name": "search" })];
        assert_eq!(
            rows(&team, &teams),
            [
                ["team", "search", "requests_per_minute", "60", "", "shadow", "", ""],
                ["team", "search", "tokens_per_day", "10", "8", "enforce", "6", "######----   60%"],
            ]
        );
        let none = json!({ "level": "tenant", "subject": "ten_1", "name": "acme", "limits": {} });
        assert_eq!(rows(&none, &teams), [["tenant", "acme", "no limit"]]);
    }
}
