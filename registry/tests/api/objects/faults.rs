//! A bucket's server that fails: what can be tried again is, a bounded number of times, and nothing half done stays.

use std::io;
use std::time::Duration;

use souk_protocol::Digest;
use souk_registry::{ObjectSettings, ObjectStore as _, S3Store};
use souk_testkit_s3::{Fault, S3Server};

use super::stores::{PART, all, bytes, in_bucket, put, read, settings, try_put};
use crate::support::wait_until;

/// A store with tries that give up quickly.
async fn bucket() -> (S3Store, S3Server) {
    let place = in_bucket().await;
    (place.store, place.server.unwrap())
}

#[tokio::test]
async fn requests_that_fail_are_tried_again_and_not_for_ever() {
    let (store, server) = bucket().await;
    for fault in [Fault::Refuse(500, "InternalError"), Fault::Refuse(503, "SlowDown"), Fault::Reset] {
        server.fail("PUT", "sha256", 2, fault.clone());
        let digest = put(&store, format!("{fault:?}").as_bytes()).await;
        read(&store, &digest).await.unwrap();
        assert_eq!(server.num_faults_left(), 0);
    }
    let before = server.num_requests("PUT", "sha256");
    server.fail("PUT", "sha256", 10, Fault::Refuse(500, "InternalError"));
    let error = try_put(&store, b"never").await.unwrap_err();
    assert!(error.to_string().contains("InternalError"), "{error}");
    assert_eq!(server.num_requests("PUT", "sha256") - before, 3, "as many as objects.attempts says");
}

#[tokio::test]
async fn a_part_that_cannot_be_sent_ends_the_upload_and_leaves_nothing() {
    let (store, server) = bucket().await;
    server.fail("PUT", "partNumber=2", 10, Fault::Reset);
    try_put(&store, &bytes(3 * PART, 1)).await.unwrap_err();
    wait_until("the multipart upload is ended", async || server.num_running_uploads() == 0).await;
    assert!(server.names("of/tests/staging/").is_empty());
    assert!(all(&store).await.is_empty());
}

#[tokio::test]
async fn an_answer_that_was_lost_is_no_failure_of_what_was_done() {
    let (store, server) = bucket().await;
    server.fail("PUT", "sha256", 1, Fault::LoseAnswer);
    put(&store, b"small").await;
    server.fail("POST", "uploadId", 1, Fault::LoseAnswer);
    let large = bytes(PART + 1, 1);
    let digest = put(&store, &large).await;
    assert!(read(&store, &digest).await.unwrap() == large);
    server.fail("PUT", "installation", 1, Fault::LoseAnswer);
    store.set_installation("ins_1").await.unwrap();
    assert_eq!(server.num_faults_left(), 0);
    assert!(store.staged().await.unwrap().is_empty());
}

#[tokio::test]
async fn reading_goes_on_where_it_broke_off_or_stalled() {
    let (store, server) = bucket().await;
    let content = bytes(PART, 1);
    let digest = put(&store, &content).await;
    server.fail("GET", "sha256", 1, Fault::BreakOff(1_000_000));
    server.fail("GET", "sha256", 1, Fault::Stall(2_000_000));
    let before = server.num_requests("GET", "sha256");
    assert!(read(&store, &digest).await.unwrap() == content);
    assert_eq!((server.num_requests("GET", "sha256") - before, server.num_faults_left()), (3, 0));
}

#[tokio::test]
async fn an_object_that_always_breaks_off_is_an_error_and_never_a_short_object() {
    let (store, server) = bucket().await;
    let digest = put(&store, &bytes(PART, 1)).await;
    server.fail("GET", "sha256", 10, Fault::BreakOff(1000));
    let error = read(&store, &digest).await.unwrap_err();
    // The connection may end before the head of an answer too, which is told in other words.
    assert!(error.to_string().starts_with("cannot read"), "{error}");
}

#[tokio::test]
async fn an_object_that_is_another_one_when_reading_goes_on_is_an_error() {
    let (store, server) = bucket().await;
    let digest = put(&store, &bytes(PART, 1)).await;
    server.fail("GET", "sha256", 1, Fault::BreakOff(1000));
    server.fail("GET", "sha256", 1, Fault::Refuse(412, "PreconditionFailed"));
    let error = read(&store, &digest).await.unwrap_err();
    assert!(error.to_string().contains("replaced while it was read"), "{error}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let server = S3Server::start().await;
    let hasty = ObjectSettings { request_timeout: Duration::from_millis(2000), ..settings(&server) };
    let store = S3Store::open(&hasty).await.unwrap();
    server.fail("PUT", "sha256", 10, Fault::Silence);
    let error = try_put(&store, b"never").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(error.to_string().contains("objects.request_timeout_ms"), "{error}");
}

#[tokio::test]
async fn a_bucket_that_is_gone_is_not_taken_for_objects_that_are_gone() {
    let (store, server) = bucket().await;
    let digest = put(&store, b"weights").await;
    server.fail("GET", "sha256", 1, Fault::Refuse(404, "NoSuchBucket"));
    let error = store.open(&digest).await.err().unwrap();
    assert_ne!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains("there is no bucket"), "{error}");
    server.stop();
    assert_ne!(store.open(&Digest::of(b"other")).await.err().unwrap().kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn a_full_store_says_so() {
    let (store, server) = bucket().await;
    server.fail("PUT", "sha256", 10, Fault::Refuse(507, "XMinioStorageFull"));
    assert_eq!(try_put(&store, b"x").await.unwrap_err().kind(), io::ErrorKind::StorageFull);
}
