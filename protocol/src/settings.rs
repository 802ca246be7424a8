//! The settings' one page, `config/default.toml`, and how each crate reads its section of it.
//!
//! A section is a struct in the crate that it is for, with one field per key. The page is compiled in and is the only
//! place that has defaults: a struct's `Default` reads its section here, so that tests measure the server that users
//! run. Keys say their unit (`lease_s`, `host_mb`); fields that hold a [`Duration`] or bytes do not repeat or convert
//! it (`lease`, `host_bytes`): the modules of this file read them.

use std::cmp::Ordering;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::LazyLock;
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize as _, Deserializer};

/// Every setting with its default and what it bounds.
pub const PAGE: &str = include_str!("../../config/default.toml");

/// A section as the page has it.
///
/// # Panics
/// If the page has no such section, or one that is no `T`: the page and the code are of one executable, and a test of
/// each section's crate reads it.
#[must_use]
pub fn defaults<T: DeserializeOwned>(section: &str) -> T {
    // Read once: tests ask for defaults in every case of a property.
    static READ: LazyLock<toml::Table> = LazyLock::new(|| toml::from_str(PAGE).expect("config/default.toml is TOML"));
    let found = READ.get(section).unwrap_or_else(|| panic!("config/default.toml has no section [{section}]"));
    found.clone().try_into().unwrap_or_else(|error| panic!("[{section}] of config/default.toml: {error}"))
}

/// A key in whole seconds, as a [`Duration`].
pub mod seconds {
    use super::*;

    /// Reads it.
    ///
    /// # Errors
    /// If it is no whole number from 0.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_secs)
    }
}

/// A key in whole milliseconds, as a [`Duration`].
pub mod milliseconds {
    use super::*;

    /// Reads it.
    ///
    /// # Errors
    /// If it is no whole number from 0.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// A key in MiB, as bytes.
pub mod mebibytes {
    use super::*;

    /// Reads it.
    ///
    /// # Errors
    /// If it is no whole number from 0, or more bytes than can be counted.
    pub fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<T, D::Error> {
        let mebibytes = u64::deserialize(deserializer)?;
        let bytes = mebibytes.checked_mul(1 << 20).and_then(|bytes| T::try_from(bytes).ok());
        bytes.ok_or_else(|| D::Error::custom(format!("{mebibytes} MiB are more bytes than can be counted")))
    }
}

/// A key in MiB of which 0 means that there is no such bound, as bytes.
pub mod mebibytes_or_none {
    use super::*;

    /// Reads it.
    ///
    /// # Errors
    /// As [`mebibytes`].
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
        mebibytes::deserialize(deserializer).map(|bytes| (bytes > 0).then_some(bytes))
    }
}

/// A count of which 0 means that there is no such bound.
pub mod count_or_none {
    use super::*;

    /// Reads it.
    ///
    /// # Errors
    /// If it is no whole number from 0.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
        usize::deserialize(deserializer).map(|count| (count > 0).then_some(count))
    }
}

/// Gathers what is wrong with settings, so that one start tells all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    problems: Vec<String>,
}

/// Settings that cannot be used. Each line names a key with its limit and what was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError(Vec<String>);

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for SettingsError {}

impl Checks {
    /// `key` must be within `range`.
    pub fn within<T: Copy + PartialOrd + fmt::Display>(&mut self, key: &str, given: T, range: RangeInclusive<T>) {
        if given < *range.start() {
            self.problems.push(format!("{key} must be at least {}; given {given}", range.start()));
        } else if !range.contains(&given) {
            self.problems.push(format!("{key} must be at most {}; given {given}", range.end()));
        }
    }

    /// `key` must be at least `least`.
    pub fn at_least<T: Copy + PartialOrd + fmt::Display>(&mut self, key: &str, given: T, least: T) {
        // What cannot be compared, as a number that is none, fails too.
        if given.partial_cmp(&least).is_none_or(Ordering::is_lt) {
            self.problems.push(format!("{key} must be at least {least}; given {given}"));
        }
    }

    /// `key` must not exceed `other`.
    pub fn no_more_than<T: Copy + PartialOrd + fmt::Display>(&mut self, key: &str, given: T, other: &str, limit: T) {
        if given > limit {
            self.problems.push(format!("{key} must be at most {other}, which is {limit}; given {given}"));
        }
    }

    /// A rule of its own, told in a sentence if it is broken.
    pub fn rule(&mut self, holds: bool, sentence: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(sentence());
        }
    }

    /// Ends the check.
    ///
    /// # Errors
    /// [`SettingsError`] with all that is wrong.
    pub fn finish(self) -> Result<(), SettingsError> {
        if self.problems.is_empty() { Ok(()) } else { Err(SettingsError(self.problems)) }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Section {
        #[serde(rename = "lease_s", deserialize_with = "seconds::deserialize")]
        lease: Duration,
        #[serde(rename = "wait_ms", deserialize_with = "milliseconds::deserialize")]
        wait: Duration,
        #[serde(rename = "host_mb", deserialize_with = "mebibytes::deserialize")]
        host_bytes: usize,
        #[serde(rename = "cap_mb", deserialize_with = "mebibytes_or_none::deserialize")]
        cap_bytes: Option<usize>,
        #[serde(deserialize_with = "count_or_none::deserialize")]
        most: Option<usize>,
    }

    fn read(text: &str) -> Result<Section, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn units_are_in_the_keys_and_not_in_the_fields() {
        let section = read("lease_s = 15\nwait_ms = 250\nhost_mb = 3\ncap_mb = 0\nmost = 0").unwrap();
        let (lease, wait) = (Duration::from_secs(15), Duration::from_millis(250));
        assert_eq!(section, Section { lease, wait, host_bytes: 3 << 20, cap_bytes: None, most: None });
        let section = read("lease_s = 15\nwait_ms = 250\nhost_mb = 3\ncap_mb = 2\nmost = 7").unwrap();
        assert_eq!((section.cap_bytes, section.most), (Some(2 << 20), Some(7)));
        let error = read("lease_s = 1\nwait_ms = 1\nhost_mb = 9000000000000000000\ncap_mb = 0\nmost = 0").unwrap_err();
        assert_eq!(error, "9000000000000000000 MiB are more bytes than can be counted");
        assert!(read("lease_s = -1\nwait_ms = 1\nhost_mb = 1\ncap_mb = 0\nmost = 0").is_err());
    }

    #[test]
    fn all_that_is_wrong_is_told_with_key_limit_and_value() {
        let mut checks = Checks::default();
        checks.within("a.b", 3, 1..=5);
        checks.within("a.c", 0, 1..=5);
        checks.within("a.d", 6, 1..=5);
        checks.at_least("a.e", f64::NAN, 1.0);
        checks.no_more_than("a.f", 9, "a.g", 8);
        checks.no_more_than("a.f", 8, "a.g", 8);
        checks.rule(false, || "a.h and a.i are the same".to_owned());
        let lines = [
            "a.c must be at least 1; given 0",
            "a.d must be at most 5; given 6",
            "a.e must be at least 1; given NaN",
            "a.f must be at most a.g, which is 8; given 9",
            "a.h and a.i are the same",
        ];
        assert_eq!(checks.finish().unwrap_err().to_string(), lines.join("\n"));
        assert_eq!(Checks::default().finish(), Ok(()));
    }
}
