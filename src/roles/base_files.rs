//! Base models that a process knows without their weights, by the files that `souk models describe` writes.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use anyhow::Context as _;
use souk_protocol::BaseModel;

/// Reads the files that `setting` names.
///
/// # Errors
/// If there is none, one cannot be read, or two describe the same model.
pub(super) fn read(setting: &str, files: &[PathBuf]) -> anyhow::Result<Vec<BaseModel>> {
    anyhow::ensure!(
        !files.is_empty(),
        "{setting} must name at least one file, as `souk models describe` writes it; given none"
    );
    let mut bases = Vec::<BaseModel>::new();
    for path in files {
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("{setting}: {shown} cannot be opened"))?;
        let base: BaseModel = serde_json::from_reader(BufReader::new(file))
            .with_context(|| format!("{setting}: {shown} is not what `souk models describe` writes"))?;
        if let Some(other) = bases.iter().find(|other| other.id == base.id || other.digest == base.digest) {
            anyhow::bail!("{setting}: {shown} describes `{}`, as another file does `{}`", base.id, other.id);
        }
        bases.push(base);
    }
    Ok(bases)
}
