//! Where a path leads.

use std::collections::HashSet;

use crate::modules::{Crate, FileId, ModuleId, Named};

/// What a path, or the beginning of one, leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Module(ModuleId),
    /// The file that defines it, and its name there.
    Definition(FileId, String),
}

/// Imports that are being followed; two that name each other would have no end.
type Followed = HashSet<(ModuleId, String)>;

impl Crate {
    /// The files that define what `path` names in `module`, and the name there: past every import and re-export. Empty
    /// for what other crates define, for modules, and for what is no name of an item.
    pub(crate) fn definitions(&self, module: ModuleId, path: &[String]) -> Vec<(FileId, String)> {
        let targets = self.resolve(module, path, &mut Followed::new());
        let definition = |target| match target {
            Target::Definition(file, name) => Some((file, name)),
            Target::Module(_) => None,
        };
        targets.into_iter().filter_map(definition).collect()
    }

    fn resolve(&self, module: ModuleId, path: &[String], followed: &mut Followed) -> Vec<Target> {
        let Some((first, rest)) = path.split_first() else { return Vec::new() };
        let mut targets = match first.as_str() {
            "crate" => vec![Target::Module(0)],
            "self" => vec![Target::Module(module)],
            "super" => self.modules[module].parent.map(Target::Module).into_iter().collect(),
            name => self.look_up(module, name, followed),
        };
        for name in rest {
            // A module and a type or function can share a name; only the module has more below it that can lie
            // elsewhere.
            let modules: Vec<ModuleId> = targets.iter().filter_map(Target::module).collect();
            if modules.is_empty() {
                break;
            }
            let below = |module: ModuleId| -> Vec<Target> {
                match name.as_str() {
                    "super" => self.modules[module].parent.map(Target::Module).into_iter().collect(),
                    "self" => vec![Target::Module(module)],
                    name => self.look_up(module, name, followed),
                }
            };
            targets = modules.into_iter().flat_map(below).collect();
        }
        targets
    }

    /// What a name means in a module.
    fn look_up(&self, module: ModuleId, name: &str, followed: &mut Followed) -> Vec<Target> {
        if !followed.insert((module, name.to_owned())) {
            return Vec::new();
        }
        let mut targets = Vec::new();
        for named in self.modules[module].names.get(name).into_iter().flatten() {
            match named {
                Named::Definition => targets.push(Target::Definition(self.modules[module].file, name.to_owned())),
                Named::Module(module) => targets.push(Target::Module(*module)),
                Named::Import(path) => targets.extend(self.resolve(module, path, followed)),
            }
        }
        if targets.is_empty() {
            for glob in &self.modules[module].globs {
                for target in self.resolve(module, glob, followed) {
                    targets.extend(target.module().into_iter().flat_map(|module| self.look_up(module, name, followed)));
                }
            }
        }
        followed.remove(&(module, name.to_owned()));
        targets
    }
}

impl Target {
    fn module(&self) -> Option<ModuleId> {
        match self {
            Self::Module(module) => Some(*module),
            Self::Definition(..) => None,
        }
    }
}
