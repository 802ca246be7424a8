//! The packages of this workspace and what they depend on, as `cargo metadata` tells.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde::Deserialize;

/// What `cargo metadata` says of a workspace.
#[derive(Debug, Deserialize)]
pub struct Workspace {
    /// Only the members.
    pub packages: Vec<Package>,
}

/// A member of the workspace.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// As in its Cargo.toml.
    pub name: String,
    /// All of them, of every kind and from everywhere.
    pub dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

/// What a package depends on.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// The package's name.
    pub name: String,
    /// `None` for what the package itself needs, `dev` for its tests, `build` for its build script.
    pub kind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
}

impl Workspace {
    /// The one that this package is a member of.
    ///
    /// # Errors
    /// As [`Workspace::of`].
    pub fn own() -> anyhow::Result<Self> {
        Self::of(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")))
    }

    /// The one that has this Cargo.toml. Cargo is asked without a look at the network or the lock file.
    ///
    /// # Errors
    /// What cargo says of it.
    pub fn of(manifest: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(env!("CARGO"));
        command.args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"]).arg(manifest);
        let output = command.output().context("cargo does not run")?;
        anyhow::ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).context("cargo metadata gave what it never did")
    }
}

impl Package {
    /// The first files of the library and of the executables; tests, benches, examples and build scripts are left out.
    pub fn roots(&self) -> impl Iterator<Item = &Path> {
        let is_product = |kind: &String| !["test", "bench", "example", "custom-build"].contains(&kind.as_str());
        let products = self.targets.iter().filter(move |target| target.kind.iter().all(is_product));
        products.map(|target| target.src_path.as_path())
    }
}
