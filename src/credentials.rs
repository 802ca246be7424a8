//! The keys that `souk login` got: one for each server, in a file that its owner alone can read.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::private_file::PrivateFile;

/// What the file has.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    /// By the server's address.
    servers: BTreeMap<String, Credential>,
}

/// A key of a person's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credential {
    /// The key.
    pub(crate) key: String,
    /// Its public half, which is no secret.
    pub(crate) id: String,
    /// The tenant that it is for.
    pub(crate) tenant: String,
}

impl Credentials {
    /// Those that were kept; none where there is no file.
    ///
    /// # Errors
    /// If the file cannot be read or understood.
    pub(crate) fn read() -> anyhow::Result<Self> {
        let Some(path) = path() else { return Ok(Self::default()) };
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .with_context(|| format!("{} is not what `souk login` writes; remove it", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// The key for a server.
    pub(crate) fn key(&self, url: &str) -> Option<&str> {
        self.servers.get(name_of(url)).map(|credential| credential.key.as_str())
    }

    /// What was kept for a server, which is not kept any more.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn take(mut self, url: &str) -> anyhow::Result<Option<Credential>> {
        let taken = self.servers.remove(name_of(url));
        if taken.is_some() {
            self.write()?;
        }
        Ok(taken)
    }

    /// Keeps a key for a server; answers the file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn keep(mut self, url: &str, credential: Credential) -> anyhow::Result<PathBuf> {
        self.servers.insert(name_of(url).to_owned(), credential);
        self.write()
    }

    fn write(&self) -> anyhow::Result<PathBuf> {
        let path = path().context("there is no HOME to keep the key in; set XDG_CONFIG_HOME")?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        PrivateFile::open(&path)?.write(&serde_json::to_string(self).context("texts are JSON")?)?;
        Ok(path)
    }
}

/// A server is the same with a slash at the end and without.
fn name_of(url: &str) -> &str {
    url.trim_end_matches('/')
}

fn path() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(config.join("souk/credentials.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_servers_address_and_any_other_text_is_refused() {
        let credential = Credential { key: "souk_k".to_owned(), id: "k".to_owned(), tenant: "acme".to_owned() };
        let servers = [("http://127.0.0.1:8080".to_owned(), credential)].into();
        let credentials = Credentials { servers };
        assert_eq!(credentials.key("http://127.0.0.1:8080/"), Some("souk_k"));
        assert_eq!(credentials.key("http://127.0.0.1:8081"), None);
        let text = serde_json::to_string(&credentials).unwrap();
        assert!(!text.contains('\n'), "it is one line");
        assert_eq!(serde_json::from_str::<Credentials>(&text).unwrap(), credentials);
        assert!(serde_json::from_str::<Credentials>(r#"{"servers":{},"more":1}"#).is_err());
    }
}
