//! Adapter names written as patterns.

use thiserror::Error;

/// Most names that one run may have.
pub(crate) const MAX_NAMES: usize = 1_000_000;

/// What is wrong with a pattern.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum PatternError {
    #[error("`{pattern}` is not a name with at most one range such as {{0..15}}")]
    Malformed { pattern: String },
    #[error("the range of `{pattern}` ends before it begins")]
    Backwards { pattern: String },
    #[error("the adapters are more than {limit} names")]
    TooMany { limit: usize },
}

/// The names that `patterns` stand for, in order: `a{8..10}` is a8, a9, a10 and `a{08..10}` is a08, a09, a10.
///
/// # Errors
/// If a pattern is malformed or the names are too many.
pub(crate) fn expand(patterns: &[String]) -> Result<Vec<String>, PatternError> {
    let mut names = Vec::new();
    for pattern in patterns {
        let Some(range) = Range::of(pattern)? else {
            names.push(pattern.clone());
            continue;
        };
        let num_names = usize::try_from(range.last - range.first).unwrap_or(usize::MAX).saturating_add(1);
        if names.len().saturating_add(num_names) > MAX_NAMES {
            return Err(PatternError::TooMany { limit: MAX_NAMES });
        }
        let Range { before, after, width, .. } = range;
        names.extend((range.first..=range.last).map(|number| format!("{before}{number:0width$}{after}")));
    }
    Ok(names)
}

struct Range<'a> {
    before: &'a str,
    first: u64,
    last: u64,
    /// Digits to pad to; 0 does not pad.
    width: usize,
    after: &'a str,
}

impl<'a> Range<'a> {
    fn of(pattern: &'a str) -> Result<Option<Self>, PatternError> {
        let malformed = || PatternError::Malformed { pattern: pattern.to_owned() };
        if pattern.is_empty() {
            return Err(malformed());
        }
        let Some((before, rest)) = pattern.split_once('{') else {
            return if pattern.contains('}') { Err(malformed()) } else { Ok(None) };
        };
        let (inside, after) = rest.split_once('}').ok_or_else(malformed)?;
        let (first, last) = inside.split_once("..").ok_or_else(malformed)?;
        if [before, after].iter().any(|part| part.contains(['{', '}'])) {
            return Err(malformed());
        }
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse::<u64>().map_err(|_| malformed()),
            false => Err(malformed()),
        };
        let width = if first.starts_with('0') && first.len() > 1 { first.len() } else { 0 };
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err(PatternError::Backwards { pattern: pattern.to_owned() });
        }
        Ok(Some(Self { before, first, last, width, after }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(pattern: &str) -> Result<Vec<String>, PatternError> {
        expand(&[pattern.to_owned()])
    }

    #[test]
    fn ranges_stand_for_their_numbers() {
        assert_eq!(names("acme/a{8..10}@1.0.0").unwrap(), ["acme/a8@1.0.0", "acme/a9@1.0.0", "acme/a10@1.0.0"]);
        assert_eq!(names("{098..100}").unwrap(), ["098", "099", "100"]);
        assert_eq!(names("{0..0}").unwrap(), ["0"]);
        assert_eq!(names("plain").unwrap(), ["plain"]);
    }

    #[test]
    fn what_is_not_a_range_is_refused() {
        for pattern in ["", "a{", "a}", "a{1}", "a{1..}", "a{+1..2}", "a{1..2}{3..4}", "a{{1..2}}", "a{x..y}"] {
            assert!(matches!(names(pattern), Err(PatternError::Malformed { .. })), "{pattern}");
        }
        assert!(matches!(names("a{2..1}"), Err(PatternError::Backwards { .. })));
        assert!(matches!(names("a{0..18446744073709551615}"), Err(PatternError::TooMany { .. })));
    }

    proptest! {
        #[test]
        fn no_text_panics(pattern in "\\PC{0,12}|[a{}.0-9]{0,12}") {
            if let Ok(names) = names(&pattern) {
                prop_assert!(!names.is_empty());
            }
        }
    }
}
