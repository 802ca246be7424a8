//! A crate as its files tell it: modules, the names in each, and the paths that its code mentions.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Meta, Token, UseTree, Visibility};

use crate::tokens::{self, Words};

pub(crate) type FileId = usize;
pub(crate) type ModuleId = usize;

/// What was read of a crate; its tests are left out.
#[derive(Debug, Default)]
pub(crate) struct Crate {
    /// Relative to the folder of the first.
    pub(crate) files: Vec<PathBuf>,
    /// The first is the root.
    pub(crate) modules: Vec<Module>,
    pub(crate) references: Vec<Reference>,
}

/// A module and what can be named in it.
#[derive(Debug)]
pub(crate) struct Module {
    /// That it is written in; a file can hold several.
    pub(crate) file: FileId,
    /// `None` for the root.
    pub(crate) parent: Option<ModuleId>,
    /// A name may mean a module, a type and a function at once.
    pub(crate) names: HashMap<String, Vec<Named>>,
    /// What `use path::*` names.
    pub(crate) globs: Vec<Words>,
}

/// What a name means in a module.
#[derive(Clone, Debug)]
pub(crate) enum Named {
    /// Something that the module defines.
    Definition,
    Module(ModuleId),
    /// What this path leads to.
    Import(Words),
}

/// A path in the code of a module.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) module: ModuleId,
    pub(crate) path: Words,
}

impl Crate {
    /// Reads the crate that begins with the file `root`.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let folder = root.parent().context("a file lies in a folder")?;
        let mut source = Self::default();
        source.read_file(folder, &Place { file: root.to_owned(), children: folder.to_owned(), parent: None })?;
        Ok(source)
    }

    fn read_file(&mut self, root: &Path, place: &Place) -> anyhow::Result<ModuleId> {
        let text = std::fs::read_to_string(&place.file).with_context(|| place.file.display().to_string())?;
        let syntax = syn::parse_file(&text).with_context(|| place.file.display().to_string())?;
        let file = self.files.len();
        self.files.push(place.file.strip_prefix(root).unwrap_or(&place.file).to_owned());
        let module = self.add_module(file, place.parent);
        self.read_items(root, module, place, &syntax.items)?;
        Ok(module)
    }

    fn add_module(&mut self, file: FileId, parent: Option<ModuleId>) -> ModuleId {
        self.modules.push(Module { file, parent, names: HashMap::new(), globs: Vec::new() });
        self.modules.len() - 1
    }

    fn read_items(&mut self, root: &Path, module: ModuleId, place: &Place, items: &[Item]) -> anyhow::Result<()> {
        let mut reader = Reader { source: &mut *self, module, children: Vec::new() };
        items.iter().for_each(|item| reader.visit_item(item));
        for child in reader.children {
            let name = child.ident.to_string();
            let id = if let Some((_, items)) = &child.content {
                let id = self.add_module(self.modules[module].file, Some(module));
                let place = Place { children: place.children.join(&name), ..place.clone() };
                self.read_items(root, id, &place, items)?;
                id
            } else {
                self.read_file(root, &place.child(child, module))?
            };
            self.modules[module].names.entry(name).or_default().push(Named::Module(id));
        }
        Ok(())
    }
}

/// Where a module is written, and where the files of its children are.
#[derive(Clone)]
struct Place {
    file: PathBuf,
    children: PathBuf,
    parent: Option<ModuleId>,
}

impl Place {
    /// Where `mod name;` is.
    fn child(&self, item: &syn::ItemMod, parent: ModuleId) -> Self {
        let parent = Some(parent);
        if let Some(path) = item.attrs.iter().find_map(given_path) {
            let file = self.file.parent().unwrap_or(&self.children).join(path);
            let children = file.parent().map(Path::to_owned).unwrap_or_default();
            return Self { file, children, parent };
        }
        let children = self.children.join(item.ident.to_string());
        let file = children.with_extension("rs");
        let file = if file.exists() { file } else { children.join("mod.rs") };
        Self { file, children, parent }
    }
}

/// The file that `#[path = "..."]` gives.
fn given_path(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(meta) = &attribute.meta else { return None };
    let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }) = &meta.value else { return None };
    meta.path.is_ident("path").then(|| path.value())
}

/// Reads the items of one module; child modules are left to whoever called.
struct Reader<'a, 'ast> {
    source: &'a mut Crate,
    module: ModuleId,
    children: Vec<&'ast syn::ItemMod>,
}

