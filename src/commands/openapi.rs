//! `souk openapi`: write the API documents from the code, or check that the files are current.

use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::cli::OpenapiArgs;
use crate::terminal;

pub(crate) fn run(arguments: &OpenapiArgs) -> anyhow::Result<ExitCode> {
    let documents = [("registry.json", souk_registry::openapi()), ("gateway.json", souk_gateway::openapi())];
    for (name, document) in documents {
        let path = arguments.dir.join(name);
        let mut text = document.to_pretty_json().context("the document is not JSON")?;
        text.push('\n');
        if arguments.check {
            let present = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            if present != text {
                bail!("{} is not what the code says; run `make openapi` and commit the result", path.display());
            }
        } else {
            std::fs::create_dir_all(&arguments.dir)?;
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            terminal::note(&format!("Wrote {}", path.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}
