//! `souk push`: publish a PEFT adapter folder as a version.

mod direct;
mod tries;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use futures::TryStreamExt as _;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method, StatusCode};
use serde_json::{Value, json};
use souk_protocol::manifest::{
    ADDED_TOKENS_FILE, ALLOW_NO_EFFECT_PART, BASE_PART, CARD_FILE, CONFIG_FILE, LEFT_OUT_PART, MAX_LEFT_OUT,
    MAX_TOKENIZER_FILE_BYTES, TEMPLATE_FILE, TOKENIZER_CONFIG_FILE, WEIGHTS_FILE,
};
use souk_protocol::{AdapterRef, Selector};
use tokio_util::io::ReaderStream;

use crate::cli::{Direct, PushArgs};
use crate::client::Client;
use crate::terminal;
use direct::{OutOfReach, Sending};

/// Weights of at least so many bytes go straight to the object store where that takes them: to begin and to complete such an
/// upload takes a second or so longer, and what is larger is worth going on with after an interruption.
const LARGE_BYTES: u64 = 64 << 20;

pub(crate) async fn run(arguments: PushArgs) -> anyhow::Result<ExitCode> {
    let reference: AdapterRef = arguments.reference.parse().context("the second argument is not owner/name@version")?;
    let Selector::Version(version) = &reference.selector else {
        bail!("say which version to publish: {}@1.0.0", reference.name);
    };
    let contents = FolderContents::read(&arguments.folder)?;
    let client = Client::new(&arguments.server)?;
    create_adapter_if_missing(&client, &reference, &arguments).await?;

    let weights = arguments.folder.join(WEIGHTS_FILE);
    let size_bytes = tokio::fs::metadata(&weights).await?.len();
    let bar = terminal::byte_bar(&reference.to_string(), size_bytes);
    let is_direct = match arguments.direct {
        Direct::Always => true,
        Direct::Auto => size_bytes >= LARGE_BYTES,
        Direct::Never => false,
    };
    let sending = if is_direct {
        let version = version.to_string();
        Sending::begin(&client, &reference, &version, &weights, arguments.start_over, bar.clone()).await?
    } else {
        None
    };
    let through_server = async || {
        let form = small_parts(Form::new().text("version", version.to_string()), &contents, &arguments).await?;
        let form = form.part(WEIGHTS_FILE, file_part(&arguments.folder, WEIGHTS_FILE, Some(bar.clone())).await?);
        let path = format!("/registry/v1/adapters/{}/versions", reference.name);
        client.json::<Value>(client.request(Method::POST, &path).multipart(form)).await
    };
    let answer = match sending {
        Some(sending) => match sending.send().await {
            Ok(()) => sending.complete(async || small_parts(Form::new(), &contents, &arguments).await).await?,
            Err(error) => {
                let out_of_reach = error.downcast_ref::<OutOfReach>().filter(|_| arguments.direct == Direct::Auto);
                let Some(reason) = out_of_reach else { return Err(error) };
                terminal::note(&format!("The weights go through the server: {reason}"));
                sending.give_up().await.context("the upload past the server was not ended")?;
                through_server().await?
            }
        },
        None if arguments.direct == Direct::Always => {
            bail!("the server's objects are in a folder, to which nothing can be sent past it; leave out `--direct`")
        }
        None => through_server().await?,
    };
    bar.finish_and_clear();
    let digest = answer.get("digest").and_then(Value::as_str).context("the server's answer has no digest")?;
    terminal::line(&format!("Published {reference} ({digest})"))?;
    remarks(&answer["report"]).iter().for_each(|remark| terminal::note(remark));
    if !contents.left_out.is_empty() {
        terminal::note(&format!("Not used, since Souk has no use for them: {}", contents.left_out.join(", ")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds all parts but the version and the weights.
async fn small_parts(mut form: Form, contents: &FolderContents, arguments: &PushArgs) -> anyhow::Result<Form> {
    if let Some(base) = &arguments.base {
        form = form.text(BASE_PART, base.clone());
    }
    if arguments.allow_no_effect {
        form = form.text(ALLOW_NO_EFFECT_PART, "true");
    }
    if !contents.left_out.is_empty() {
        let named = &contents.left_out[..contents.left_out.len().min(MAX_LEFT_OUT)];
        form = form.text(LEFT_OUT_PART, json!(named).to_string());
    }
    for file in &contents.sent {
        form = form.part(*file, file_part(&arguments.folder, file, None).await?);
    }
    Ok(form)
}

/// What of an adapter folder goes to the server.
#[derive(Debug, PartialEq, Eq)]
struct FolderContents {
    /// Files that are sent, without the weights, which come last.
    sent: Vec<&'static str>,
    /// Other files and folders, by name; a folder's ends with a slash.
    left_out: Vec<String>,
}

/// Files that a version can have beside its weights.
const SMALL_FILES: [&str; 5] = [CONFIG_FILE, CARD_FILE, TEMPLATE_FILE, TOKENIZER_CONFIG_FILE, ADDED_TOKENS_FILE];

impl FolderContents {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let (mut sent, mut left_out, mut has_weights) = (Vec::new(), Vec::new(), false);
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let metadata = std::fs::metadata(entry.path())?;
            let is_too_large = [TOKENIZER_CONFIG_FILE, ADDED_TOKENS_FILE].contains(&name.as_str())
                && metadata.len() > MAX_TOKENIZER_FILE_BYTES;
            match SMALL_FILES.into_iter().find(|file| *file == name) {
                Some(file) if metadata.is_file() && !is_too_large => sent.push(file),
                _ if name == WEIGHTS_FILE && metadata.is_file() => has_weights = true,
                // What tools keep for themselves, such as .git.
                _ if name.starts_with('.') => {}
                _ if is_too_large => left_out.push(format!("{name} (more than {MAX_TOKENIZER_FILE_BYTES} bytes)")),
                _ => left_out.push(if metadata.is_dir() { format!("{name}/") } else { name }),
            }
        }
        for (file, is_there) in [(CONFIG_FILE, sent.contains(&CONFIG_FILE)), (WEIGHTS_FILE, has_weights)] {
            let pickled = left_out.iter().any(|name| name == "adapter_model.bin");
            let hint = if file == WEIGHTS_FILE && pickled {
                "; adapter_model.bin is a pickle file, which may run code when read: save the adapter again with \
                 `safe_serialization=True`"
            } else {
                ""
            };
            ensure!(
                is_there,
                "{} is missing; an adapter folder has {CONFIG_FILE} and {WEIGHTS_FILE}{hint}",
                folder.join(file).display()
            );
        }
        sent.sort_unstable();
        left_out.sort();
        Ok(Self { sent, left_out })
    }
}

/// What the server's report of a version says, a line each.
fn remarks(report: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let count = |path: &str| report.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    if let Some(given) = report.pointer("/base/given").and_then(Value::as_str) {
        let id = report.pointer("/base/id").and_then(Value::as_str).unwrap_or_default();
        if !given.eq_ignore_ascii_case(id) {
            lines.push(format!("The base model `{given}` is served here as `{id}`."));
        }
    }
    if report.is_object() {
        let (pairs, dead, norms) = (count("/effect/num_pairs"), count("/effect/num_dead"), count("/effect/num_norms"));
        lines.push(format!("It changes {} of {pairs} modules and {norms} norms.", pairs - dead.min(pairs)));
    }
    match report.get("chat_template").and_then(Value::as_str) {
        Some("own") => lines.push("It is talked to by its own chat template.".to_owned()),
        Some("same_as_base") => lines.push("Its chat template is the base model's.".to_owned()),
        _ => {}
    }
    for warning in report.get("warnings").and_then(Value::as_array).into_iter().flatten() {
        let text = |field: &str| warning.get(field).and_then(Value::as_str).unwrap_or_default();
        lines.push(format!("warning: {}: {}", text("subject"), text("message")));
    }
    lines
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

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|file| std::fs::write(folder.path().join(file), "{}").unwrap());
        folder
    }

    #[test]
    fn every_file_of_the_folder_is_sent_or_named() {
        let folder = folder(&[
            CONFIG_FILE,
            WEIGHTS_FILE,
            CARD_FILE,
            "chat_template.jinja",
            "tokenizer_config.json",
            "added_tokens.json",
            "optimizer.pt",
            "training_args.bin",
            "tokenizer.json",
            ".gitattributes",
        ]);
        std::fs::create_dir(folder.path().join("checkpoint-500")).unwrap();
        let contents = FolderContents::read(folder.path()).unwrap();
        assert_eq!(
            contents.sent,
            ["README.md", CONFIG_FILE, "added_tokens.json", "chat_template.jinja", "tokenizer_config.json"]
        );
        assert_eq!(contents.left_out, ["checkpoint-500/", "optimizer.pt", "tokenizer.json", "training_args.bin"]);
    }

    #[test]
    fn a_tokenizer_file_that_is_too_large_is_named_with_the_reason() {
        let folder = folder(&[CONFIG_FILE, WEIGHTS_FILE]);
        let file = std::fs::File::create(folder.path().join(TOKENIZER_CONFIG_FILE)).unwrap();
        file.set_len(MAX_TOKENIZER_FILE_BYTES + 1).unwrap();
        let contents = FolderContents::read(folder.path()).unwrap();
        assert_eq!(contents.left_out, [format!("tokenizer_config.json (more than {MAX_TOKENIZER_FILE_BYTES} bytes)")]);
    }

    #[test]
    fn what_is_missing_is_named_with_what_may_help() {
        let text = |files: &[&str]| FolderContents::read(folder(files).path()).unwrap_err().to_string();
        assert!(text(&[WEIGHTS_FILE]).contains("adapter_config.json is missing"));
        let pickled = text(&[CONFIG_FILE, "adapter_model.bin"]);
        assert!(pickled.contains("safe_serialization=True"), "{pickled}");
    }

    #[test]
    fn a_report_becomes_lines_that_warn() {
        let report = json!({
            "base": {"id": "tiny", "given": "unsloth/Tiny-bnb-4bit"},
            "effect": {"num_pairs": 60, "num_dead": 59, "num_norms": 0},
            "chat_template": "own",
            "warnings": [{"code": "dead_pairs", "subject": "adapter_model.safetensors", "message": "59 do nothing"}],
        });
        let lines = remarks(&report);
        assert_eq!(lines.len(), 4);
        assert!(lines[0].contains("`unsloth/Tiny-bnb-4bit` is served here as `tiny`"), "{lines:?}");
        assert_eq!(lines[1], "It changes 1 of 60 modules and 0 norms.");
        assert_eq!(lines[3], "warning: adapter_model.safetensors: 59 do nothing");
        assert!(remarks(&Value::Null).is_empty());
    }
}
