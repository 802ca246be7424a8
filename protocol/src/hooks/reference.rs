//! How a caller names a version of a hook.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::HookName;
use crate::{AdapterRef, Digest, ReferenceError, Selector};

/// How a version of a hook is named: `owner/name`, `owner/name@1.2.0` or `owner/name@sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HookRef {
    /// Whose hook, and which.
    pub name: HookName,
    /// Which version.
    pub selector: HookSelector,
}

/// Which version of a hook is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HookSelector {
    /// The highest ready version that is not a pre-release.
    Latest,
    /// Exactly this version.
    Version(semver::Version),
    /// The version with this digest.
    Digest(Digest),
}

/// Why a text names no hook.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HookRefError {
    /// Its shape is another.
    #[error("`{0}` is not a hook; write owner/name, owner/name@1.2.0 or owner/name@sha256:…")]
    Shape(String),
    /// One part is not what it may be.
    #[error(transparent)]
    Part(ReferenceError),
}

impl fmt::Display for HookRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            HookSelector::Latest => write!(f, "{}", self.name),
            HookSelector::Version(version) => write!(f, "{}@{version}", self.name),
            HookSelector::Digest(digest) => write!(f, "{}@{digest}", self.name),
        }
    }
}

impl FromStr for HookRef {
    type Err = HookRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = || HookRefError::Shape(text.chars().take(80).collect());
        let AdapterRef { name, selector } = text.parse().map_err(|error| match error {
            ReferenceError::Part { .. } => HookRefError::Part(error),
            ReferenceError::Shape(_) | ReferenceError::Version(_) => shape(),
        })?;
        let selector = match selector {
            Selector::Latest => HookSelector::Latest,
            Selector::Version(version) => HookSelector::Version(version),
            Selector::Digest(digest) => HookSelector::Digest(digest),
            Selector::Tag(_) => return Err(shape()),
        };
        Ok(Self { name, selector })
    }
}

impl TryFrom<String> for HookRef {
    type Error = HookRefError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HookRef> for String {
    fn from(reference: HookRef) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_as_it_is_printed_and_a_tag_is_none() {
        let digest = Digest::of(b"x");
        for text in ["acme/mask", "acme/mask@1.2.0", &format!("acme/mask@{digest}")] {
            assert_eq!(text.parse::<HookRef>().expect(text).to_string(), *text);
        }
        for text in ["mask", "acme/mask:prod", "acme/mask@latest"] {
            assert!(matches!(text.parse::<HookRef>(), Err(HookRefError::Shape(_))), "{text}");
        }
        assert!(matches!("Acme/mask".parse::<HookRef>(), Err(HookRefError::Part(_))));
    }
}
