//! `souk hook variables`: what hooks read of a tenant, and who reads what they say.

use std::collections::BTreeSet;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Client;

const PATH: &str = "/registry/v1/hook-settings";

/// The settings as they are after these changes, which may be none.
pub(super) async fn change(
    client: &Client,
    set: &[String],
    let_read: &[String],
    stop_reading: &[String],
) -> anyhow::Result<Value> {
    let now: Value = client.json(client.request(Method::GET, PATH)).await?;
    if set.is_empty() && let_read.is_empty() && stop_reading.is_empty() {
        return Ok(now);
    }
    let changed = changed(&now, set, let_read, stop_reading)?;
    client.json(client.request(Method::PUT, PATH).json(&changed)).await
}

fn changed(now: &Value, set: &[String], let_read: &[String], stop_reading: &[String]) -> anyhow::Result<Value> {
    let mut variables = now["variables"].as_object().cloned().unwrap_or_default();
    for one in set {
        let (name, value) = one.split_once('=').with_context(|| format!("`{one}` is not NAME=VALUE"))?;
        if value.is_empty() {
            variables.remove(name);
        } else {
            variables.insert(name.to_owned(), json!(value));
        }
    }
    let readers = now["log_readers"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut readers: BTreeSet<_> = readers.chain(let_read.iter().map(String::as_str)).collect();
    readers.retain(|tenant| !stop_reading.iter().any(|stopped| stopped == tenant));
    Ok(json!({ "variables": variables, "log_readers": readers }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let now = json!({ "variables": { "a": "1", "b": "2" }, "log_readers": ["x", "y"], "updated_at": null });
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let set = texts(&["a=", "c=3=4"]);
        assert_eq!(
            changed(&now, &set, &texts(&["z"]), &texts(&["x"])).unwrap(),
            json!({ "variables": { "b": "2", "c": "3=4" }, "log_readers": ["y", "z"] })
        );
        assert!(changed(&now, &texts(&["a"]), &[], &[]).unwrap_err().to_string().contains("NAME=VALUE"));
    }
}
