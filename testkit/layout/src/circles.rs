//! Files that reach themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::modules::{Crate, FileId};

/// Files that each reach all the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circle {
    /// Relative to the folder of the crate's first file, sorted.
    pub files: Vec<PathBuf>,
    /// What holds them together, sorted.
    pub edges: Vec<Edge>,
}

/// A file uses names that another defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Who uses them.
    pub from: PathBuf,
    /// Who defines them.
    pub to: PathBuf,
    /// Sorted.
    pub names: Vec<String>,
}

impl fmt::Display for Edge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, names } = self;
        write!(formatter, "{} -> {} ({})", from.display(), to.display(), names.join(", "))
    }
}

/// The circles of the crate that begins with the file `root`. That a file declares a module or passes a name on with
/// `pub use` does not make it a user.
///
/// # Errors
/// If a file cannot be read or is not Rust.
pub fn circles(root: &Path) -> anyhow::Result<Vec<Circle>> {
    let source = Crate::read(root)?;
    let edges = edges(&source);
    let mut next: BTreeMap<FileId, Vec<FileId>> = BTreeMap::new();
    for (from, to) in edges.keys() {
        next.entry(*from).or_default().push(*to);
    }
    let reached: BTreeMap<FileId, BTreeSet<FileId>> = next.keys().map(|file| (*file, reach(*file, &next))).collect();
    let reaches = |from: FileId, to: FileId| reached.get(&from).is_some_and(|files| files.contains(&to));
    let mut told = BTreeSet::new();
    let mut circles = Vec::new();
    for &file in next.keys().filter(|file| reaches(**file, **file)) {
        if !told.insert(file) {
            continue;
        }
        let members: BTreeSet<FileId> = reached[&file].iter().copied().filter(|other| reaches(*other, file)).collect();
        told.extend(&members);
        circles.push(circle(&source, &members, &edges));
    }
    Ok(circles)
}

type Edges = BTreeMap<(FileId, FileId), BTreeSet<String>>;

fn edges(source: &Crate) -> Edges {
    let mut edges = Edges::new();
    for reference in &source.references {
        let from = source.modules[reference.module].file;
        for (to, name) in source.definitions(reference.module, &reference.path) {
            if from != to {
                edges.entry((from, to)).or_default().insert(name);
            }
        }
    }
    edges
}

/// The files that are reached from `file` in one step or more.
fn reach(file: FileId, next: &BTreeMap<FileId, Vec<FileId>>) -> BTreeSet<FileId> {
    let mut reached = BTreeSet::new();
    let mut open = vec![file];
    while let Some(file) = open.pop() {
        open.extend(next.get(&file).into_iter().flatten().filter(|file| reached.insert(**file)));
    }
    reached
}

fn circle(source: &Crate, members: &BTreeSet<FileId>, edges: &Edges) -> Circle {
    let path = |file: &FileId| source.files[*file].clone();
    let mut files: Vec<PathBuf> = members.iter().map(path).collect();
    files.sort();
    let within = edges.iter().filter(|((from, to), _)| members.contains(from) && members.contains(to));
    let edge = |((from, to), names): ((_, _), &BTreeSet<String>)| Edge {
        from: path(from),
        to: path(to),
        names: names.iter().cloned().collect(),
    };
    let mut edges: Vec<Edge> = within.map(|((from, to), names)| edge(((from, to), names))).collect();
    edges.sort_by(|one, other| (&one.from, &one.to).cmp(&(&other.from, &other.to)));
    Circle { files, edges }
}
