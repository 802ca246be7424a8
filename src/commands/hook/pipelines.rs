//! `souk hook attach`, `detach`, `pipeline` and `rollback`: what acts where.

use anyhow::{Context as _, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use souk_protocol::hooks::HookSelector;
use souk_protocol::{AdapterRef, HookRef, Selector};

use crate::cli::TargetArgs;
use crate::client::Client;

/// A step as the server takes it.
pub(super) fn step(reference: &str, config: &str, skip: bool, share: Option<&str>) -> anyhow::Result<Value> {
    let reference: HookRef = reference.parse()?;
    let text = match config.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?,
        None => config.to_owned(),
    };
    let config: Value = serde_json::from_str(&text).context("the configuration is not JSON")?;
    let on_failure = if skip { "skip" } else { "fail_closed" };
    let mut step = json!({ "hook": reference.to_string(), "config": config, "on_failure": on_failure });
    if let Some(share) = share {
        let (from, below) = share.split_once("..").unwrap_or(("0", share));
        let number = |text: &str| text.parse::<u8>().ok().filter(|number| *number <= 100);
        let (Some(from), Some(below)) = (number(from), number(below)) else {
            bail!("a share is `10` or `10..100`, in hundredths; given `{share}`");
        };
        step["share"] = json!({ "from": from, "below": below });
    }
    Ok(step)
}

/// The path of a target.
pub(super) async fn path(client: &Client, at: &TargetArgs) -> anyhow::Result<String> {
    if let Some(adapter) = &at.adapter {
        let reference: AdapterRef = adapter.parse().context("the adapter is not owner/name@version")?;
        let Selector::Version(version) = &reference.selector else {
            bail!("say which version of the adapter: {}@1.0.0", reference.name);
        };
        return Ok(format!("/registry/v1/adapters/{}/versions/{version}/pipeline", reference.name));
    }
    let (level, target) = match (&at.key, &at.route) {
        (Some(key), _) => ("key", key.clone()),
        (_, Some(route)) => ("route", route.clone()),
        _ => ("tenant", tenant(client).await?),
    };
    Ok(format!("/registry/v1/pipelines/{level}/{target}"))
}

/// The name of the key's tenant.
async fn tenant(client: &Client) -> anyhow::Result<String> {
    let who: Value = client.json(client.request(Method::GET, "/registry/v1/auth/whoami")).await?;
    let name = who["tenant"].as_str().or_else(|| who["tenant"]["name"].as_str());
    name.map(str::to_owned).context("the server does not say whose the key is")
}

pub(super) async fn now(client: &Client, path: &str) -> anyhow::Result<Value> {
    client.json(client.request(Method::GET, path)).await
}

pub(super) async fn attach(client: &Client, at: &TargetArgs, step: Value, first: bool) -> anyhow::Result<Value> {
    let path = path(client, at).await?;
    let mut steps = steps_of(&now(client, &path).await?);
    steps.insert(if first { 0 } else { steps.len() }, step);
    set(client, &path, &steps).await
}

pub(super) async fn detach(client: &Client, at: &TargetArgs, reference: &str) -> anyhow::Result<Value> {
    let reference: HookRef = reference.parse()?;
    let path = path(client, at).await?;
    let before = now(client, &path).await?;
    let all = steps_of(&before);
    let is_named = |step: &Value| names(&reference, step["hook"].as_str().unwrap_or_default());
    let left: Vec<_> = all.iter().filter(|step| !is_named(step)).cloned().collect();
    ensure!(left.len() < all.len(), "no step there is of {reference}; `souk hook pipeline` shows them");
    set(client, &path, &left).await
}

pub(super) async fn roll_back(client: &Client, at: &TargetArgs, number: Option<i64>) -> anyhow::Result<Value> {
    let path = path(client, at).await?;
    let number = match number {
        Some(number) => number,
        None => {
            let last = now(client, &path).await?["number"].as_i64().unwrap_or_default();
            ensure!(last > 1, "there is nothing before it; `souk hook detach` takes hooks away");
            last - 1
        }
    };
    let request = client.request(Method::POST, &format!("{path}/roll-back")).json(&json!({ "number": number }));
    client.json(request).await
}

async fn set(client: &Client, path: &str, steps: &[Value]) -> anyhow::Result<Value> {
    client.json(client.request(Method::PUT, path).json(&json!({ "steps": steps }))).await
}

/// The steps of a pipeline as the server takes them, pinned as they are.
fn steps_of(pipeline: &Value) -> Vec<Value> {
    let steps = pipeline["steps"].as_array().into_iter().flatten();
    let asked = |step: &Value| {
        let text = |field: &str| step[field].as_str().unwrap_or_default();
        json!({
            "hook": format!("{}@{}", text("hook"), text("version")), "config": step["config"],
            "on_failure": step["on_failure"], "share": step["share"],
        })
    };
    steps.map(asked).collect()
}

/// Whether a step of the hook `pinned`, as `owner/name@version`, is meant.
fn names(reference: &HookRef, pinned: &str) -> bool {
    match &reference.selector {
        HookSelector::Version(_) | HookSelector::Digest(_) => reference.to_string() == pinned,
        HookSelector::Latest => pinned.split('@').next() == Some(&reference.name.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_what_its_flags_say() {
        assert_eq!(
            step("acme/mask@1.0.0", r#"{"a": 1}"#, true, Some("10..100")).unwrap(),
            json!({
                "hook": "acme/mask@1.0.0", "config": { "a": 1 }, "on_failure": "skip",
                "share": { "from": 10, "below": 100 },
            })
        );
        assert_eq!(step("acme/mask", "{}", false, Some("5")).unwrap()["share"], json!({ "from": 0, "below": 5 }));
        for (reference, config, share) in [
            ("mask", "{}", None),
            ("acme/mask", "{", None),
            ("acme/mask", "{}", Some("101")),
            ("acme/mask", "{}", Some("x")),
        ] {
            assert!(step(reference, config, false, share).is_err(), "{reference} {config} {share:?}");
        }
    }

    #[test]
    fn steps_go_back_as_they_came_and_are_named_by_hook_or_version() {
        let came = json!({ "steps": [{
            "hook": "acme/mask", "version": "1.0.0", "digest": "sha256:0", "config": { "a": 1 }, "on_failure": "skip",
            "share": { "from": 0, "below": 100 }, "standing": "callable",
        }] });
        let [back] = &steps_of(&came)[..] else { panic!("one step") };
        assert_eq!(back["hook"], "acme/mask@1.0.0");
        assert_eq!((&back["config"], back.get("standing")), (&json!({ "a": 1 }), None));
        let is_named = |reference: &str| names(&reference.parse().unwrap(), "acme/mask@1.0.0");
        assert!(is_named("acme/mask") && is_named("acme/mask@1.0.0"));
        assert!(!is_named("acme/mask@1.0.1") && !is_named("acme/mas"));
    }
}
