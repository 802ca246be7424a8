//! `souk usage`: what was used, by time and by whatever else, and what one request was charged.

use std::process::ExitCode;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::download::save;
use crate::cli::{UsageArgs, UsageBy};
use crate::client::Client;
use crate::terminal;

const JOBS: [&str; 9] =
    ["JOB", "OUTCOME", "PROMPT", "CACHED", "COMPUTED", "DELIVERED", "CHARGED IN", "CHARGED OUT", "WHY"];

pub(crate) async fn run(arguments: UsageArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.of.server)?;
    match &arguments.request {
        Some(request) => receipt(&client, &arguments, request).await?,
        None if arguments.csv => export(&client, &arguments).await?,
        None => sums(&client, &arguments).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn receipt(client: &Client, arguments: &UsageArgs, id: &str) -> anyhow::Result<()> {
    let path = format!("/registry/v1/usage/{id}");
    let request = client.request(Method::GET, &path).query(&[("tenant", &arguments.of.tenant)]);
    let used: Value = client.json(request).await?;
    if arguments.of.json {
        terminal::json(&used)?;
        return Ok(());
    }
    for line in lines_of(&used) {
        terminal::line(&line)?;
    }
    terminal::line("")?;
    terminal::table(&JOBS, &used["jobs"].as_array().into_iter().flatten().map(job).collect::<Vec<_>>())?;
    Ok(())
}

/// What a receipt says above its jobs.
fn lines_of(used: &Value) -> Vec<String> {
    let text = |field: &str| terminal::cell(used, field);
    let named = |id: &str, name: &str| match (text(id), text(name)) {
        (id, name) if name.is_empty() => id,
        (id, name) => format!("{name} ({id})"),
    };
    let mut lines = vec![
        format!("request   {}", text("id")),
        format!("asked     {} of {}", text("operation"), text("model")),
        format!("when      {} to {}", text("admitted_at"), text("ended_at")),
        format!("key       {}", named("key_id", "key_name")),
    ];
    for (label, id, name) in [("member", "member_id", "member_email"), ("team", "team_id", "team_name")] {
        if !text(id).is_empty() {
            lines.push(format!("{label:<9} {}", named(id, name)));
        }
    }
    lines.extend(used["hooks"].as_array().into_iter().flatten().map(hook));
    lines.push(format!("charged   {} + {} tokens", text("charged_input_tokens"), text("charged_output_tokens")));
    lines
}

/// What a hook did, by its name or, where that is not the caller's to know, by its id.
fn hook(used: &Value) -> String {
    let name = ["name", "version"].map(|field| terminal::cell(used, field)).into_iter().find(|name| !name.is_empty());
    let [calls, fuel, processor] = ["calls", "fuel", "processor_us"].map(|field| terminal::cell(used, field));
    let bad = ["failures", "skipped", "refusals"].into_iter().filter(|field| used[field].as_u64() > Some(0));
    let bad: String = bad.map(|field| format!(", {field} {}", terminal::cell(used, field))).collect();
    format!("hook      {}: calls {calls}, fuel {fuel}, {processor} µs{bad}", name.unwrap_or_default())
}

fn job(job: &Value) -> Vec<String> {
    let fields = [
        "index",
        "outcome",
        "prompt_tokens",
        "cached_tokens",
        "computed_tokens",
        "delivered_tokens",
        "charged_input_tokens",
        "charged_output_tokens",
        "rule",
    ];
    fields.map(|field| terminal::cell(job, field)).into()
}

async fn export(client: &Client, arguments: &UsageArgs) -> anyhow::Result<()> {
    let answer = client.send(asked(client, arguments, "/registry/v1/usage/export")).await?;
    save(answer, None).await?;
    Ok(())
}

async fn sums(client: &Client, arguments: &UsageArgs) -> anyhow::Result<()> {
    let by: Vec<_> = arguments.by.iter().map(|by| by.as_str()).collect();
    let (mut all, mut cursor) = (Vec::new(), None::<String>);
    let page = loop {
        let mut request = asked(client, arguments, "/registry/v1/usage").query(&[("bucket", &arguments.bucket)]);
        request = request.query(&[("limit", "100")]).query(&[("cursor", &cursor)]);
        if !by.is_empty() {
            request = request.query(&[("group_by", by.join(","))]);
        }
        let mut page: Value = client.json(request).await?;
        if let Some(data) = page["data"].as_array_mut() {
            all.append(data);
        }
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break page;
        }
    };
    if arguments.of.json {
        let shown = json!({ "data": all, "totals": page["totals"], "from": page["from"], "to": page["to"] });
        terminal::json(&shown)?;
        return Ok(());
    }
    let total = tokens(&page["totals"]);
    let mut rows: Vec<_> = all.iter().map(|group| row(group, arguments, total)).collect();
    let mut last = vec!["all".to_owned()];
    last.extend(by.iter().map(|_| String::new()));
    last.extend(numbers(&page["totals"]));
    rows.push(last);
    let mut header = vec![arguments.bucket.to_uppercase()];
    header.extend(by.iter().map(|by| by.to_uppercase()));
    header.extend(["REQUESTS", "PROMPT", "CACHED", "DELIVERED", "CHARGED IN", "CHARGED OUT", ""].map(str::to_owned));
    terminal::table(&header.iter().map(String::as_str).collect::<Vec<_>>(), &rows)?;
    Ok(())
}

