//! Which modules a configuration means: by name, by pattern, by layer.

use super::pattern::Pattern;

/// `target_modules` or `exclude_modules`.
#[derive(Clone, Debug)]
pub enum ModuleSelector {
    /// Every linear module but the output head (`"all-linear"`).
    AllLinear,
    /// Modules whose path is one of these, or ends with a dot and one of these.
    Names(Vec<String>),
    /// Modules whose whole path matches.
    Pattern(Pattern),
}

/// `layers_to_transform` with `layers_pattern`.
#[derive(Clone, Debug)]
pub struct LayerFilter {
    /// The layers that are meant.
    pub layers: Vec<usize>,
    /// How the layer's number is found in a path: the first of these that matches.
    pub patterns: Vec<Pattern>,
}

/// How a path was selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    No,
    /// By its full path, which no layer filter overrules.
    Exact,
    Yes,
}

impl ModuleSelector {
    /// The pattern, where it is one.
    pub(super) fn pattern(&self) -> Option<&Pattern> {
        match self {
            Self::Pattern(pattern) => Some(pattern),
            Self::AllLinear | Self::Names(_) => None,
        }
    }

    pub(super) fn select(&self, path: &str) -> Selection {
        let selected = match self {
            Self::AllLinear => path != "lm_head" && !path.ends_with("embed_tokens"),
            Self::Names(names) if names.iter().any(|name| name == path) => return Selection::Exact,
            Self::Names(names) => names.iter().any(|name| ends_with_segment(path, name)),
            Self::Pattern(pattern) => pattern.matches(path),
        };
        if selected { Selection::Yes } else { Selection::No }
    }
}

impl LayerFilter {
    pub(super) fn admits(&self, path: &str) -> bool {
        self.patterns.iter().find_map(|pattern| pattern.number(path)).is_some_and(|layer| self.layers.contains(&layer))
    }
}

/// Whether `path` ends with a dot and `name`.
pub(super) fn ends_with_segment(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}
