//! `souk audit`: list, export and verify who changed what.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use reqwest::{Method, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use souk_registry::{AuditFault, AuditVerifier, HeadLine, VerifiedAudit};

use super::download::save;
use crate::cli::{AuditCommand, ChainArgs};
use crate::client::Client;
use crate::terminal;

/// The exit code where something does not fit: 1 says that it could not be read.
const FAULT: u8 = 3;

/// A page of the registry.
#[derive(Deserialize)]
struct Page {
    data: Vec<Value>,
    next_cursor: Option<String>,
}

pub(crate) async fn run(command: AuditCommand) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::List { server, chain, limit, json } => {
            let entries = pages(&Client::new(&server)?, "/registry/v1/audit", &chain, limit).await?;
            show(&entries, json)?;
        }
        AuditCommand::Export { server, chain, out } => export(&Client::new(&server)?, &chain, out.as_deref()).await?,
        AuditCommand::Heads { server, chain } => {
            for head in pages(&Client::new(&server)?, "/registry/v1/audit/heads", &chain, usize::MAX).await? {
                terminal::line(&head.to_string())?;
            }
        }
        AuditCommand::Verify { server, chain, file, heads, json } => {
            let kept = heads.as_deref().map(kept_heads).transpose()?.unwrap_or_default();
            let verified = match file {
                Some(file) => verify_file(&file, kept)?,
                None => verify_server(&Client::new(&server)?, &chain, kept).await?,
            };
            return tell(verified, json);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(entries: &[Value], json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(entries.iter().try_for_each(|entry| terminal::line(&entry.to_string()))?);
    }
    let text = |entry: &Value, field: &str| entry.pointer(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let row = |entry: &Value| {
        let number = entry["number"].to_string();
        let who = format!("{} {}", text(entry, "/actor/kind"), text(entry, "/actor/id"));
        vec![number, text(entry, "/at"), who.trim_end().to_owned(), text(entry, "/action"), text(entry, "/subject")]
    };
    let rows: Vec<_> = entries.iter().map(row).collect();
    Ok(terminal::table(&["NUMBER", "AT", "WHO", "ACTION", "SUBJECT"], &rows)?)
}

async fn export(client: &Client, chain: &ChainArgs, out: Option<&Path>) -> anyhow::Result<()> {
    let last = save(export_of(client, chain).await?, out).await?;
    ensure!(last.starts_with(br#"{"end":"#), "the export broke off: its last line is missing");
    Ok(())
}

async fn export_of(client: &Client, chain: &ChainArgs) -> anyhow::Result<Response> {
    client.send(client.request(Method::GET, "/registry/v1/audit/export").query(&query(chain))).await
}

/// Up to `limit` items of a list, page by page.
async fn pages(client: &Client, path: &str, chain: &ChainArgs, limit: usize) -> anyhow::Result<Vec<Value>> {
    let (mut items, mut cursor) = (Vec::new(), None);
    while items.len() < limit {
        let mut query = query(chain);
        query.push(("limit", (limit - items.len()).min(100).to_string()));
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page: Page = client.json(client.request(Method::GET, path).query(&query)).await?;
        items.extend(page.data);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(items)
}

fn query(chain: &ChainArgs) -> Vec<(&'static str, String)> {
    let tenant = chain.tenant.iter().map(|tenant| ("tenant", tenant.clone()));
    tenant.chain(chain.installation.then(|| ("installation", "true".to_owned()))).collect()
}

fn kept_heads(path: &Path) -> anyhow::Result<Vec<HeadLine>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut heads = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        let head = serde_json::from_str(&line).with_context(|| {
            format!("line {} of {} is no head as `souk audit heads` prints it", index + 1, path.display())
        })?;
        heads.push(head);
    }
    Ok(heads)
}

fn verify_file(path: &Path, heads: Vec<HeadLine>) -> anyhow::Result<Result<VerifiedAudit, AuditFault>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut verifier, mut file, mut line) = (AuditVerifier::new(heads), BufReader::new(file), Vec::new());
    loop {
        line.clear();
        let read = file.read_until(b'\n', &mut line).with_context(|| format!("cannot read {}", path.display()))?;
        if read == 0 {
            return Ok(verifier.finish());
        }
        if let Err(fault) = verifier.line(&line) {
            return Ok(Err(fault));
        }
    }
}

async fn verify_server(
    client: &Client,
    chain: &ChainArgs,
    kept: Vec<HeadLine>,
) -> anyhow::Result<Result<VerifiedAudit, AuditFault>> {
    // Before the export, so that none is of an entry that came after it.
    let published = pages(client, "/registry/v1/audit/heads", chain, usize::MAX).await?;
    let published: Result<Vec<HeadLine>, _> = published.into_iter().map(serde_json::from_value).collect();
    let published = published.context("the server's answer is not understood")?;
    // What was kept counts for more.
    let mut verifier = AuditVerifier::new(published.into_iter().chain(kept));
    let (mut bytes, mut rest) = (export_of(client, chain).await?.bytes_stream(), Vec::new());
    while let Some(piece) = bytes.next().await {
        rest.extend_from_slice(&piece.context("the export broke off")?);
        let lines = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in rest[..lines].split_inclusive(|byte| *byte == b'\n') {
            if let Err(fault) = verifier.line(line) {
                return Ok(Err(fault));
            }
        }
        rest.drain(..lines);
    }
    if !rest.is_empty()
        && let Err(fault) = verifier.line(&rest)
    {
        return Ok(Err(fault));
    }
    Ok(verifier.finish())
}

fn tell(verified: Result<VerifiedAudit, AuditFault>, as_json: bool) -> anyhow::Result<ExitCode> {
    match verified {
        Ok(VerifiedAudit { chain, first, last, hash, num_heads }) if as_json => {
            let told = json!({ "chain": chain, "first": first, "last": last, "hash": hash, "num_heads": num_heads });
            terminal::json(&told)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(fault) if as_json => {
            terminal::json(&json!({ "fault": fault.to_string() }))?;
            Ok(ExitCode::from(FAULT))
        }
        Ok(VerifiedAudit { chain, first, last, hash, num_heads }) => {
            terminal::line(&format!("{chain}: entries {first} to {last} fit; the last has the hash {hash}"))?;
            terminal::note(&match num_heads {
                0 => "No published head was met: a chain that was written anew as a whole would look the same."
                    .to_owned(),
                number => format!("{number} published heads were met."),
            });
            Ok(ExitCode::SUCCESS)
        }
        Err(fault) => {
            terminal::line(&fault.to_string())?;
            Ok(ExitCode::from(FAULT))
        }
    }
}