impl Reader<'_, '_> {
    fn name(&mut self, name: String, named: Named) {
        self.source.modules[self.module].names.entry(name).or_default().push(named);
    }

    fn reference(&mut self, path: Words) {
        self.source.references.push(Reference { module: self.module, path });
    }

    fn references(&mut self, paths: impl IntoIterator<Item = Words>) {
        paths.into_iter().for_each(|path| self.reference(path));
    }

    /// The imports below `prefix`. One that is not passed on is a use by itself: of a trait, nothing else is seen.
    fn import(&mut self, prefix: &Words, tree: &UseTree, is_passed_on: bool) {
        // In a group, `self` is the path before it; at the beginning, it is a path of its own.
        let with = |ident: &syn::Ident| -> Words {
            let word = (prefix.is_empty() || ident != "self").then(|| ident.to_string());
            prefix.iter().cloned().chain(word).collect()
        };
        match tree {
            UseTree::Path(path) => self.import(&with(&path.ident), &path.tree, is_passed_on),
            UseTree::Name(leaf) => {
                let path = with(&leaf.ident);
                self.leaf(path.last().cloned(), path, is_passed_on);
            }
            UseTree::Rename(leaf) => self.leaf(Some(leaf.rename.to_string()), with(&leaf.ident), is_passed_on),
            UseTree::Glob(_) => {
                if !is_passed_on {
                    self.reference(prefix.clone());
                }
                self.source.modules[self.module].globs.push(prefix.clone());
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(prefix, tree, is_passed_on)),
        }
    }

    fn leaf(&mut self, name: Option<String>, path: Words, is_passed_on: bool) {
        if !is_passed_on {
            self.reference(path.clone());
        }
        if let Some(name) = name {
            self.name(name, Named::Import(path));
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_, 'ast> {
    fn visit_item(&mut self, item: &'ast Item) {
        let (attributes, name) = description(item);
        if attributes.iter().any(is_for_tests) {
            return;
        }
        if let Some(name) = name {
            self.name(name.to_string(), Named::Definition);
        }
        match item {
            Item::Mod(module) => self.children.push(module),
            Item::Use(item) if item.leading_colon.is_some() => {}
            Item::Use(item) => self.import(&Words::new(), &item.tree, !matches!(item.vis, Visibility::Inherited)),
            other => visit::visit_item(self, other),
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !function.attrs.iter().any(is_for_tests) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.reference(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.references(tokens::paths(&call.tokens));
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta
            && !list.path.is_ident("cfg")
        {
            self.references(tokens::paths(&list.tokens).into_iter().chain(tokens::quoted_paths(&list.tokens)));
        }
    }

    /// `pub(in path)` is no use of the path.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

/// An item's attributes, and the name that it defines.
fn description(item: &Item) -> (&[Attribute], Option<&syn::Ident>) {
    match item {
        Item::Const(item) => (&item.attrs, Some(&item.ident)),
        Item::Enum(item) => (&item.attrs, Some(&item.ident)),
        Item::Fn(item) => (&item.attrs, Some(&item.sig.ident)),
        Item::Macro(item) => (&item.attrs, item.ident.as_ref()),
        Item::Static(item) => (&item.attrs, Some(&item.ident)),
        Item::Struct(item) => (&item.attrs, Some(&item.ident)),
        Item::Trait(item) => (&item.attrs, Some(&item.ident)),
        Item::Type(item) => (&item.attrs, Some(&item.ident)),
        Item::Union(item) => (&item.attrs, Some(&item.ident)),
        Item::ExternCrate(item) => (&item.attrs, None),
        Item::ForeignMod(item) => (&item.attrs, None),
        Item::Impl(item) => (&item.attrs, None),
        Item::Mod(item) => (&item.attrs, None),
        Item::Use(item) => (&item.attrs, None),
        _ => (&[], None),
    }
}

fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg") && attribute.parse_args().is_ok_and(|condition| holds_in_tests_only(&condition))
}

/// Whether a condition such as `all(test, unix)` is false wherever `test` is.
fn holds_in_tests_only(condition: &Meta) -> bool {
    let Meta::List(list) = condition else { return condition.path().is_ident("test") };
    let Ok(parts) = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated) else { return false };
    if list.path.is_ident("all") {
        parts.iter().any(holds_in_tests_only)
    } else {
        list.path.is_ident("any") && !parts.is_empty() && parts.iter().all(holds_in_tests_only)
    }
}
