//! `souk hook build`: has the tools of a language make a component, and checks it as it is checked when it is published.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use super::tried::{self, COMPONENT};
use crate::cli::Language;
use crate::terminal;

/// Where cargo is told to put what it makes.
const TARGET: &str = "wasm32-unknown-unknown";

/// Builds the hook of a folder.
pub(super) fn build(folder: &Path, arguments: &[String]) -> anyhow::Result<()> {
    let language = language(folder)?;
    ensure!(
        arguments.is_empty() || language == Language::Rust,
        "only cargo takes arguments here; edit the hook's own build instead"
    );
    match language {
        Language::Rust => rust(folder, arguments)?,
        Language::Js => js(folder)?,
        Language::Python => {
            run(Command::new("sh").arg("build.sh").current_dir(folder), "python3", "Python 3.10 or later")?;
        }
        Language::C => run(
            Command::new("sh").arg("build.sh").current_dir(folder),
            "python3 and node",
            "Python 3 and Node 18 or later",
        )?,
    }
    let component = folder.join(COMPONENT);
    let bytes = std::fs::read(&component).with_context(|| format!("the build left no {}", component.display()))?;
    let (report, tier) = tried::check(&bytes)?;
    terminal::line(&format!("{}: {}", component.display(), tried::shown(&report, tier)))?;
    Ok(())
}

/// What a hook is written in, by the files of its folder.
fn language(folder: &Path) -> anyhow::Result<Language> {
    let marks = [
        ("Cargo.toml", Language::Rust),
        ("package.json", Language::Js),
        ("hook.py", Language::Python),
        ("hook.c", Language::C),
    ];
    let found = marks.into_iter().find(|(file, _)| folder.join(file).is_file());
    let names = marks.map(|(file, _)| file).join(", ");
    found
        .map(|(_, language)| language)
        .with_context(|| format!("{} has none of {names}; begin with `souk hook new`", folder.display()))
}

fn rust(folder: &Path, arguments: &[String]) -> anyhow::Result<()> {
    let tools = rust_tools(folder)?;
    let target = std::path::absolute(folder.join("target"))?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(folder).args(["build", "--release", "--target", TARGET]).args(arguments);
    cargo.env("CARGO_TARGET_DIR", &target);
    cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", tools.join("wasm-component-ld"));
    let linker = tools.join("gcc-ld/wasm-ld");
    let flags = format!("-C link-arg=--wasm-ld-path={}", linker.display());
    cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", flags);
    run(&mut cargo, "cargo", "Rust, with `rustup target add wasm32-unknown-unknown`")?;

    let built = target.join(TARGET).join("release");
    let component = newest_component(&built)?.with_context(|| {
        format!("{} has no component; is `crate-type = [\"cdylib\"]` in Cargo.toml?", built.display())
    })?;
    std::fs::copy(&component, folder.join(COMPONENT))?;
    Ok(())
}

/// The folder of the compiler's own tools, among them the linker that makes components.
fn rust_tools(folder: &Path) -> anyhow::Result<PathBuf> {
    let ask = |arguments: &[&str]| -> anyhow::Result<String> {
        let output = Command::new("rustc").current_dir(folder).args(arguments).output();
        let output = output.context("rustc cannot be run; install Rust with rustup")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let sysroot = ask(&["--print", "sysroot"])?;
    let version = ask(&["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not say its host")?;
    let tools = Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin");
    ensure!(
        tools.join("wasm-component-ld").is_file(),
        "this Rust has no linker of components in {}; the one that rustup installs has",
        tools.display()
    );
    Ok(tools)
}

fn newest_component(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    let mut components = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "wasm") {
            components.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    Ok(components.into_iter().max().map(|(_, path)| path))
}

fn js(folder: &Path) -> anyhow::Result<()> {
    let needs = "Node 18 or later";
    if !folder.join("node_modules").is_dir() {
        let mut install = Command::new("npm");
        run(install.current_dir(folder).args(["install", "--no-audit", "--no-fund"]), "npm", needs)?;
    }
    run(Command::new("npm").current_dir(folder).args(["run", "--silent", "build"]), "npm", needs)
}

/// Runs a tool, whose output is shown as it comes.
fn run(command: &mut Command, tool: &str, needs: &str) -> anyhow::Result<()> {
    match command.status() {
        Ok(status) => ensure!(status.success(), "the build failed ({status}); it needs {needs}"),
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("{tool} cannot be found; install {needs}"),
        Err(error) => return Err(error).with_context(|| format!("{tool} cannot be run")),
    }
    Ok(())
}
