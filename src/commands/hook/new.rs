//! `souk hook new`: a folder with a hook that works.

use std::path::Path;

use anyhow::{Context as _, ensure};
use souk_protocol::hooks::HookName;

use crate::cli::Language;
use crate::terminal;

/// What the templates call their hook.
const NAME: &str = "my-hook";

/// A file of a new hook.
struct File {
    path: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($path:literal = $from:literal,)*) => {
        &[$(File { path: $path, bytes: include_bytes!(concat!("../../../plugins/", $from)) }),*]
    };
}

const INTERFACE: &[File] = files! { "hooks.wit" = "wit/since-v0.1.0/hooks.wit", };

const RUST: &[File] = files! {
    ".cargo/config.toml" = "sdk/rust/template/.cargo/config.toml",
    ".gitignore" = "sdk/rust/template/.gitignore",
    "Cargo.toml" = "sdk/rust/template/Cargo.toml",
    "README.md" = "sdk/rust/template/README.md",
    "cases/puts-the-name-in.json" = "sdk/rust/template/cases/puts-the-name-in.json",
    "config.schema.json" = "sdk/rust/template/config.schema.json",
    "src/lib.rs" = "sdk/rust/template/src/lib.rs",
    "souk-hook/Cargo.toml" = "sdk/rust/Cargo.toml",
    "souk-hook/src/bindings.rs" = "sdk/rust/src/bindings.rs",
    "souk-hook/src/conveniences.rs" = "sdk/rust/src/conveniences.rs",
    "souk-hook/src/hook.rs" = "sdk/rust/src/hook.rs",
    "souk-hook/src/json.rs" = "sdk/rust/src/json.rs",
    "souk-hook/src/json/reader.rs" = "sdk/rust/src/json/reader.rs",
    "souk-hook/src/json/writer.rs" = "sdk/rust/src/json/writer.rs",
    "souk-hook/src/lib.rs" = "sdk/rust/src/lib.rs",
    "souk-hook/src/replace.rs" = "sdk/rust/src/replace.rs",
    "souk-hook/src/sections.rs" = "sdk/rust/src/sections.rs",
    "souk-hook/src/stream.rs" = "sdk/rust/src/stream.rs",
    "souk-hook/src/texts.rs" = "sdk/rust/src/texts.rs",
};

const JS: &[File] = files! {
    ".gitignore" = "sdk/js/template/.gitignore",
    "README.md" = "sdk/js/template/README.md",
    "cases/puts-the-name-in.json" = "sdk/js/template/cases/puts-the-name-in.json",
    "hook.js" = "sdk/js/template/hook.js",
    "package.json" = "sdk/js/template/package.json",
    "souk-hook.js" = "sdk/js/souk-hook.js",
};

const PYTHON: &[File] = files! {
    ".gitignore" = "sdk/python/template/.gitignore",
    "README.md" = "sdk/python/template/README.md",
    "build.sh" = "sdk/python/template/build.sh",
    "cases/puts-the-name-in.json" = "sdk/python/template/cases/puts-the-name-in.json",
    "hook.py" = "sdk/python/template/hook.py",
    "name.py" = "sdk/python/template/name.py",
    "requirements.txt" = "sdk/python/template/requirements.txt",
    "souk_hook.py" = "sdk/python/souk_hook.py",
    "stream.py" = "sdk/python/template/stream.py",
};

const C: &[File] = files! {
    ".gitignore" = "sdk/c/template/.gitignore",
    "README.md" = "sdk/c/template/README.md",
    "build.sh" = "sdk/c/template/build.sh",
    "cases/puts-the-name-in.json" = "sdk/c/template/cases/puts-the-name-in.json",
    "component.mjs" = "sdk/c/component.mjs",
    "full_hook.c" = "sdk/c/bindings/full-hook/full_hook.c",
    "full_hook.h" = "sdk/c/bindings/full-hook/full_hook.h",
    "full_hook_component_type.o" = "sdk/c/bindings/full-hook/full_hook_component_type.o",
    "hook.c" = "sdk/c/template/hook.c",
    "souk_hook.c" = "sdk/c/souk_hook.c",
    "souk_hook.h" = "sdk/c/souk_hook.h",
};

const fn files(language: Language) -> &'static [File] {
    match language {
        Language::Rust => RUST,
        Language::Js => JS,
        Language::Python => PYTHON,
        Language::C => C,
    }
}

/// Makes the folder.
pub(super) fn new(language: Language, folder: &Path) -> anyhow::Result<()> {
    let name = std::path::absolute(folder)?.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_name = format!("owner/{name}").parse::<HookName>().is_ok();
    ensure!(is_name, "a hook cannot be called \"{name}\": lower-case letters, digits and single dashes between them");
    let is_free = std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    ensure!(is_free, "{} is there already, and not empty", folder.display());
    for file in files(language).iter().chain(INTERFACE) {
        write(folder, file, &name).with_context(|| format!("cannot write {}", folder.join(file.path).display()))?;
    }
    let shown = folder.display();
    terminal::line(&format!("{name} is in {shown}. Build it and run its case:"))?;
    terminal::line(&format!("  souk hook build {shown} && souk hook test {shown}"))?;
    Ok(())
}

fn write(folder: &Path, file: &File, name: &str) -> std::io::Result<()> {
    let path = folder.join(file.path);
    std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
    // What comes as bytes has no name in it.
    match std::str::from_utf8(file.bytes) {
        Ok(text) => std::fs::write(&path, text.replace(NAME, name).replace("my_hook", &name.replace('-', "_")))?,
        Err(_) => std::fs::write(&path, file.bytes)?,
    }
    if file.path.ends_with(".sh") {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;

    /// The files below a folder, but for those in a folder of this name.
    fn below(folder: &Path, but: &str, into: &mut BTreeSet<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if !path.is_dir() {
                into.insert(path);
            } else if path.file_name().is_some_and(|name| name != but) {
                below(&path, but, into);
            }
        }
    }

    #[test]
    fn a_new_hook_has_all_of_its_template_and_of_what_it_is_written_with() {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/sdk");
        let languages =
            [("rust", Language::Rust), ("js", Language::Js), ("python", Language::Python), ("c", Language::C)];
        for (folder, language) in languages {
            let sdk = sdk.join(folder);
            let mut there = BTreeSet::new();
            below(&sdk, "target", &mut there);
            // Of C only the bindings of the world with everything.
            there.retain(|path| {
                !path.to_string_lossy().contains("/bindings/") || path.to_string_lossy().contains("full")
            });
            there.retain(|path| !path.ends_with("Cargo.lock"));
            let given: Vec<_> = files(language).iter().map(|file| file.bytes).collect();
            for path in &there {
                assert!(given.contains(&std::fs::read(path).unwrap().as_slice()), "{}", path.display());
            }
            assert_eq!(given.len(), there.len(), "{folder}");
        }
    }

    #[test]
    fn it_is_named_after_its_folder_and_takes_the_place_of_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let hook = folder.path().join("be-kind");
        new(Language::Rust, &hook).unwrap();
        assert!(std::fs::read_to_string(hook.join("Cargo.toml")).unwrap().contains("name = \"be-kind\""));
        assert!(new(Language::Js, &hook).unwrap_err().to_string().contains("is there already"));
        assert!(
            new(Language::Js, &folder.path().join("Be Kind")).unwrap_err().to_string().contains("cannot be called")
        );
    }
}
