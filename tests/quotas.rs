//! `souk limits` and `souk usage` against a running server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stack;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stack::{BASE, Stack};

/// A command as whoever has the key gives it; what it prints.
fn souk(stack: &Stack, key: &str, command: &str) -> String {
    let arguments: Vec<&str> = command.split(' ').chain(["--api-key", key]).collect();
    stack.souk(&arguments)
}

fn in_json(stack: &Stack, key: &str, command: &str) -> Value {
    serde_json::from_str(&souk(stack, key, &format!("{command} --json"))).unwrap()
}

#[test]
fn teams_and_limits_are_made_shown_and_taken_away_from_the_command_line() {
    let stack = Stack::start();
    stack.souk(&["tenants", "create", "acme"]);
    let scopes = "--scope inference --scope keys:manage --scope tenant:manage";
    let acme = souk(&stack, &stack.admin_key, &format!("keys create first --tenant acme {scopes}")).trim().to_owned();
    let made = in_json(&stack, &acme, "limits teams create search");
    assert_eq!(made["name"], "search");
    assert!(souk(&stack, &acme, "limits teams list").contains("search"));
    let set = in_json(&stack, &acme, "limits set team/search tokens_per_day 1000 --soft 800 --shadow");
    let day = &set["limits"]["tokens_per_day"];
    assert_eq!((&day["value"], &day["soft"], &day["mode"]), (&json!(1000), &json!(800), &json!("shadow")));
    let operators = "limits set tenant requests_per_minute 600 --tenant acme";
    let table = souk(&stack, &stack.admin_key, operators);
    assert!(table.starts_with("LEVEL") && table.contains("600") && table.contains("weight at gates 1"), "{table}");
    let refused = stack.souk_output(&["limits", "set", "tenant", "tokens_per_day", "1", "--api-key", &acme]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--tenant"), "{refused:?}");
    let unknown = stack.souk_output(&["limits", "set", "crowd/x", "tokens_per_day", "1", "--api-key", &acme]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("`team/NAME`"), "{unknown:?}");
    let weight = in_json(&stack, &stack.admin_key, "limits weight 4 --tenant acme");
    assert_eq!(weight["tenant"]["gate_weight"], 4);
    let answers = in_json(&stack, &acme, "limits answers --ceiling 256 --keep true");
    assert_eq!(answers["tenant"], json!({ "gate_weight": 4, "output_ceiling": 256, "keeps_answers": true }));
    let answers = in_json(&stack, &acme, "limits answers --default-ceiling");
    assert!(answers["tenant"]["output_ceiling"].is_null() && answers["tenant"]["keeps_answers"] == true);

    let listed = in_json(&stack, &acme, "limits list");
    let levels: Vec<_> = listed.as_array().unwrap().iter().map(|one| one["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["tenant", "team"]);
    let table = souk(&stack, &acme, "limits list");
    let row = table.lines().find(|line| line.starts_with("team")).unwrap();
    assert!(row.contains("search") && row.contains("tokens_per_day") && row.contains("shadow"), "{table}");
    souk(&stack, &acme, "limits unset team/search tokens_per_day");
    assert_eq!(in_json(&stack, &acme, "limits list").as_array().unwrap().len(), 1);
    souk(&stack, &acme, "limits teams delete search");
    let gone = stack.souk_output(&["limits", "teams", "delete", "search", "--api-key", &acme]);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("there is no team `search`"), "{gone:?}");
}

#[tokio::test]
async fn what_was_used_is_shown_by_day_and_by_key_for_one_request_and_as_csv() {
    let stack = Stack::start();
    stack.souk(&["tenants", "create", "acme"]);
    let scopes = "--scope inference --scope usage:read --scope tenant:manage";
    let acme = souk(&stack, &stack.admin_key, &format!("keys create billed --tenant acme {scopes}")).trim().to_owned();
    souk(&stack, &stack.admin_key, "limits set tenant tokens_per_day 100000 --tenant acme");
    let body = json!({ "model": BASE, "prompt": "Once", "max_tokens": 3, "ignore_eos": true });
    let url = format!("{}/v1/completions", stack.url);
    let answer = reqwest::Client::new().post(url).bearer_auth(&acme).json(&body).send().await.unwrap();
    let request = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let counted = answer.json::<Value>().await.unwrap()["usage"]["total_tokens"].clone();
    // Rows are written in batches, behind the answer.
    let end = Instant::now() + Duration::from_secs(20);
    let used = loop {
        let used = in_json(&stack, &acme, "usage --by key");
        if used["totals"]["requests"] == 1 {
            break used;
        }
        assert!(Instant::now() < end, "no row came: {used}");
    };
    assert_eq!((&used["data"][0]["key_name"], &used["totals"]["charged_output_tokens"]), (&json!("billed"), &json!(3)));
    let table = souk(&stack, &acme, "usage --by key,adapter");
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("DAY") && lines[0].contains("KEY") && lines[0].contains("ADAPTER"), "{table}");
    assert!(lines[1].contains("billed") && lines[1].ends_with("##########  100%"), "{table}");
    assert!(lines[2].starts_with("all"), "{table}");
    let receipt = souk(&stack, &acme, &format!("usage {request}"));
    assert!(receipt.starts_with(&format!("request   {request}")) && receipt.contains("+ 3 tokens"), "{receipt}");
    assert_eq!(in_json(&stack, &acme, &format!("usage {request}"))["id"], json!(request));
    let csv = souk(&stack, &acme, "usage --csv");
    assert!(csv.lines().count() == 2 && csv.lines().nth(1).unwrap().contains(&request), "{csv}");
    // Each stage of it was timed.
    for stage in ["authenticate", "authorise", "admit", "prepare", "reserve", "settle"] {
        let count = stack.metric(&format!("souk_gateway_stage_seconds_count{{stage=\"{stage}\"}}")).await;
        assert!(count >= 1.0, "{stage}: {count}");
    }
    // What is used of a limit is beside it.
    let limits = in_json(&stack, &acme, "limits list");
    assert_eq!(limits[0]["limits"]["tokens_per_day"]["used"], counted);
}
