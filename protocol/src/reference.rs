//! How a caller names an adapter: `owner/name`, `owner/name@1.2.0`, `owner/name@sha256:…` or `owner/name:tag`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Longest owner, adapter name or tag, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// `owner/name`. Both halves are lower-case letters, digits, `-`, `_` and `.`, and begin with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AdapterName {
    owner: String,
    name: String,
}

/// Which version of an adapter is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Selector {
    /// The highest ready version that is not a pre-release.
    Latest,
    /// Exactly this version.
    Version(semver::Version),
    /// The version with this manifest digest.
    Digest(Digest),
    /// Whatever the owner's mutable tag points at now.
    Tag(String),
}

/// An adapter's name and which version of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AdapterRef {
    /// Whose adapter, and which: `owner/name`.
    pub name: AdapterName,
    /// How the version is chosen: by number, tag or digest, or the latest.
    pub selector: Selector,
}

/// What the `model` field of a request means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelRef {
    /// A base model, by its id (no slash).
    Base(String),
    /// An adapter on the pool's base model.
    Adapter(AdapterRef),
}

/// Why a text names nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// The shape is not `owner/name` with an optional selector.
    #[error(
        "`{0}` is not an adapter reference; write owner/name, owner/name@1.2.0, owner/name@sha256:… or owner/name:tag"
    )]
    Shape(String),
    /// One part has a character or length that names may not have.
    #[error("{part} `{given}` must be 1 to 64 of a-z, 0-9, `-`, `_`, `.` and begin with a letter or digit")]
    Part {
        /// Which part: owner, name or tag.
        part: &'static str,
        /// What was given, cut to 80 characters.
        given: String,
    },
    /// What follows `@` is neither a semantic version nor a digest.
    #[error("`{0}` after `@` is neither a semantic version (1.2.0) nor a digest (sha256:…)")]
    Version(String),
}

/// Checks one part of a name against the grammar.
///
/// # Errors
/// [`ReferenceError::Part`] naming the part.
pub fn check_name_part(part: &'static str, text: &str) -> Result<(), ReferenceError> {
    let good = (1..=MAX_NAME_BYTES).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'));
    if good { Ok(()) } else { Err(ReferenceError::Part { part, given: text.chars().take(80).collect() }) }
}

impl AdapterName {
    /// Joins two checked halves.
    ///
    /// # Errors
    /// [`ReferenceError::Part`] if either breaks the grammar.
    pub fn new(owner: &str, name: &str) -> Result<Self, ReferenceError> {
        check_name_part("owner", owner)?;
        check_name_part("name", name)?;
        Ok(Self { owner: owner.to_owned(), name: name.to_owned() })
    }

    /// The half before the slash: a tenant's name.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The half after the slash.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for AdapterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl FromStr for AdapterName {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (owner, name) =
            text.split_once('/').ok_or_else(|| ReferenceError::Shape(text.chars().take(80).collect()))?;
        Self::new(owner, name)
    }
}

impl fmt::Display for AdapterRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            Selector::Latest => write!(f, "{}", self.name),
            Selector::Version(version) => write!(f, "{}@{version}", self.name),
            Selector::Digest(digest) => write!(f, "{}@{digest}", self.name),
            Selector::Tag(tag) => write!(f, "{}:{tag}", self.name),
        }
    }
}

impl FromStr for AdapterRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `@` is looked for first: a digest has a colon of its own.
        if let Some((name, version)) = text.split_once('@') {
            let selector = if version.starts_with("sha256:") {
                version.parse().map(Selector::Digest).ok()
            } else {
                semver::Version::parse(version).map(Selector::Version).ok()
            };
            let selector = selector.ok_or_else(|| ReferenceError::Version(version.chars().take(80).collect()))?;
            return Ok(Self { name: name.parse()?, selector });
        }
        if let Some((name, tag)) = text.split_once(':') {
            check_name_part("tag", tag)?;
            return Ok(Self { name: name.parse()?, selector: Selector::Tag(tag.to_owned()) });
        }
        Ok(Self { name: text.parse()?, selector: Selector::Latest })
    }
}

impl FromStr for ModelRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('/') {
            return text.parse().map(Self::Adapter);
        }
        Ok(Self::Base(text.to_owned()))
    }
}

macro_rules! string_conversions {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = ReferenceError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}
string_conversions!(AdapterName);
string_conversions!(AdapterRef);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_reads_back_what_it_prints() {
        let digest = Digest::of(b"x");
        for text in
            ["acme/sst2", "acme/sst2@1.2.0", "acme/sst2:prod", "a/b@1.0.0-rc.1+build", &format!("acme/sst2@{digest}")]
        {
            assert_eq!(text.parse::<AdapterRef>().expect(text).to_string(), *text);
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_refused_by_part() {
        let part = |text: &str| match text.parse::<AdapterRef>() {
            Err(ReferenceError::Part { part, .. }) => part,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(part("Acme/sst2"), "owner");
        assert_eq!(part("acme/"), "name");
        assert_eq!(part("acme/.."), "name");
        assert_eq!(part("acme/a/b"), "name");
        assert_eq!(part("acme/sst2:Prod"), "tag");
        assert!(matches!("acme/sst2@latest".parse::<AdapterRef>(), Err(ReferenceError::Version(_))));
        assert!(matches!("sst2".parse::<AdapterRef>(), Err(ReferenceError::Shape(_))));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
            if let Ok(reference) = text.parse::<AdapterRef>() {
                prop_assert_eq!(reference.to_string().parse::<AdapterRef>().unwrap(), reference);
            }
        }
    }

    #[test]
    fn any_text_of_a_reference_is_read_or_refused_and_reads_back_what_it_prints() {
        souk_testkit::fuzz("reference", |bytes| {
            let text = String::from_utf8_lossy(bytes);
            if let Ok(ModelRef::Adapter(reference)) = text.parse::<ModelRef>() {
                assert_eq!(reference.to_string().parse::<AdapterRef>().as_ref(), Ok(&reference));
                assert!(reference.name.owner().len() <= 64 && reference.name.name().len() <= 64, "{reference}");
                let Selector::Tag(_) = reference.selector else { return format!("{:?}", reference.selector) };
                return "a tag".to_owned();
            }
            text.parse::<AdapterRef>().expect_err("it was refused").to_string()
        });
    }
}
