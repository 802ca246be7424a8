//! What a process runs and compiles hooks with: one host, one compiler and one sealing key, whatever roles it has.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};
use souk_gateway::{HookSource, Hooks, HooksParts};
use souk_plugins::{Compiler, HookSettings, Host, SealingKey};
use souk_registry::HookIntake;

use crate::config::Config;
use crate::ports::hook_intake::{Compile, Intake};

/// The sealing key's file in the data folder, where the settings have none.
const KEY_FILE: &str = "hook-sealing-key";
/// The hidden command of the process that compiles.
pub(crate) const COMPILE_COMMAND: &str = "compile-hook";

/// What hooks are run and compiled with. Clones are the same.
#[derive(Clone)]
pub(crate) struct HookWorks {
    pub(crate) host: Arc<Host>,
    pub(crate) compiler: Arc<Compiler>,
    pub(crate) settings: HookSettings,
}

impl HookWorks {
    /// Starts the host.
    ///
    /// # Errors
    /// If the engine or its threads cannot be had, or the sealing key can be neither read nor made.
    pub(crate) fn start(config: &Config) -> anyhow::Result<Self> {
        let settings = config.hooks.clone();
        let key = sealing_key(config)?;
        let host = Host::start(&settings, key.clone()).context("hooks cannot be run")?;
        let program = std::env::current_exe().context("the executable does not know where it is")?;
        let compiler = Compiler::new(program, vec![COMPILE_COMMAND.into()], settings.clone(), key);
        Ok(Self { host: Arc::new(host), compiler: Arc::new(compiler), settings })
    }

    /// What a registry looks at hooks with.
    pub(crate) fn for_registry(&self) -> Arc<dyn HookIntake> {
        let compiler = Arc::clone(&self.compiler);
        let compile: Compile = Box::new(move |tenant, tier, component| {
            let compiler = Arc::clone(&compiler);
            Box::pin(async move { compiler.compile(&tenant, tier, &component).await })
        });
        Arc::new(Intake::new(Arc::clone(&self.host), self.settings.clone(), compile))
    }

    /// What a gateway calls hooks with. Call it within a tokio runtime.
    pub(crate) fn for_gateway(&self, source: Arc<dyn HookSource>) -> Hooks {
        let Self { host, compiler, settings } = self.clone();
        Hooks::new(HooksParts { host, compiler, source, settings })
    }
}

/// The key of the settings, or that of the data folder, which the first process makes there.
fn sealing_key(config: &Config) -> anyhow::Result<SealingKey> {
    let of_settings = &config.hooks.sealing_key;
    if !of_settings.expose_secret().is_empty() {
        return Ok(SealingKey::new(of_settings.clone()));
    }
    let folder = config.data.folder()?;
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let path = folder.join(KEY_FILE);
    let key =
        kept_or_new(&path).with_context(|| format!("the sealing key of hooks {} cannot be used", path.display()))?;
    Ok(SealingKey::new(key))
}

/// What is in the file; of several processes that find none, one makes it.
fn kept_or_new(path: &Path) -> io::Result<SecretString> {
    match std::fs::read_to_string(path) {
        Ok(key) => return Ok(SecretString::from(key.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let bytes: [u8; 32] = rand::random();
    let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let partial = path.with_extension(std::process::id().to_string());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    let written = file.write_all(key.as_bytes()).and_then(|()| file.sync_all());
    // A link is made only where there is nothing, so whoever comes second finds the first one's.
    let placed = written.and_then(|()| std::fs::hard_link(&partial, path));
    std::fs::remove_file(&partial)?;
    match placed {
        Ok(()) => Ok(SecretString::from(key)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::read_to_string(path).map(|key| SecretString::from(key.trim().to_owned()))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_private_however_many_want_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(KEY_FILE);
        let first = kept_or_new(&path).expect("it can be made");
        let again = kept_or_new(&path).expect("it can be read");
        assert_eq!(first.expose_secret(), again.expose_secret());
        assert_eq!(first.expose_secret().len(), 64);
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let files = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(files, 1, "nothing else is left");
    }
}
