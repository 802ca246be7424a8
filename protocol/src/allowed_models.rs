//! Which models a key may call, where it may not call all that its tenant may.
//!
//! A list of patterns: `acme/sst2` is an adapter in all of its versions, `acme/sst2@1.2.0` and `acme/sst2@sha256:…` one
//! version by whatever reference, `acme/sst2:prod` that tag alone, `acme/*` every adapter of an owner, and a text without
//! a slash the base model of that id. Owner and name of an adapter are looked at before anything is looked up, so that
//! what a list leaves out cannot be told from what does not exist.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::reference::check_name_part;
use crate::{AdapterName, AdapterRef, Digest, ReferenceError, Selector};

/// Most patterns of a list.
pub const MAX_PATTERNS: usize = 32;
/// Most characters of all patterns of a list together: a token carries them, and has to fit into a header.
pub const MAX_CHARS: usize = 1000;

/// What a key may call: the patterns, of which one suffices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AllowedModels(Vec<ModelPattern>);

/// Some models.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ModelPattern {
    /// The base model of this id.
    Base(String),
    /// Every adapter of an owner.
    Owner(String),
    /// An adapter: [`Selector::Latest`] stands for all of its versions.
    Adapter(AdapterRef),
}

/// Why a text is no pattern.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PatternError {
    /// Neither a reference, nor `owner/*`, nor the id of a base model.
    #[error("`{0}` is neither owner/name (with @version, @sha256:… or :tag), nor owner/*, nor the id of a base model")]
    Shape(String),
    /// A reference that breaks the grammar.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
}

impl AllowedModels {
    /// A list of these; an empty one allows nothing.
    #[must_use]
    pub fn new(patterns: Vec<ModelPattern>) -> Self {
        Self(patterns)
    }

    /// The patterns, in their order.
    #[must_use]
    pub fn patterns(&self) -> &[ModelPattern] {
        &self.0
    }

    /// Whether the base model of this id may be called.
    #[must_use]
    pub fn allow_base(&self, id: &str) -> bool {
        self.0.iter().any(|pattern| matches!(pattern, ModelPattern::Base(allowed) if allowed == id))
    }

    /// Whether some version of this adapter may be called: to be asked before the adapter is looked up.
    #[must_use]
    pub fn may_allow(&self, name: &AdapterName) -> bool {
        self.0.iter().any(|pattern| pattern.names(name))
    }

    /// Whether an adapter may be called by this reference, which chose this version with this digest.
    #[must_use]
    pub fn allow(&self, reference: &AdapterRef, version: &semver::Version, digest: &Digest) -> bool {
        self.0.iter().any(|pattern| {
            pattern.names(&reference.name)
                && match pattern {
                    ModelPattern::Adapter(allowed) => match &allowed.selector {
                        Selector::Latest => true,
                        Selector::Version(allowed) => allowed == version,
                        Selector::Digest(allowed) => allowed == digest,
                        Selector::Tag(_) => allowed.selector == reference.selector,
                    },
                    ModelPattern::Owner(_) | ModelPattern::Base(_) => true,
                }
        })
    }

    /// The first pattern of `other` that is not wholly within this list; `None` if all are.
    #[must_use]
    pub fn first_beyond<'a>(&self, other: &'a Self) -> Option<&'a ModelPattern> {
        other.0.iter().find(|pattern| !self.0.iter().any(|own| own.covers(pattern)))
    }
}

impl ModelPattern {
    /// Whether it is about this adapter.
    fn names(&self, name: &AdapterName) -> bool {
        match self {
            Self::Base(_) => false,
            Self::Owner(owner) => owner == name.owner(),
            Self::Adapter(reference) => reference.name == *name,
        }
    }

    /// Whether whatever `other` allows, this does.
    fn covers(&self, other: &Self) -> bool {
        let has_name = matches!(other, Self::Adapter(reference) if self.names(&reference.name));
        let is_of_all_versions = match self {
            Self::Adapter(reference) => reference.selector == Selector::Latest,
            Self::Owner(_) | Self::Base(_) => true,
        };
        self == other || (has_name && is_of_all_versions)
    }
}

