//! Which base model a name means. Trainers write what they loaded: a hub's `Org/Name`, a re-upload in another
//! precision, a path into a cache, a folder of their machine. [`BaseName::read`] is the one reading of all of them.
//!
//! Two names mean one model if they read alike. What is taken off tells how weights are stored (`-bnb-4bit`, `-GGUF`)
//! or where they lie; what tells which weights they are (`-Instruct`, `-1.7B`, `v0.3`, `-qat`) stays.

mod words;

use crate::BaseModel;
use words::{HUBS, PACKAGING, RE_UPLOADERS, is_commit, is_packaging, is_placeholder, looks_like_a_model};

/// Longest name that is read; longer ones say nothing.
const MAX_NAME_BYTES: usize = 4096;
/// Most words that may come off a part's end; a part with more says nothing. Each is looked for in the whole part.
const MAX_PACKAGING_WORDS: usize = 32;

/// A name of a base model, read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseName {
    /// The last part in lower case, parted by dashes, without revision, precision and format; may be empty.
    name: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// It tells a model.
    Model,
    /// A folder whose name is no model's that anybody knows; it may still be the one that is served here.
    Folder,
    /// A word for any model: `model`, `checkpoint-500`, nothing at all.
    Placeholder,
}

/// What says which base model an adapter is for, beside its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseClaim<'a> {
    /// Nothing. A name that says nothing is refused; no name at all is accepted where the shapes fit.
    Unstated,
    /// The publisher names it, for configurations whose own name says nothing. It does not overrule one that says more.
    Stated(&'a str),
    /// The base was settled when the version was published: its digest is in the manifest.
    Settled,
}

impl BaseName {
    /// Reads a name, a path or an address of a base model. Total: any text is a name or says nothing.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let location = Location::read(text);
        let name = location.name();
        let kind = if is_placeholder(&name) {
            Kind::Placeholder
        } else if location.is_local && !looks_like_a_model(&name) {
            Kind::Folder
        } else {
            Kind::Model
        };
        Self { name, kind }
    }

    /// Whether it does not tell which model it means, and so may mean any.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.kind != Kind::Model
    }

    /// The reading: the model's name, in the form in which two names of one model are equal.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Whether it names `base`, by its id or one of its aliases. Organisations do not count: re-uploads keep the name.
    #[must_use]
    pub fn names(&self, base: &BaseModel) -> bool {
        self.kind != Kind::Placeholder
            && names_of(base).map(Location::read).any(|alias| {
                let (given, name) = (&self.name, alias.name());
                // Some tools flatten `Org/Name` to `Org_Name`.
                let org_given = given.strip_suffix(name.as_str()).and_then(|org| org.strip_suffix('-'));
                *given == name
                    || org_given.is_some_and(|org| alias.org.as_deref() == Some(org) || RE_UPLOADERS.contains(&org))
            })
    }
}

/// Whether `stated`, a publisher's word, names `base`: like a name in a configuration, or to the letter, whatever the
/// base is called.
#[must_use]
pub fn states(stated: &str, base: &BaseModel) -> bool {
    is_to_the_letter(stated, base) || BaseName::read(stated).names(base)
}

/// The base model among `bases` that an adapter is to be judged by: the one that the publisher states, else the one
/// that the configuration names, else the first. Whether that is right, the judge says.
#[must_use]
pub fn base_to_judge_by<'a>(
    given: Option<&str>,
    claim: BaseClaim<'_>,
    bases: &'a [BaseModel],
) -> Option<&'a BaseModel> {
    let stated = match claim {
        BaseClaim::Stated(name) => Some(name),
        BaseClaim::Unstated | BaseClaim::Settled => None,
    };
    // Of two bases that read alike, as one model in two precisions does, the one named to the letter is meant.
    let named = |name: &str| {
        let to_the_letter = bases.iter().find(|base| is_to_the_letter(name, base));
        to_the_letter.or_else(|| bases.iter().find(|base| BaseName::read(name).names(base)))
    };
    stated.and_then(named).or_else(|| given.and_then(named)).or_else(|| bases.first())
}

fn names_of(base: &BaseModel) -> impl Iterator<Item = &str> {
    base.aliases.iter().chain([&base.id]).map(String::as_str)
}

fn is_to_the_letter(name: &str, base: &BaseModel) -> bool {
    names_of(base).any(|alias| alias.eq_ignore_ascii_case(name.trim()))
}

/// Where a name leads: its parts, cleaned of scheme, revision and cache folders.
struct Location {
    /// Parts in lower case, outermost first; none is empty.
    parts: Vec<String>,
    /// The organisation, where the text has the form `org/name`.
    org: Option<String>,
    /// Whether it is a path on some machine rather than a hub's name.
    is_local: bool,
}

