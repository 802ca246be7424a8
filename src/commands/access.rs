//! `souk access`: ask for access to gated adapters, decide, share.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use reqwest::Method;
use serde_json::{Map, Value, json};
use souk_protocol::AdapterName;

use crate::cli::{AccessCommand, ServerArgs};
use crate::client::Client;
use crate::terminal::{self, cell};

const REQUESTS: &str = "/registry/v1/access-requests";

pub(crate) async fn run(command: AccessCommand) -> anyhow::Result<ExitCode> {
    match command {
        AccessCommand::Form { server, adapter, json } => form(&Client::new(&server)?, &adapter, json).await?,
        AccessCommand::Request { server, adapter, answers, json } => {
            request(&Client::new(&server)?, &adapter, &answers, json).await?;
        }
        AccessCommand::List { server, received, state, adapter, json } => {
            let mut filters: Vec<String> = state.map(|state| format!("state={state}")).into_iter().collect();
            filters.extend(adapter.map(|adapter| format!("adapter={adapter}")));
            let side = if received { "/received" } else { "" };
            let found = Client::new(&server)?.all(&format!("{REQUESTS}{side}?{}", filters.join("&"))).await?;
            show_requests(&found, json)?;
        }
        AccessCommand::Approve { server, id, expires_at, note, reason, json } => {
            let body = json!({ "expires_at": expires_at, "note": note, "reason": reason });
            decide(&server, &id, "approve", Some(body), json).await?;
        }
        AccessCommand::Reject { server, id, reason, json } => {
            decide(&server, &id, "reject", Some(json!({ "reason": reason })), json).await?;
        }
        AccessCommand::Revoke { server, id, reason, json } => {
            decide(&server, &id, "revoke", Some(json!({ "reason": reason })), json).await?;
        }
        AccessCommand::Withdraw { server, id, json } => decide(&server, &id, "withdraw", None, json).await?,
        AccessCommand::Share { server, adapter, tenant, expires_at, note, json } => {
            let client = Client::new(&server)?;
            let body = json!({ "expires_at": expires_at, "note": note });
            let path = format!("{}/{tenant}", grants_of(&adapter)?);
            let grant: Value = client.json(client.request(Method::PUT, &path).json(&body)).await?;
            show_grants(&[grant], json)?;
        }
        AccessCommand::Unshare { server, adapter, tenant, json: as_json } => {
            let client = Client::new(&server)?;
            client.send(client.request(Method::DELETE, &format!("{}/{tenant}", grants_of(&adapter)?))).await?;
            let text = format!("{tenant} may call {adapter} no more");
            let taken = json!({ "adapter": adapter, "withdrawn": tenant });
            if as_json { terminal::json(&taken)? } else { terminal::line(&text)? }
        }
        AccessCommand::Shares { server, adapter, json } => {
            show_grants(&Client::new(&server)?.all(&grants_of(&adapter)?).await?, json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn form(client: &Client, adapter: &str, as_json: bool) -> anyhow::Result<()> {
    let gate = gate_of(client, adapter).await?;
    if as_json {
        return Ok(terminal::json(&gate)?);
    }
    let questions = gate["questions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |question: &Value| {
        let required = if question["required"] == true { "required" } else { "" };
        let how = Some(cell(question, "choices")).filter(|choices| !choices.is_empty());
        let how = how.unwrap_or_else(|| cell(question, "kind"));
        vec![cell(question, "name"), how, required.to_owned(), cell(question, "label")]
    };
    terminal::table(&["ANSWER", "HOW", "", "QUESTION"], &questions.iter().map(row).collect::<Vec<_>>())?;
    terminal::note(&format!("Its owner means to answer within {} days.", gate["answer_within_days"]));
    Ok(())
}

async fn request(client: &Client, adapter: &str, answers: &[String], as_json: bool) -> anyhow::Result<()> {
    let gate = gate_of(client, adapter).await?;
    let answers = answers_to(&gate, answers)?;
    let path = format!("{}/access-requests", adapter_path(adapter)?);
    let body = json!({ "answers": answers });
    let made: Value = client.json(client.request(Method::POST, &path).json(&body)).await?;
    show_requests(&[made], as_json)
}

async fn decide(server: &ServerArgs, id: &str, step: &str, body: Option<Value>, as_json: bool) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    let request = client.request(Method::POST, &format!("{REQUESTS}/{id}/{step}"));
    let request = if let Some(body) = body { request.json(&body) } else { request };
    show_requests(&[client.json(request).await?], as_json)
}

async fn gate_of(client: &Client, adapter: &str) -> anyhow::Result<Value> {
    client.json(client.request(Method::GET, &format!("{}/gate", adapter_path(adapter)?))).await
}

/// What was given as `name=value`, as the questions are answered: a checkbox with true or false.
fn answers_to(gate: &Value, given: &[String]) -> anyhow::Result<Map<String, Value>> {
    let mut answers = Map::new();
    for answer in given {
        let (name, text) = answer.split_once('=').with_context(|| format!("`{answer}` is not NAME=ANSWER"))?;
        let question = gate["questions"].as_array().into_iter().flatten().find(|question| question["name"] == name);
        let is_checkbox = question.is_some_and(|question| question["kind"] == "checkbox");
        let value = match (is_checkbox, text) {
            (false, _) => json!(text),
            (true, "true" | "yes") => json!(true),
            (true, "false" | "no") => json!(false),
            (true, _) => bail!("`{name}` is answered with yes or no, given `{text}`"),
        };
        answers.insert(name.to_owned(), value);
    }
    Ok(answers)
}

fn adapter_path(adapter: &str) -> anyhow::Result<String> {
    let name: AdapterName = adapter.parse().with_context(|| format!("`{adapter}` is not owner/name"))?;
    Ok(format!("/registry/v1/adapters/{name}"))
}

fn grants_of(adapter: &str) -> anyhow::Result<String> {
    Ok(format!("{}/grants", adapter_path(adapter)?))
}

fn show_requests(requests: &[Value], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return Ok(terminal::json(&requests)?);
    }
    let row = |request: &Value| {
        let state = if request["is_overdue"] == true { "overdue".to_owned() } else { cell(request, "state") };
        let fields = ["id", "adapter", "tenant"].map(|field| cell(request, field));
        let rest = ["asked_at", "due_at", "expires_at", "reason"].map(|field| cell(request, field));
        fields.into_iter().chain([state]).chain(rest).collect()
    };
    let header = ["ID", "ADAPTER", "TENANT", "STATE", "ASKED", "DUE", "ENDS", "REASON"];
    Ok(terminal::table(&header, &requests.iter().map(row).collect::<Vec<_>>())?)
}

fn show_grants(grants: &[Value], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return Ok(terminal::json(&grants)?);
    }
    let row = |grant: &Value| ["tenant", "granted_at", "expires_at", "note"].map(|field| cell(grant, field)).to_vec();
    Ok(terminal::table(&["TENANT", "GRANTED", "ENDS", "NOTE"], &grants.iter().map(row).collect::<Vec<_>>())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_sent_as_their_questions_are_answered() {
        let gate = json!({ "questions": [
            { "name": "purpose", "kind": "text" }, { "name": "terms", "kind": "checkbox" },
        ] });
        let answers = |given: &[&str]| answers_to(&gate, &given.iter().map(ToString::to_string).collect::<Vec<_>>());
        let sent = answers(&["purpose=a=b", "terms=yes", "unknown=true"]).unwrap();
        assert_eq!(Value::Object(sent), json!({ "purpose": "a=b", "terms": true, "unknown": "true" }));
        assert!(answers(&["terms=perhaps"]).unwrap_err().to_string().contains("yes or no, given `perhaps`"));
        assert!(answers(&["purpose"]).unwrap_err().to_string().contains("NAME=ANSWER"));
    }
}
