//! What goes wrong with an S3 server, in words that say what to do about it.

use std::fmt;
use std::io;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// Which bucket is spoken to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) bucket: String,
    /// The server, as the settings have it.
    pub(super) endpoint: Option<String>,
    pub(super) region: String,
    /// Whether the bucket is named in the path.
    pub(super) is_in_path: bool,
}

/// A request that an S3 server did not carry out, or that never reached one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Failure {
    /// What was tried, for example `read sha256/ab/…`.
    action: String,
    address: Address,
    trouble: Trouble,
    /// What the server or the network said.
    said: String,
}

/// The kind of failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is no such object.
    NoSuchObject,
    /// There is no such multipart upload any more.
    NoSuchUpload,
    /// An object of that name is there already.
    AlreadyThere,
    /// There is no such bucket.
    NoSuchBucket,
    /// The bucket is in another region, which the server may have named.
    WrongRegion(Option<String>),
    /// The access key may not do this.
    AccessDenied,
    /// The server does not know the access key.
    UnknownKey,
    /// The secret is not that of the access key.
    WrongSecret,
    /// The credentials were good for a time that is over.
    ExpiredCredentials,
    /// There are no credentials, or they cannot be read.
    NoCredentials,
    /// The clocks of this machine and of the server are too far apart.
    ClockSkew,
    /// The bytes that arrived are not those of the checksum.
    WrongBytes,
    /// The store is full, or the bucket's quota is used up.
    Full,
    /// The host's name means nothing.
    UnknownHost,
    /// Nothing answers there.
    Unreachable,
    /// The server speaks no TLS.
    NoTls,
    /// The server speaks only TLS.
    OnlyTls,
    /// The server's certificate is not one that this machine trusts.
    UntrustedCertificate,
    /// No answer in time.
    TimedOut,
    /// What answers does not speak S3.
    NotS3,
    /// It answers that it cannot do so now.
    Failing,
    /// The server does not do what objects need.
    Unsupported(&'static str),
    /// Anything else.
    Other,
}

impl S3Failure {
    pub(super) fn new(action: impl Into<String>, address: &Address, trouble: Trouble, said: impl Into<String>) -> Self {
        Self { action: action.into(), address: address.clone(), trouble, said: said.into() }
    }

    /// Reads what the client says of a request that failed.
    pub(super) fn of<E>(action: impl Into<String>, address: &Address, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let trouble = trouble_of(address, error);
        let said = match (error.code(), error.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            // The last cause of the chain says it; what is before it are the layers of the client.
            _ => innermost(error),
        };
        Self { action: action.into(), address: address.clone(), trouble, said }
    }

    /// The kind of failure.
    #[must_use]
    pub fn trouble(&self) -> &Trouble {
        &self.trouble
    }

    /// What to do about it, in the words of the settings.
    fn advice(&self) -> String {
        let Address { bucket, region, is_in_path, .. } = &self.address;
        match &self.trouble {
            Trouble::NoSuchBucket => format!("there is no bucket {bucket}; make it, or correct objects.url"),
            Trouble::WrongRegion(Some(right)) => {
                format!("the bucket is in the region {right}; set objects.region to it (given {region})")
            }
            Trouble::WrongRegion(None) => format!("the bucket is in another region; correct objects.region (given {region})"),
            Trouble::AccessDenied => format!(
                "the access key may not do this; it needs s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket, \
                 s3:AbortMultipartUpload and s3:ListBucketMultipartUploads for {bucket}"
            ),
            Trouble::UnknownKey => "the server does not know the access key; correct objects.access_key_id".to_owned(),
            Trouble::WrongSecret => "the signature does not match: objects.secret_access_key is not that of the access \
                                     key, or something between changes the host or the path of requests"
                .to_owned(),
            Trouble::ExpiredCredentials => "the credentials have expired; renew them".to_owned(),
            Trouble::NoCredentials => "there are no credentials; set objects.access_key_id and \
                                       objects.secret_access_key, or objects.credentials_file, or AWS_ACCESS_KEY_ID and \
                                       AWS_SECRET_ACCESS_KEY"
                .to_owned(),
            Trouble::ClockSkew => {
                "this machine's clock and the server's are too far apart; set the clocks (NTP)".to_owned()
            }
            Trouble::UnknownHost if !is_in_path => "the host is unknown; if the server has no host name for each bucket, \
                                                    set objects.addressing to `path`, else correct objects.endpoint and \
                                                    objects.region"
                .to_owned(),
            Trouble::UnknownHost => "the host is unknown; correct objects.endpoint".to_owned(),
            Trouble::Unreachable => "nothing answers there; is the server up, and objects.endpoint right?".to_owned(),
            Trouble::NoTls => "the server speaks no TLS; begin objects.endpoint with http://".to_owned(),
            Trouble::OnlyTls => {
                "the server does not speak plain HTTP; begin objects.endpoint with https://".to_owned()
            }
            Trouble::UntrustedCertificate => "the server's certificate is not trusted; name a file with its issuer in \
                                              SSL_CERT_FILE"
                .to_owned(),
            Trouble::TimedOut => "no answer in objects.request_timeout_ms (and objects.connect_timeout_ms)".to_owned(),
            Trouble::Failing => "the server fails or has too much to do; its own log says more".to_owned(),
            Trouble::NotS3 if !is_in_path => "what answers is no S3 server, or does not know the bucket by its host name: \
                                              set objects.addressing to `path`, or correct objects.endpoint"
                .to_owned(),
            Trouble::NotS3 => "what answers is no S3 server; correct objects.endpoint".to_owned(),
            Trouble::Full => "the store is full; free space, or raise the bucket's quota".to_owned(),
            Trouble::WrongBytes => "the bytes that arrived are not those that were sent".to_owned(),
            Trouble::Unsupported(what) => format!("the server does not {what}; use one that does"),
            Trouble::NoSuchObject => "there is no such object".to_owned(),
            Trouble::NoSuchUpload => "there is no such multipart upload any more".to_owned(),
            Trouble::AlreadyThere => "an object of that name is there already".to_owned(),
            Trouble::Other => "the server refused or failed".to_owned(),
        }
    }
}

