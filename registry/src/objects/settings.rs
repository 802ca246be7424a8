//! The section `[objects]` of the settings: where the bytes of adapters lie, and how an S3 server is spoken to.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use souk_protocol::settings::{self, Checks, mebibytes, milliseconds};

/// Most parts that a multipart upload may have.
pub(crate) const MAX_PARTS: u64 = 10_000;
/// A copy within a server takes no more than this at once.
const MAX_COPY_BYTES: u64 = 5 << 30;

/// The section `[objects]` of the settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectSettings {
    /// Where the objects are; empty: the folder `objects` below the data folder.
    pub url: String,
    /// Address of an S3 server that is not AWS's; empty: AWS's own in `region`.
    pub endpoint: String,
    /// The bucket's region; empty: the variable `AWS_REGION`, else `us-east-1`.
    pub region: String,
    /// How a request names the bucket.
    pub addressing: Addressing,
    /// Id of the access key; empty: `credentials_file` or the environment says it.
    pub access_key_id: String,
    /// The access key's secret.
    #[serde(deserialize_with = "secret")]
    pub secret_access_key: SecretString,
    /// A file with the access key; empty: none. It is read again every few minutes.
    pub credentials_file: PathBuf,
    /// Longest wait for a connection.
    #[serde(rename = "connect_timeout_ms", deserialize_with = "milliseconds::deserialize")]
    pub connect_timeout: Duration,
    /// Longest try of one request, its body sent and the head of the answer read.
    #[serde(rename = "request_timeout_ms", deserialize_with = "milliseconds::deserialize")]
    pub request_timeout: Duration,
    /// Longest wait for the next bytes of an object that is read; then it is asked for again from there on.
    #[serde(rename = "stall_timeout_ms", deserialize_with = "milliseconds::deserialize")]
    pub stall_timeout: Duration,
    /// Tries of a request, and of an object that breaks off while it is read.
    pub attempts: u32,
    /// Bytes of a part of a multipart upload, which each running upload holds in memory.
    #[serde(rename = "part_mb", deserialize_with = "mebibytes::deserialize")]
    pub part_bytes: u64,
}

/// How a request names the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Addressing {
    /// In the path where an endpoint is set, else in the host name.
    Auto,
    /// In the path: `https://host/bucket/key`.
    Path,
    /// In the host name: `https://bucket.host/key`.
    Host,
}

/// Where objects lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder.
    Folder,
    /// A bucket, and what all names in it begin with: empty, or ending in `/`.
    Bucket {
        /// Name of the bucket.
        bucket: String,
        /// What names begin with.
        prefix: String,
    },
}

impl Default for ObjectSettings {
    fn default() -> Self {
        settings::defaults("objects")
    }
}

impl ObjectSettings {
    /// Says which of them cannot be used.
    pub fn check(&self, checks: &mut Checks) {
        if let Err(problem) = self.place() {
            checks.rule(false, || problem);
        }
        let is_address = self.endpoint.is_empty()
            || ["http://", "https://"].iter().any(|scheme| {
                self.endpoint
                    .strip_prefix(scheme)
                    .is_some_and(|rest| !rest.is_empty() && !rest.contains(['?', '#', '@']))
            });
        checks.rule(is_address, || {
            let given = &self.endpoint;
            format!("objects.endpoint must be http://host[:port] or https://host[:port]; given {given}")
        });
        let has_id = !self.access_key_id.is_empty();
        checks.rule(has_id != self.secret_access_key.expose_secret().is_empty(), || {
            "objects.access_key_id and objects.secret_access_key go together; one of them is empty".to_owned()
        });
        checks.rule(!has_id || self.credentials_file.as_os_str().is_empty(), || {
            let file = self.credentials_file.display();
            format!(
                "objects.access_key_id and objects.credentials_file are both set, the latter to {file}; set one of them"
            )
        });
        checks.within("objects.connect_timeout_ms", self.connect_timeout.as_millis(), 10..=60_000);
        checks.within("objects.request_timeout_ms", self.request_timeout.as_millis(), 10..=600_000);
        checks.within("objects.stall_timeout_ms", self.stall_timeout.as_millis(), 10..=600_000);
        checks.within("objects.attempts", self.attempts, 1..=10);
        // S3 takes no part below 5 MiB but the last, and a part is held in memory.
        checks.within("objects.part_mb", self.part_bytes >> 20, 5..=1024);
    }

    /// Says whether the largest file that may be uploaded can be stored.
    pub fn check_sizes(&self, max_adapter_bytes: u64, checks: &mut Checks) {
        if matches!(self.place(), Ok(Place::Bucket { .. })) {
            let most = MAX_COPY_BYTES.min(self.part_bytes.saturating_mul(MAX_PARTS));
            checks.no_more_than(
                "registry.max_adapter_bytes",
                max_adapter_bytes,
                "what a bucket takes in one object",
                most,
            );
        }
    }