impl FromStr for ModelPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text.split_once('/') {
            Some((owner, "*")) => {
                check_name_part("owner", owner)?;
                Ok(Self::Owner(owner.to_owned()))
            }
            Some(_) => Ok(Self::Adapter(text.parse()?)),
            // A star alone means nothing, and must not pass for everything.
            None if text.is_empty() || text.chars().any(|c| c == '*' || c.is_whitespace() || c.is_control()) => {
                Err(PatternError::Shape(text.chars().take(80).collect()))
            }
            None => Ok(Self::Base(text.to_owned())),
        }
    }
}

impl fmt::Display for ModelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base(id) => f.write_str(id),
            Self::Owner(owner) => write!(f, "{owner}/*"),
            Self::Adapter(reference) => write!(f, "{reference}"),
        }
    }
}

impl TryFrom<String> for ModelPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<ModelPattern> for String {
    fn from(pattern: ModelPattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(patterns: &[&str]) -> AllowedModels {
        AllowedModels::new(patterns.iter().map(|text| text.parse().expect("a pattern")).collect())
    }

    #[test]
    fn each_pattern_allows_what_it_says_and_nothing_else() {
        let digest = Digest::of(b"1.0.0").to_string();
        let by_digest = format!("acme/sst2@{digest}");
        for (pattern, reference, version, is_allowed) in [
            ("acme/sst2", "acme/sst2", "1.0.0", true),
            ("acme/sst2", "acme/sst2:prod", "2.0.0", true),
            ("acme/sst2", "acme/other", "1.0.0", false),
            ("acme/*", "acme/other@1.0.0", "1.0.0", true),
            ("acme/*", "acme2/other", "1.0.0", false),
            ("acme/sst2@1.0.0", "acme/sst2", "1.0.0", true),
            ("acme/sst2@1.0.0", "acme/sst2", "1.0.1", false),
            (by_digest.as_str(), "acme/sst2:prod", "1.0.0", true),
            (by_digest.as_str(), "acme/sst2", "2.0.0", false),
            ("acme/sst2:prod", "acme/sst2:prod", "1.0.0", true),
            ("acme/sst2:prod", "acme/sst2@1.0.0", "1.0.0", false),
            ("acme/sst2:prod", "acme/sst2:test", "1.0.0", false),
            ("tiny", "acme/tiny", "1.0.0", false),
        ] {
            let reference: AdapterRef = reference.parse().expect("a reference");
            let (number, digest) = (version.parse().expect("a version"), Digest::of(version.as_bytes()));
            let allowed = list(&[pattern]).allow(&reference, &number, &digest);
            assert_eq!(allowed, is_allowed, "{pattern}: {reference} as {version}");
        }
        assert!(list(&["tiny", "acme/*"]).allow_base("tiny") && !list(&["acme/*"]).allow_base("acme"));
        assert!(!list(&[]).allow_base("tiny") && !list(&[]).may_allow(&"a/b".parse().expect("a name")));
    }

    #[test]
    fn a_list_covers_what_it_allows_in_full() {
        for (own, other, beyond) in [
            (&["acme/*"][..], &["acme/sst2", "acme/x@1.0.0", "acme/x:t", "acme/*"][..], None),
            (&["acme/sst2"], &["acme/sst2:prod"], None),
            (&["acme/sst2:prod"], &["acme/sst2"], Some("acme/sst2")),
            (&["acme/sst2"], &["acme/*"], Some("acme/*")),
            (&["acme/sst2@1.0.0"], &["acme/sst2@1.0.0", "tiny"], Some("tiny")),
            (&["tiny"], &["tiny"], None),
        ] {
            let (own, other) = (list(own), list(other));
            assert_eq!(own.first_beyond(&other).map(ToString::to_string).as_deref(), beyond, "{own:?} {other:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        assert_eq!("".parse::<ModelPattern>(), Err(PatternError::Shape(String::new())));
        for bad in ["a b", "*", "a\u{0}", "Acme/*", "acme/sst2@latest", "acme/", "*/x", "acme/*/x", "acme/* "] {
            assert!(bad.parse::<ModelPattern>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_pattern_that_reads_back_what_it_prints_or_is_refused(text in "\\PC{0,90}|[a-z]{1,3}/[*a-z:@0-9.]{1,9}") {
            if let Ok(pattern) = text.parse::<ModelPattern>() {
                prop_assert_eq!(pattern.to_string().parse::<ModelPattern>(), Ok(pattern.clone()));
                prop_assert!(pattern.covers(&pattern));
                prop_assert!(!pattern.to_string().contains(' '), "patterns are kept with spaces between");
            }
        }
    }
}