impl fmt::Display for S3Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { bucket, endpoint, region, .. } = &self.address;
        write!(f, "cannot {} in the bucket {bucket}", self.action)?;
        match endpoint {
            Some(endpoint) => write!(f, " at {endpoint}")?,
            None => write!(f, " of AWS in {region}")?,
        }
        write!(f, ": {}", self.advice())?;
        if self.said.is_empty() { Ok(()) } else { write!(f, " ({})", self.said) }
    }
}

impl std::error::Error for S3Failure {}

impl From<S3Failure> for io::Error {
    fn from(failure: S3Failure) -> Self {
        let kind = match failure.trouble {
            Trouble::NoSuchObject => io::ErrorKind::NotFound,
            Trouble::AlreadyThere => io::ErrorKind::AlreadyExists,
            Trouble::AccessDenied | Trouble::UnknownKey | Trouble::WrongSecret => io::ErrorKind::PermissionDenied,
            Trouble::Full => io::ErrorKind::StorageFull,
            Trouble::TimedOut => io::ErrorKind::TimedOut,
            Trouble::Unreachable | Trouble::UnknownHost => io::ErrorKind::HostUnreachable,
            Trouble::Failing => io::ErrorKind::ResourceBusy,
            Trouble::WrongBytes => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, failure)
    }
}

fn trouble_of<E>(address: &Address, error: &SdkError<E, HttpResponse>) -> Trouble
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let answer = error.raw_response();
    let status = answer.map_or(0, |answer| answer.status().as_u16());
    let region = answer.and_then(|answer| answer.headers().get("x-amz-bucket-region")).map(str::to_owned);
    if let Some(code) = error.code()
        && let Some(trouble) = of_code(code, error.message().unwrap_or_default(), region.as_deref())
    {
        return trouble;
    }
    match error {
        SdkError::TimeoutError(_) => Trouble::TimedOut,
        SdkError::DispatchFailure(failure) if failure.is_timeout() => Trouble::TimedOut,
        SdkError::ServiceError(_) | SdkError::ResponseError(_) if status != 0 => {
            of_status(status, region.as_deref(), address.region.as_str())
        }
        _ => of_network(&format!("{}", DisplayErrorContext(error))),
    }
}

/// The codes that S3 servers answer with.
fn of_code(code: &str, message: &str, region: Option<&str>) -> Option<Trouble> {
    Some(match code {
        "NoSuchKey" | "NotFound" => Trouble::NoSuchObject,
        "NoSuchUpload" => Trouble::NoSuchUpload,
        "PreconditionFailed" => Trouble::AlreadyThere,
        "NoSuchBucket" => Trouble::NoSuchBucket,
        "PermanentRedirect" | "TemporaryRedirect" | "IllegalLocationConstraintException" => {
            Trouble::WrongRegion(region.map(str::to_owned))
        }
        "AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError" if message.contains("region") => {
            Trouble::WrongRegion(region.map(str::to_owned).or_else(|| expected_region(message)))
        }
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "Forbidden" => Trouble::AccessDenied,
        "InvalidAccessKeyId" | "NotSignedUp" => Trouble::UnknownKey,
        "SignatureDoesNotMatch" => Trouble::WrongSecret,
        "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken" => Trouble::ExpiredCredentials,
        "RequestTimeTooSkewed" | "RequestExpired" => Trouble::ClockSkew,
        "BadDigest" | "XAmzContentSHA256Mismatch" | "InvalidDigest" | "IncompleteBody" => Trouble::WrongBytes,
        "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "InsufficientStorage" => {
            Trouble::Full
        }
        "NotImplemented" | "MethodNotAllowed" => Trouble::Unsupported("do this"),
        "RequestTimeout" => Trouble::TimedOut,
        _ => return None,
    })
}