    /// Where the objects are.
    ///
    /// # Errors
    /// A sentence that says what of `url` cannot be used.
    pub fn place(&self) -> Result<Place, String> {
        if self.url.is_empty() {
            return Ok(Place::Folder);
        }
        let given = &self.url;
        let Some(rest) = given.strip_prefix("s3://") else {
            return Err(format!("objects.url must be empty or s3://bucket[/prefix]; given {given}"));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(is_name) {
            return Err(format!(
                "the bucket of objects.url must be 3 to 63 of a-z, 0-9, `-` and `.`; given {bucket} in {given}"
            ));
        }
        let prefix = prefix.trim_end_matches('/');
        let is_segment = |segment: &str| {
            !segment.is_empty()
                && !segment.bytes().all(|byte| byte == b'.')
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        // 200 leave room for the names below it: S3 takes 1,024 bytes.
        if prefix.len() > 200 || !(prefix.is_empty() || prefix.split('/').all(is_segment)) {
            return Err(format!(
                "the prefix of objects.url must be at most 200 of a-z, A-Z, 0-9, `.`, `_`, `-`, in segments between `/`; given {prefix} in {given}"
            ));
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Place::Bucket { bucket: bucket.to_owned(), prefix })
    }

    /// Whether the bucket is named in the path.
    #[must_use]
    pub fn is_in_path(&self) -> bool {
        match self.addressing {
            Addressing::Auto => !self.endpoint.is_empty(),
            Addressing::Path => true,
            Addressing::Host => false,
        }
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problems(settings: &ObjectSettings) -> String {
        let mut checks = Checks::default();
        settings.check(&mut checks);
        checks.finish().err().map(|error| error.to_string()).unwrap_or_default()
    }

    fn at(url: &str) -> ObjectSettings {
        ObjectSettings { url: url.to_owned(), ..ObjectSettings::default() }
    }

    #[test]
    fn the_defaults_are_those_of_the_page_and_mean_the_folder() {
        let settings = ObjectSettings::default();
        assert_eq!((problems(&settings).as_str(), settings.place()), ("", Ok(Place::Folder)));
    }

    #[test]
    fn a_bucket_is_named_by_its_url_with_or_without_a_prefix() {
        let place = |url| at(url).place().unwrap();
        let bucket = |prefix: &str| Place::Bucket { bucket: "souk".to_owned(), prefix: prefix.to_owned() };
        assert_eq!(place("s3://souk"), bucket(""));
        assert_eq!(place("s3://souk/"), bucket(""));
        assert_eq!(place("s3://souk/eu/one"), bucket("eu/one/"));
    }

    #[test]
    fn what_cannot_be_used_is_named_with_what_was_given() {
        let settings = ObjectSettings {
            endpoint: "minio:9000".to_owned(),
            access_key_id: "id".to_owned(),
            part_bytes: 1 << 20,
            attempts: 0,
            ..at("gs://souk")
        };
        let told = problems(&settings);
        for part in [
            "objects.url must be empty or s3://bucket[/prefix]; given gs://souk",
            "objects.endpoint must be http://host[:port] or https://host[:port]; given minio:9000",
            "objects.access_key_id and objects.secret_access_key go together",
            "objects.part_mb must be at least 5; given 1",
            "objects.attempts must be at least 1; given 0",
        ] {
            assert!(told.contains(part), "{part} is not in:\n{told}");
        }
        assert!(problems(&at("s3://Souk")).contains("given Souk in s3://Souk"));
        assert!(problems(&at("s3://souk/a//b")).contains("given a//b in"));
        assert!(problems(&at("s3://souk/../other")).contains("given ../other in"));
    }

    #[test]
    fn the_secret_is_never_shown() {
        let settings = ObjectSettings { secret_access_key: "hush".to_owned().into(), ..ObjectSettings::default() };
        assert!(!format!("{settings:?}").contains("hush"));
    }

    proptest! {
        #[test]
        fn whatever_the_url_is_a_place_has_a_bucket_and_a_prefix_that_ends_in_a_slash(url in "(s3://)?[a-z./A-Z_ -]{0,40}") {
            if let Ok(Place::Bucket { bucket, prefix }) = at(&url).place() {
                prop_assert!((3..=63).contains(&bucket.len()));
                prop_assert!(prefix.is_empty() || prefix.ends_with('/'));
                prop_assert!(!prefix.starts_with('/') && !prefix.contains("//") && !prefix.contains("../"));
                let again = format!("s3://{bucket}/{prefix}");
                prop_assert_eq!(url.trim_end_matches('/'), again.trim_end_matches('/'));
            }
        }
    }
}
