//! `souk push`: publish a PEFT adapter folder as a version.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use futures::TryStreamExt as _;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method, StatusCode};
use serde_json::{Value, json};
use souk_protocol::manifest::{CARD_FILE, CONFIG_FILE, WEIGHTS_FILE};
use souk_protocol::{AdapterRef, Selector};
use tokio_util::io::ReaderStream;

use crate::cli::PushArgs;
use crate::client::Client;
use crate::terminal;

pub(crate) async fn run(arguments: PushArgs) -> anyhow::Result<ExitCode> {
    let reference: AdapterRef = arguments.reference.parse().context("the second argument is not owner/name@version")?;
    let Selector::Version(version) = &reference.selector else {
        bail!("say which version to publish: {}@1.0.0", reference.name);
    };
    for file in [CONFIG_FILE, WEIGHTS_FILE] {
        let path = arguments.folder.join(file);
        ensure!(
            path.is_file(),
            "{} is missing; an adapter folder has {CONFIG_FILE} and {WEIGHTS_FILE}",
            path.display()
        );
    }
    let client = Client::new(&arguments.server)?;
    create_adapter_if_missing(&client, &reference, &arguments).await?;

    let weights = tokio::fs::metadata(arguments.folder.join(WEIGHTS_FILE)).await?.len();
    let bar = terminal::byte_bar(&reference.to_string(), weights);
    let mut form = Form::new().text("version", version.to_string());
    form = form.part(CONFIG_FILE, file_part(&arguments.folder, CONFIG_FILE, None).await?);
    if arguments.folder.join(CARD_FILE).is_file() {
        form = form.part(CARD_FILE, file_part(&arguments.folder, CARD_FILE, None).await?);
    }
    form = form.part(WEIGHTS_FILE, file_part(&arguments.folder, WEIGHTS_FILE, Some(bar.clone())).await?);

    let path = format!("/registry/v1/adapters/{}/versions", reference.name);
    let answer: Value = client.json(client.request(Method::POST, &path).multipart(form)).await?;
    bar.finish_and_clear();
    let digest = answer.get("digest").and_then(Value::as_str).context("the server's answer has no digest")?;
    terminal::line(&format!("Published {reference} ({digest})"))?;
    Ok(ExitCode::SUCCESS)
}

async fn create_adapter_if_missing(
    client: &Client,
    reference: &AdapterRef,
    arguments: &PushArgs,
) -> anyhow::Result<()> {
    let path = format!("/registry/v1/adapters/{}", reference.name);
    let found = client.request(Method::GET, &path).send().await.context("cannot reach the server; is --url right?")?;
    if found.status() != StatusCode::NOT_FOUND {
        return Ok(());
    }
    let visibility = if arguments.public { "public" } else { "private" };
    let body = json!({
        "name": reference.name.name(),
        "owner": reference.name.owner(),
        "visibility": visibility,
        "description": arguments.description,
    });
    let request = client.request(Method::POST, "/registry/v1/adapters").json(&body);
    client.send(request).await.with_context(|| format!("cannot create {}", reference.name))?;
    Ok(())
}

/// A file as a streamed part, so that a large one is never in memory whole.
async fn file_part(folder: &Path, name: &'static str, bar: Option<indicatif::ProgressBar>) -> anyhow::Result<Part> {
    let path = folder.join(name);
    let file = tokio::fs::File::open(&path).await.with_context(|| format!("cannot open {}", path.display()))?;
    let length = file.metadata().await?.len();
    let stream = ReaderStream::new(file).inspect_ok(move |bytes| {
        if let Some(bar) = &bar {
            bar.inc(bytes.len() as u64);
        }
    });
    Ok(Part::stream_with_length(Body::wrap_stream(stream), length).file_name(name))
}