/// Answers without a body that says more, as those to HEAD, or of something that is no S3 server.
fn of_status(status: u16, region: Option<&str>, given: &str) -> Trouble {
    match status {
        301 | 307 | 400 if region.is_some_and(|right| right != given) => {
            Trouble::WrongRegion(region.map(str::to_owned))
        }
        403 => Trouble::AccessDenied,
        404 => Trouble::NoSuchObject,
        412 => Trouble::AlreadyThere,
        507 => Trouble::Full,
        500..=599 => Trouble::Failing,
        _ => Trouble::NotS3,
    }
}

/// What never became an answer, by the words of the layers below the client: they have no types for it.
fn of_network(text: &str) -> Trouble {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["credentials provider", "CredentialsNotLoaded", "no providers in chain", "NoMatchingAuthScheme"]) {
        Trouble::NoCredentials
    } else if has(&["dns error", "failed to lookup address"]) {
        Trouble::UnknownHost
    } else if has(&["invalid peer certificate", "UnknownIssuer", "certificate"]) {
        Trouble::UntrustedCertificate
    } else if has(&["InvalidContentType", "corrupt message", "InvalidMessage"]) {
        Trouble::NoTls
    } else if has(&["invalid HTTP version", "HTTP/0.9"]) {
        Trouble::OnlyTls
    } else if has(&["Connection refused", "No route to host", "Network is unreachable", "connect"]) {
        Trouble::Unreachable
    } else if has(&["invalid XML", "deserializ", "unhandled error", "parse"]) {
        Trouble::NotS3
    } else {
        Trouble::Other
    }
}

/// The region in `…; expecting 'eu-west-1'`.
fn expected_region(message: &str) -> Option<String> {
    let (_, after) = message.split_once("expecting '")?;
    let (region, _) = after.split_once('\'')?;
    (!region.is_empty()).then(|| region.to_owned())
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(is_in_path: bool) -> Address {
        let endpoint = Some("http://store:9000".to_owned());
        Address { bucket: "souk".to_owned(), endpoint, region: "us-east-1".to_owned(), is_in_path }
    }

    #[test]
    fn codes_of_the_usual_misconfigurations_are_told_apart() {
        let malformed = "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'";
        let expected = |code: &str, message: &str| of_code(code, message, None);
        assert_eq!(
            expected("AuthorizationHeaderMalformed", malformed),
            Some(Trouble::WrongRegion(Some("eu-west-1".to_owned())))
        );
        assert_eq!(
            of_code("PermanentRedirect", "", Some("eu-west-2")),
            Some(Trouble::WrongRegion(Some("eu-west-2".to_owned())))
        );
        assert_eq!(expected("RequestTimeTooSkewed", ""), Some(Trouble::ClockSkew));
        assert_eq!(expected("SlowDown", ""), None);
    }

    #[test]
    fn a_host_that_is_unknown_with_the_bucket_in_it_is_advised_to_name_it_in_the_path() {
        let failure =
            |is_in_path| S3Failure::new("list", &address(is_in_path), Trouble::UnknownHost, "dns error").to_string();
        assert!(failure(false).contains("set objects.addressing to `path`"));
        assert!(!failure(true).contains("addressing"));
    }

    #[test]
    fn the_kind_tells_callers_what_they_act_on() {
        let kind = |trouble| io::Error::from(S3Failure::new("read x", &address(true), trouble, "")).kind();
        assert_eq!(kind(Trouble::NoSuchObject), io::ErrorKind::NotFound);
        assert_eq!(kind(Trouble::Full), io::ErrorKind::StorageFull);
        assert_eq!(kind(of_status(503, None, "us-east-1")), io::ErrorKind::ResourceBusy);
        // A bucket that is gone is no object that is gone: nothing may be concluded from it.
        assert_eq!(kind(Trouble::NoSuchBucket), io::ErrorKind::Other);
    }

    proptest! {
        #[test]
        fn whatever_a_server_says_is_read_without_a_panic(code in ".{0,40}", message in ".{0,80}", region in proptest::option::of(".{0,20}")) {
            let _ = of_code(&code, &message, region.as_deref());
            let _ = of_code("AuthorizationHeaderMalformed", &format!("region {message} expecting '{code}"), None);
            let _ = of_network(&message);
        }
    }
}
