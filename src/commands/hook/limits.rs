//! `souk hook limits`: what hooks of a tenant may take.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::cli::OfTenant;
use crate::client::Client;
use crate::commands::of_tenant;
use crate::terminal;

const HEADER: [&str; 4] = ["LIMIT", "VALUE", "AT MOST", ""];

/// Shows a tenant's limits, after these changes, which may be none.
pub(super) async fn run(of: &OfTenant, set: &[String], unset: &[String], large: Option<bool>) -> anyhow::Result<()> {
    let client = Client::new(&of.server)?;
    let request = if set.is_empty() && unset.is_empty() && large.is_none() {
        of_tenant::request(&client, of, Method::GET, "hook-limits")
    } else {
        let tenant =
            of.tenant.as_deref().context("say whose with --tenant; an operator's key says what hooks may take")?;
        let request = client.request(Method::PATCH, &format!("/registry/v1/tenants/{tenant}/hook-limits"));
        request.json(&changes(set, unset, large)?)
    };
    let now: Value = client.json(request).await?;
    if of.json {
        return Ok(terminal::json(&now)?);
    }
    let limits = now["limits"].as_object().cloned().unwrap_or_default();
    let rows: Vec<_> = limits.iter().map(|(name, limit)| row(name, limit)).collect();
    terminal::table(&HEADER, &rows)?;
    let large = if now["large_components"] == true { "may" } else { "may not" };
    Ok(terminal::line(&format!("Large components {large} be published."))?)
}

fn row(name: &str, limit: &Value) -> Vec<String> {
    let said = if limit["is_default"] == true { "" } else { "said for the tenant" };
    vec![name.to_owned(), limit["value"].to_string(), limit["most"].to_string(), said.to_owned()]
}

fn changes(set: &[String], unset: &[String], large: Option<bool>) -> anyhow::Result<Value> {
    let mut limits = Map::new();
    for one in set {
        let (name, value) = one.split_once('=').with_context(|| format!("`{one}` is not NAME=NUMBER"))?;
        let value: u64 = value.parse().with_context(|| format!("`{one}` is not NAME=NUMBER"))?;
        limits.insert(name.to_owned(), json!(value));
    }
    limits.extend(unset.iter().map(|name| (name.clone(), Value::Null)));
    let mut changes = json!({ "limits": limits });
    if let Some(large) = large {
        changes["large_components"] = json!(large);
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_named_is_sent() {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            changes(&texts(&["max_fuel=5"]), &texts(&["memory_mb"]), None).unwrap(),
            json!({ "limits": { "max_fuel": 5, "memory_mb": null } })
        );
        assert_eq!(changes(&[], &[], Some(true)).unwrap(), json!({ "limits": {}, "large_components": true }));
        for wrong in ["max_fuel", "max_fuel=", "max_fuel=-1", "max_fuel=1.5"] {
            assert!(changes(&texts(&[wrong]), &[], None).unwrap_err().to_string().contains("NAME=NUMBER"));
        }
    }
}
