//! A start with settings that are wrong: each is told apart, with what to do, and nothing is left in the bucket.

use souk_registry::{Addressing, ObjectSettings, S3Failure, S3Store, Trouble};
use souk_testkit_s3::{Fault, S3Server};

use super::stores::settings;

async fn open(server: &S3Server, change: impl FnOnce(&mut ObjectSettings)) -> Result<S3Store, S3Failure> {
    let mut changed = ObjectSettings { attempts: 1, ..settings(server) };
    change(&mut changed);
    S3Store::open(&changed).await
}

/// What is wrong, and that the message says `advice`.
#[track_caller]
fn told(opened: Result<S3Store, S3Failure>, advice: &str) -> Trouble {
    let failure = opened.expect_err("it cannot be used");
    assert!(failure.to_string().contains(advice), "`{advice}` is not in: {failure}");
    failure.trouble().clone()
}

#[tokio::test]
async fn a_bucket_that_can_be_used_is_left_as_it_was() {
    let server = S3Server::start().await;
    open(&server, |_| {}).await.unwrap();
    assert!(server.names("").is_empty());
    assert_eq!(server.num_running_uploads(), 0);
}

#[tokio::test]
async fn wrong_keys_buckets_and_regions_are_told_apart() {
    let server = S3Server::start().await;
    let secret = open(&server, |settings| settings.secret_access_key = "another".to_owned().into()).await;
    assert_eq!(told(secret, "objects.secret_access_key is not that of the access key"), Trouble::WrongSecret);
    let key = open(&server, |settings| settings.access_key_id = "SOMEBODY".to_owned()).await;
    assert_eq!(told(key, "correct objects.access_key_id"), Trouble::UnknownKey);
    let bucket = open(&server, |settings| settings.url = "s3://another".to_owned()).await;
    assert_eq!(told(bucket, "there is no bucket another; make it, or correct objects.url"), Trouble::NoSuchBucket);
    server.be_in("eu-west-1");
    let region = open(&server, |_| {}).await;
    let expected = Trouble::WrongRegion(Some("eu-west-1".to_owned()));
    assert_eq!(told(region, "set objects.region to it (given us-east-1)"), expected);
    open(&server, |settings| settings.region = "eu-west-1".to_owned()).await.unwrap();
}

#[tokio::test]
async fn addresses_where_no_s3_server_answers_are_told_apart() {
    let server = S3Server::start().await;
    let tls = open(&server, |settings| settings.endpoint = settings.endpoint.replace("http", "https")).await;
    assert_eq!(told(tls, "begin objects.endpoint with http://"), Trouble::NoTls);
    let unknown = |settings: &mut ObjectSettings| settings.endpoint = "http://store.invalid".to_owned();
    assert_eq!(told(open(&server, unknown).await, "correct objects.endpoint"), Trouble::UnknownHost);
    let by_host = open(&server, |settings| {
        unknown(settings);
        settings.addressing = Addressing::Host;
    });
    assert_eq!(told(by_host.await, "set objects.addressing to `path`"), Trouble::UnknownHost);
    server.fail("GET", "list-type", 1, Fault::WebPage);
    assert_eq!(told(open(&server, |_| {}).await, "no S3 server"), Trouble::NotS3);
    server.stop();
    assert_eq!(told(open(&server, |_| {}).await, "nothing answers there"), Trouble::Unreachable);
}

#[tokio::test]
async fn plain_http_to_a_server_that_speaks_tls_is_advised_to_be_https() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = S3Server::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            // What TLS answers to something that is no handshake: a fatal alert, unexpected message.
            let _ = socket.read(&mut [0; 1024]).await;
            let _ = socket.write_all(&[21, 3, 3, 0, 2, 2, 10]).await;
        }
    });
    let opened = open(&server, |settings| settings.endpoint = endpoint).await;
    assert_eq!(told(opened, "begin objects.endpoint with https://"), Trouble::OnlyTls);
}

#[tokio::test]
async fn what_the_key_may_not_do_and_clocks_that_differ_are_told_and_nothing_stays() {
    let server = S3Server::start().await;
    for (method, part, code, trouble, advice) in [
        ("GET", "list-type", "AccessDenied", Trouble::AccessDenied, "it needs s3:GetObject"),
        ("PUT", "probe", "AccessDenied", Trouble::AccessDenied, "cannot write"),
        ("GET", "probe/", "AccessDenied", Trouble::AccessDenied, "it needs s3:GetObject"),
        ("POST", "uploads", "AccessDenied", Trouble::AccessDenied, "cannot begin the upload"),
        ("GET", "uploads", "AccessDenied", Trouble::AccessDenied, "s3:ListBucketMultipartUploads"),
        ("GET", "list-type", "RequestTimeTooSkewed", Trouble::ClockSkew, "set the clocks"),
        ("GET", "list-type", "ExpiredToken", Trouble::ExpiredCredentials, "renew them"),
    ] {
        server.fail(method, part, 1, Fault::Refuse(403, code));
        assert_eq!(told(open(&server, |_| {}).await, advice), trouble, "{method} {part} {code}");
        assert_eq!((server.num_faults_left(), server.num_running_uploads()), (0, 0), "{method} {part} {code}");
        assert!(server.names("").is_empty(), "{method} {part} {code}");
    }
}

#[tokio::test]
async fn a_server_without_conditional_writes_is_refused() {
    let server = S3Server::start().await;
    server.ignore_conditions();
    let opened = open(&server, |_| {}).await;
    assert!(matches!(told(opened, "If-None-Match"), Trouble::Unsupported(_)));
    assert!(server.names("").is_empty());
}

#[tokio::test]
async fn credentials_are_those_of_the_settings_or_of_the_file() {
    let server = S3Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    let from_file = |settings: &mut ObjectSettings| {
        settings.access_key_id = String::new();
        settings.secret_access_key = String::new().into();
        settings.credentials_file = file.clone();
    };
    assert_eq!(told(open(&server, from_file).await, "credentials"), Trouble::NoCredentials);
    let given = settings(&server);
    let secret = secrecy::ExposeSecret::expose_secret(&given.secret_access_key);
    let text = format!("[default]\naws_access_key_id = {}\naws_secret_access_key = {secret}\n", given.access_key_id);
    std::fs::write(&file, text).unwrap();
    open(&server, from_file).await.unwrap();
}
