//! Writing an answer to a file or to standard output as it comes.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use futures::StreamExt as _;
use reqwest::Response;

use crate::terminal;

/// Longest line of which the beginning is looked at, in bytes.
const LOOKED_AT: usize = 64;

/// Writes `answer` to `out`, or to standard output; answers what its last line begins with.
///
/// # Errors
/// If the answer breaks off or cannot be written.
pub(super) async fn save(answer: Response, out: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let mut out: Box<dyn Write> = match out {
        Some(path) => Box::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?),
        None => Box::new(terminal::output()),
    };
    let (mut bytes, mut last, mut is_over) = (answer.bytes_stream(), Vec::new(), false);
    while let Some(piece) = bytes.next().await {
        let piece = piece.context("the export broke off")?;
        out.write_all(&piece)?;
        for byte in piece {
            if std::mem::replace(&mut is_over, byte == b'\n') {
                last.clear();
            }
            if last.len() < LOOKED_AT {
                last.push(byte);
            }
        }
    }
    out.flush()?;
    Ok(last)
}
