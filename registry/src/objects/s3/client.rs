//! The client of an S3 server, from the settings.

use std::path::PathBuf;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, Credentials, ProvideCredentials, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use secrecy::ExposeSecret as _;
use souk_protocol::wall_clock;

use super::failure::{Address, S3Failure, Trouble};
use crate::objects::settings::ObjectSettings;

/// How long credentials of a file are used before it is read again.
const FILE_KEPT: Duration = Duration::from_secs(300);
/// Server-side work on whole objects may take this many times a request's time.
const LONG: u32 = 10;

/// A client, and what it speaks to.
pub(super) async fn client(settings: &ObjectSettings, bucket: String) -> Result<(Client, Address), S3Failure> {
    let region = match (settings.region.as_str(), variable("AWS_REGION")) {
        ("", Some(region)) => region,
        ("", _) => "us-east-1".to_owned(),
        (region, _) => region.to_owned(),
    };
    let endpoint = (!settings.endpoint.is_empty()).then(|| settings.endpoint.trim_end_matches('/').to_owned());
    let address =
        Address { bucket, endpoint: endpoint.clone(), region: region.clone(), is_in_path: settings.is_in_path() };
    let credentials =
        credentials(settings).await.map_err(|said| S3Failure::new("begin", &address, Trouble::NoCredentials, said))?;
    let retries = RetryConfig::standard()
        .with_max_attempts(settings.attempts)
        .with_initial_backoff(Duration::from_millis(100))
        .with_max_backoff(Duration::from_secs(5));
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(region))
        .credentials_provider(credentials)
        .force_path_style(address.is_in_path)
        .timeout_config(timeouts(settings, 1))
        .retry_config(retries)
        // Checksums are ours, of SHA-256 and in headers: others come as trailers, which many servers do not take.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        // Every request has an end, and reading an object watches for itself that bytes come.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(endpoint) = endpoint {
        config = config.endpoint_url(endpoint);
    }
    Ok((Client::from_conf(config.build()), address))
}

/// For requests that let the server work on a whole object.
pub(super) fn patient(settings: &ObjectSettings) -> aws_sdk_s3::config::Builder {
    Config::builder().timeout_config(timeouts(settings, LONG))
}

fn timeouts(settings: &ObjectSettings, factor: u32) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(settings.connect_timeout)
        .operation_attempt_timeout(settings.request_timeout * factor)
        .build()
}

#[expect(
    clippy::disallowed_methods,
    reason = "AWS's tools name these; config/default.toml says so beside each setting"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

async fn credentials(settings: &ObjectSettings) -> Result<SharedCredentialsProvider, String> {
    let secret = settings.secret_access_key.expose_secret();
    if !settings.access_key_id.is_empty() {
        return Ok(SharedCredentialsProvider::new(Credentials::new(
            &settings.access_key_id,
            secret,
            None,
            None,
            "settings",
        )));
    }
    if !settings.credentials_file.as_os_str().is_empty() {
        let file = CredentialsFile(settings.credentials_file.clone());
        file.read()?;
        return Ok(SharedCredentialsProvider::new(file));
    }
    if let (Some(id), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        let token = variable("AWS_SESSION_TOKEN");
        return Ok(SharedCredentialsProvider::new(Credentials::new(id, secret, token, None, "environment")));
    }
    default_chain().await
}

#[cfg(feature = "aws-chain")]
async fn default_chain() -> Result<SharedCredentialsProvider, String> {
    Ok(SharedCredentialsProvider::new(aws_config::default_provider::credentials::default_provider().await))
}

#[cfg(not(feature = "aws-chain"))]
#[expect(clippy::unused_async, reason = "the other one waits")]
async fn default_chain() -> Result<SharedCredentialsProvider, String> {
    Err("this build does not ask AWS's default chain; build it with the feature `aws-chain` for that".to_owned())
}

/// The file with the access key, in the format of AWS's tools: lines `name = value`, of the section `[default]` if there
/// are sections.
#[derive(Clone, Debug)]
struct CredentialsFile(PathBuf);

impl CredentialsFile {
    fn read(&self) -> Result<Credentials, String> {
        let Self(path) = self;
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        parse(&text).map_err(|missing| format!("{} has no {missing} in [default]", path.display()))
    }
}

impl ProvideCredentials for CredentialsFile {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        // A small local file, a few times an hour.
        future::ProvideCredentials::ready(self.read().map_err(CredentialsError::not_loaded))
    }
}

/// Reads the format of AWS's tools; names what is missing.
fn parse(text: &str) -> Result<Credentials, &'static str> {
    let mut is_default = true;
    let (mut id, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            is_default = section.trim_end_matches(']').trim() == "default";
        } else if let Some((name, value)) = line.split_once('=')
            && is_default
        {
            let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match name.trim() {
                "aws_access_key_id" => id = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    let id = id.ok_or("aws_access_key_id")?;
    let secret = secret.ok_or("aws_secret_access_key")?;
    Ok(Credentials::new(id, secret, token, Some(wall_clock::now() + FILE_KEPT), "file"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_file_is_that_of_awss_tools_and_its_default_section_counts() {
        let text = "# mine\n[other]\naws_access_key_id = A\n[default]\naws_access_key_id = B \naws_secret_access_key=C=\n\
                    [more]\naws_secret_access_key = D\n";
        let read = parse(text).unwrap();
        assert_eq!((read.access_key_id(), read.secret_access_key(), read.session_token()), ("B", "C=", None));
        assert!(read.expiry().is_some(), "it is read again");
        let read = parse("aws_access_key_id=A\naws_secret_access_key=B\naws_session_token=C").unwrap();
        assert_eq!(read.session_token(), Some("C"));
        assert_eq!(parse("[default]\naws_access_key_id=A").unwrap_err(), "aws_secret_access_key");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_and_the_secret_is_not_shown() {
        let file = CredentialsFile(PathBuf::from("/nowhere/at/all"));
        assert!(file.read().unwrap_err().starts_with("/nowhere/at/all: "));
        let read = parse("aws_access_key_id=A\naws_secret_access_key=hush").unwrap();
        assert!(!format!("{read:?}").contains("hush"));
    }

    proptest! {
        #[test]
        fn whatever_the_file_holds_it_is_read_or_refused(text in "(\\[?[a-z_]{0,24}\\]?[= ]{0,3}.{0,8}\n){0,8}") {
            if let Ok(read) = parse(&text) {
                prop_assert!(!read.access_key_id().is_empty() && !read.secret_access_key().is_empty());
            }
        }
    }
}