/// A request with all that narrows down what is meant.
fn asked(client: &Client, arguments: &UsageArgs, path: &str) -> RequestBuilder {
    let UsageArgs { of, from, to, key, member, team, adapter, .. } = arguments;
    let query = [("tenant", &of.tenant), ("from", from), ("to", to), ("key", key), ("member", member)];
    client.request(Method::GET, path).query(&query).query(&[("team", team), ("adapter", adapter)])
}

fn row(group: &Value, arguments: &UsageArgs, total: u64) -> Vec<String> {
    let begins = terminal::cell(group, "begins_at");
    let shown = match arguments.bucket.as_str() {
        "month" => 7,
        "hour" => 16,
        _ => 10,
    };
    let mut row = vec![begins.chars().take(shown).collect()];
    row.extend(arguments.by.iter().map(|by| who(group, *by)));
    row.extend(numbers(group));
    row.push(terminal::bar(tokens(group), total.max(1)));
    row
}

/// What a group is of: a name where there is one, else an id.
fn who(group: &Value, by: UsageBy) -> String {
    let first = |fields: &[&str]| {
        fields.iter().map(|field| terminal::cell(group, field)).find(|text| !text.is_empty()).unwrap_or_default()
    };
    match by {
        UsageBy::Key => first(&["key_name", "key_id"]),
        UsageBy::Member => first(&["member_email", "member_id"]),
        UsageBy::Team => first(&["team_name", "team_id"]),
        UsageBy::Base => first(&["base_name", "base"]),
        UsageBy::Outcome => first(&["outcome"]),
        UsageBy::Adapter => {
            let adapters = group["adapters"].as_array().into_iter().flatten();
            let name = |adapter: &Value| match terminal::cell(adapter, "name") {
                name if name.is_empty() => terminal::cell(adapter, "digest"),
                name => name,
            };
            adapters.map(name).collect::<Vec<_>>().join(" ")
        }
    }
}

fn numbers(sums: &Value) -> [String; 6] {
    let fields = [
        "requests",
        "prompt_tokens",
        "cached_tokens",
        "delivered_tokens",
        "charged_input_tokens",
        "charged_output_tokens",
    ];
    fields.map(|field| terminal::cell(sums, field))
}

/// Tokens that were charged.
fn tokens(sums: &Value) -> u64 {
    let number = |field: &str| sums[field].as_u64().unwrap_or_default();
    number("charged_input_tokens").saturating_add(number("charged_output_tokens"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_called_by_its_name_and_else_by_its_id() {
        let group = json!({
            "key_id": "abc", "key_name": "ci", "member_id": "per_1", "team_id": "", "outcome": "stop",
            "adapters": [{ "digest": "sha256:1", "name": "acme/sst2@1.0.0" }, { "digest": "sha256:2", "name": null }],
        });
        for (by, expected) in [
            (UsageBy::Key, "ci"),
            (UsageBy::Member, "per_1"),
            (UsageBy::Team, ""),
            (UsageBy::Adapter, "acme/sst2@1.0.0 sha256:2"),
            (UsageBy::Outcome, "stop"),
        ] {
            assert_eq!(who(&group, by), expected);
        }
    }

    #[test]
    fn a_receipt_says_who_asked_what_and_what_was_charged() {
        let used = json!({
            "id": "req_1", "operation": "chat.completion", "model": "acme/sst2", "admitted_at": "a", "ended_at": "b",
            "key_id": "abc", "key_name": "ci", "member_id": null, "team_id": "team_1", "team_name": "search",
            "charged_input_tokens": 40, "charged_output_tokens": 75,
            "hooks": [
                { "version": "hkv_1", "name": "acme/mask@1.0.0", "calls": 2, "failures": 0, "skipped": 0, "refusals": 0,
                  "fuel": 81000, "processor_us": 64 },
                { "version": "hkv_2", "name": null, "calls": 1, "failures": 1, "skipped": 1, "refusals": 0, "fuel": 5,
                  "processor_us": 1 },
            ],
        });
        assert_eq!(
            lines_of(&used)[3..],
            [
                "key       ci (abc)",
                "team      search (team_1)",
                "hook      acme/mask@1.0.0: calls 2, fuel 81000, 64 µs",
                "hook      hkv_2: calls 1, fuel 5, 1 µs, failures 1, skipped 1",
                "charged   40 + 75 tokens",
            ]
        );
    }
}
