//! `souk hook`: publish hooks, attach them, and see what they did.

mod bench;
mod build;
mod limits;
mod new;
mod pipelines;
mod shown;
mod test;
mod tried;
mod variables;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use souk_protocol::HookRef;
use souk_protocol::hooks::HookSelector;

use crate::cli::HookCommand;
use crate::client::{Client, explain};
use crate::terminal;

pub(crate) async fn run(command: HookCommand) -> anyhow::Result<ExitCode> {
    match command {
        HookCommand::New { lang, folder } => new::new(lang, &folder)?,
        HookCommand::Build { folder, arguments } => build::build(&folder, &arguments)?,
        HookCommand::Test { hook, bless } => return test::test(&hook, bless).await,
        HookCommand::Bench { hook, seconds } => bench::bench(&hook, seconds).await?,
        HookCommand::Publish { to, component, reference, visibility, description } => {
            let client = Client::new(&to.server)?;
            let version = publish(&client, &component, &reference, &visibility, &description).await?;
            shown::version(&version, to.json)?;
        }
        HookCommand::List { to, search } => {
            let search = search.map(|text| format!("?{}", encoded("search", &text))).unwrap_or_default();
            let hooks = Client::new(&to.server)?.all(&format!("/registry/v1/hooks{search}")).await?;
            shown::hooks(&hooks, to.json)?;
        }
        HookCommand::Show { to, reference } => show(&Client::new(&to.server)?, &reference, to.json).await?,
        HookCommand::Attach { to, reference, at, hook_config, skip, share, first } => {
            let step = pipelines::step(&reference, &hook_config, skip, share.as_deref())?;
            let client = Client::new(&to.server)?;
            shown::pipeline(&pipelines::attach(&client, &at, step, first).await?, to.json)?;
        }
        HookCommand::Detach { to, reference, at } => {
            let client = Client::new(&to.server)?;
            shown::pipeline(&pipelines::detach(&client, &at, &reference).await?, to.json)?;
        }
        HookCommand::Pipeline { to, at, history, all } => {
            let client = Client::new(&to.server)?;
            if all {
                shown::pipelines(&client.all("/registry/v1/pipelines").await?, to.json)?;
            } else if history {
                let path = format!("{}/history", pipelines::path(&client, &at).await?);
                shown::pipelines(&client.all(&path).await?, to.json)?;
            } else {
                shown::pipeline(&pipelines::now(&client, &pipelines::path(&client, &at).await?).await?, to.json)?;
            }
        }
        HookCommand::Rollback { to, at, number } => {
            let client = Client::new(&to.server)?;
            shown::pipeline(&pipelines::roll_back(&client, &at, number).await?, to.json)?;
        }
        HookCommand::Variables { to, set, let_read, stop_reading } => {
            let client = Client::new(&to.server)?;
            shown::settings(&variables::change(&client, &set, &let_read, &stop_reading).await?, to.json)?;
        }
        HookCommand::Limits { of, set, unset, large } => limits::run(&of, &set, &unset, large).await?,
        HookCommand::Logs { to, hook, failures, limit } => {
            let path = format!("{}/lines?failures={failures}", hook_path(&hook.parse()?));
            let mut lines = Client::new(&to.server)?.some(&path, limit).await?;
            lines.truncate(limit);
            shown::lines(&lines, to.json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Publishes a component; makes the hook if there is none.
async fn publish(
    client: &Client,
    component: &Path,
    reference: &str,
    visibility: &str,
    description: &str,
) -> anyhow::Result<Value> {
    let reference: HookRef = reference.parse()?;
    let HookSelector::Version(version) = &reference.selector else {
        bail!("say which version to publish: {}@1.0.0", reference.name);
    };
    let bytes = std::fs::read(component).with_context(|| format!("cannot read {}", component.display()))?;
    let (owner, name) = (reference.name.owner(), reference.name.name());
    let new = json!({ "name": name, "owner": owner, "visibility": visibility, "description": description });
    let made = client.request(Method::POST, "/registry/v1/hooks").json(&new).send().await;
    let made = made.context("cannot reach the server")?;
    let (status, text) = (made.status(), made.text().await.unwrap_or_default());
    let is_there = status == StatusCode::CONFLICT && text.contains("already_exists");
    if !status.is_success() && !is_there {
        bail!("{}", explain(status, &text));
    }
    let part = Part::bytes(bytes).file_name("component.wasm").mime_str("application/wasm")?;
    let form = Form::new().text("version", version.to_string()).part("component", part);
    let path = format!("{}/versions", hook_path(&reference));
    client.json(client.request(Method::POST, &path).multipart(form)).await
}

async fn show(client: &Client, reference: &str, as_json: bool) -> anyhow::Result<()> {
    let reference: HookRef = reference.parse()?;
    let path = hook_path(&reference);
    match &reference.selector {
        HookSelector::Version(version) => {
            let version = client.json(client.request(Method::GET, &format!("{path}/versions/{version}"))).await?;
            shown::version(&version, as_json)
        }
        HookSelector::Digest(_) => bail!("name the version by its number: {}@1.0.0", reference.name),
        HookSelector::Latest => {
            let mut hook: Value = client.json(client.request(Method::GET, &path)).await?;
            let versions = client.all(&format!("{path}/versions")).await?;
            if as_json {
                hook["versions"] = json!(versions);
                return Ok(terminal::json(&hook)?);
            }
            shown::hook(&hook, &versions)
        }
    }
}

/// The path of a hook.
fn hook_path(reference: &HookRef) -> String {
    format!("/registry/v1/hooks/{}", reference.name)
}

/// A parameter of a query.
fn encoded(name: &str, value: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let value: String = value
        .bytes()
        .map(|byte| if safe(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("{name}={value}")
}