impl Location {
    fn read(text: &str) -> Self {
        let text = text.trim_matches(is_around);
        if text.len() > MAX_NAME_BYTES {
            return Self { parts: Vec::new(), org: None, is_local: true };
        }
        let text = text.to_lowercase().replace('\\', "/").replace("%2f", "/").replace("%20", " ");
        let (path, is_address) = without_scheme(&text);
        let starts_local = !is_address && (path.starts_with(['/', '.', '~']) || has_drive(path));
        // A revision may have slashes of its own.
        let path = ["@refs/", ":refs/"].iter().filter_map(|mark| path.find(mark)).min().map_or(path, |at| &path[..at]);
        let path = if starts_local { path } else { path.split(['?', '#']).next().unwrap_or_default() };
        let mut parts: Vec<&str> =
            path.split('/').map(str::trim).filter(|part| !matches!(*part, "" | "." | ".." | "~")).collect();
        if let Some(cached) = parts.iter().rposition(|part| part.starts_with("models--")) {
            let parts: Vec<_> =
                parts[cached].split("--").skip(1).filter(|part| !part.is_empty()).map(str::to_owned).collect();
            return Self { org: org_of(&parts), parts, is_local: false };
        }
        let is_address = is_address || parts.first().is_some_and(|host| HUBS.contains(host));
        if is_address && parts.len() > 1 {
            parts.remove(0);
        }
        cut_below_the_model(&mut parts, is_address);
        let parts: Vec<_> = parts.into_iter().map(str::to_owned).collect();
        let is_local = starts_local || (!is_address && parts.len() > 2);
        Self { org: if is_local { None } else { org_of(&parts) }, parts, is_local }
    }

    /// The model's name: the last part, or, where that tells the precision or commit alone, the one above.
    fn name(&self) -> String {
        let names: Vec<_> = self.parts.iter().rev().map(|part| clean(part)).filter(|name| !name.is_empty()).collect();
        let telling = names.iter().find(|name| !is_commit(name) && !is_packaging(name));
        telling.or(names.first()).cloned().unwrap_or_default()
    }
}

/// The text behind `scheme://`, and whether what is left begins with a host.
fn without_scheme(text: &str) -> (&str, bool) {
    let Some((scheme, rest)) = text.split_once("://") else { return (text, false) };
    match scheme {
        "http" | "https" => (rest, true),
        // `hf://org/name` is a hub's name, others are folders in some store.
        _ => (rest, false),
    }
}

/// What may stand around a name and is no part of it.
fn is_around(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`')
}

fn has_drive(path: &str) -> bool {
    matches!(path.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

/// Cuts what lies below the model: a hub's pages, a cache's snapshots.
fn cut_below_the_model(parts: &mut Vec<&str>, is_address: bool) {
    let is_page = |part: &str| matches!(part, "tree" | "blob" | "resolve" | "raw" | "commit" | "summary" | "files");
    let page = parts.iter().position(|part| *part == "snapshots" || (is_address && is_page(part)));
    if let Some(page) = page.filter(|&page| page > 0) {
        parts.truncate(page);
    }
}

fn org_of(parts: &[String]) -> Option<String> {
    match parts {
        [org, _] => Some(clean(org)),
        _ => None,
    }
}

/// What begins a revision, a tag, a query or a fragment.
const BEHIND_A_NAME: [char; 4] = ['@', ':', '?', '#'];

/// What word processors and web pages make of a dash.
const DASHES: [char; 5] = ['\u{2010}', '\u{2011}', '\u{2012}', '\u{2013}', '\u{2212}'];

/// A part in its plain form: one kind of separator, no revision, no file ending, no precision, no format.
fn clean(part: &str) -> String {
    let part = part.trim_start_matches(BEHIND_A_NAME);
    let end = part.find(BEHIND_A_NAME).unwrap_or(part.len());
    // ModelScope's cache writes a dot as three underscores.
    let part = part[..end].replace("___", ".");
    let mut name = String::with_capacity(part.len());
    for character in part.chars() {
        let is_separator = character == '_' || character.is_whitespace() || DASHES.contains(&character);
        let character = if is_separator { '-' } else { character };
        if character != '-' || !name.ends_with('-') {
            name.push(character);
        }
    }
    for _ in 0..=MAX_PACKAGING_WORDS {
        let trimmed = name.trim_matches(|c: char| matches!(c, '-' | '.') || is_around(c));
        let shorter = match PACKAGING.find(trimmed) {
            Some(found) if found.start() > 0 => &trimmed[..found.start()],
            _ => trimmed,
        };
        if shorter.len() == name.len() {
            return name;
        }
        name = shorter.to_owned();
    }
    String::new()
}

#[cfg(test)]
mod spellings;
#[cfg(test)]
mod tests;
