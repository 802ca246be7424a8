//! What holds for every object store. Each function is a test of the folder and of the bucket.

use std::io;

use futures::future::join_all;
use souk_protocol::Digest;
use souk_registry::ObjectStore;

use super::stores::{PART, Place, all, bytes, in_bucket, in_folder, put, read};
use crate::support::wait_until;

macro_rules! for_both {
    ($($name:ident,)*) => {
        mod folder {
            $(#[tokio::test] async fn $name() { super::$name(super::in_folder().await).await; })*
        }
        mod bucket {
            $(#[tokio::test] async fn $name() { super::$name(super::in_bucket().await).await; })*
        }
    };
}

for_both! {
    a_committed_blob_reads_back_and_the_same_content_is_stored_once,
    a_blob_of_any_length_reads_back,
    blobs_are_listed_by_their_first_byte_with_their_length,
    a_blob_that_is_dropped_leaves_nothing,
    what_one_upload_staged_is_discarded_alone,
    what_is_not_there_is_said_to_be_not_there,
    of_many_writers_of_one_content_all_succeed,
    a_damaged_blob_is_put_right_by_who_writes_it_again,
    a_blob_in_quarantine_is_kept_aside_and_can_be_written_again,
    the_id_of_an_installation_is_written_once,
}

async fn a_committed_blob_reads_back_and_the_same_content_is_stored_once<S: ObjectStore>(place: Place<S>) {
    let store = &place.store;
    assert!(!store.has_blobs().await.unwrap());
    let digest = put(store, b"weights").await;
    assert_eq!(put(store, b"weights").await, digest);
    assert_eq!(read(store, &digest).await.unwrap(), b"weights");
    assert!(store.has_blobs().await.unwrap());
    assert_eq!(all(store).await, [digest]);
    store.remove(&digest).await.unwrap();
    assert!(!store.has_blobs().await.unwrap());
}

async fn a_blob_of_any_length_reads_back<S: ObjectStore>(place: Place<S>) {
    for len in [0, 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 3] {
        let content = bytes(len, len as u64);
        let digest = put(&place.store, &content).await;
        assert!(read(&place.store, &digest).await.unwrap() == content, "{len} bytes");
    }
    assert!(place.store.staged().await.unwrap().is_empty());
}

async fn blobs_are_listed_by_their_first_byte_with_their_length<S: ObjectStore>(place: Place<S>) {
    if let Some(server) = &place.server {
        server.page_by(2);
    }
    let (mut shards, mut number) = ([0_u8; 256], 0_u32);
    let mut put_in = Vec::new();
    // Until one byte has five, which are three pages of two.
    while *shards.iter().max().unwrap() < 5 {
        number += 1;
        let content = number.to_le_bytes();
        let digest = Digest::of(&content);
        // Few of them go in, so that this is quick.
        if digest.as_bytes()[0] < 8 {
            put(&place.store, &content).await;
            shards[usize::from(digest.as_bytes()[0])] += 1;
            put_in.push(digest);
        }
    }
    for shard in 0..10 {
        let mut found = place.store.list(shard).await.unwrap();
        found.sort_by_key(|blob| blob.digest);
        let mut expected: Vec<_> = put_in.iter().copied().filter(|digest| digest.as_bytes()[0] == shard).collect();
        expected.sort();
        assert_eq!(found.iter().map(|blob| blob.digest).collect::<Vec<_>>(), expected);
        assert!(found.iter().all(|blob| blob.size_bytes == 4 && blob.age.as_secs() < 3600));
    }
}

async fn a_blob_that_is_dropped_leaves_nothing<S: ObjectStore>(place: Place<S>) {
    for len in [4, PART + 1] {
        let mut blob = place.store.stage("upl_1").await.unwrap();
        blob.write(&bytes(len, 1)).await.unwrap();
        drop(blob);
        wait_until("what was staged is gone", async || place.store.staged().await.unwrap().is_empty()).await;
    }
    assert!(!place.store.has_blobs().await.unwrap());
}

async fn what_one_upload_staged_is_discarded_alone<S: ObjectStore>(place: Place<S>) {
    if let Some(server) = &place.server {
        server.page_by(1);
    }
    for upload in ["upl_1", "upl_1", "upl_11", "upl_2"] {
        let mut blob = place.store.stage(upload).await.unwrap();
        blob.write(&bytes(PART + 1, 1)).await.unwrap();
        // As a registry leaves it that is killed.
        std::mem::forget(blob);
    }
    assert_eq!(place.store.staged().await.unwrap(), ["upl_1", "upl_11", "upl_2"]);
    assert_eq!(place.store.discard("upl_1").await.unwrap(), 2);
    assert_eq!(place.store.staged().await.unwrap(), ["upl_11", "upl_2"]);
    assert_eq!(place.store.discard("upl_11").await.unwrap() + place.store.discard("upl_2").await.unwrap(), 2);
    assert!(place.store.staged().await.unwrap().is_empty());
    assert!(!place.store.has_blobs().await.unwrap());
}

async fn what_is_not_there_is_said_to_be_not_there<S: ObjectStore>(place: Place<S>) {
    let absent = Digest::of(b"absent");
    assert_eq!(place.store.open(&absent).await.err().unwrap().kind(), io::ErrorKind::NotFound);
    place.store.remove(&absent).await.unwrap();
    assert!(!place.store.quarantine(&absent).await.unwrap());
    assert_eq!(place.store.discard("upl_none").await.unwrap(), 0);
}

async fn of_many_writers_of_one_content_all_succeed<S: ObjectStore>(place: Place<S>) {
    let (small, large) = (bytes(1000, 1), bytes(PART + 7, 2));
    join_all((0..6).map(|number| put(&place.store, if number % 2 == 0 { &small } else { &large }))).await;
    assert_eq!(all(&place.store).await.len(), 2);
    assert!(read(&place.store, &Digest::of(&large)).await.unwrap() == large);
    assert!(place.store.staged().await.unwrap().is_empty());
}

async fn a_damaged_blob_is_put_right_by_who_writes_it_again<S: ObjectStore>(place: Place<S>) {
    for content in [bytes(1000, 1), bytes(PART + 7, 2)] {
        let digest = put(&place.store, &content).await;
        place.damage(&digest, b"short");
        put(&place.store, &content).await;
        assert!(read(&place.store, &digest).await.unwrap() == content);
    }
}

async fn a_blob_in_quarantine_is_kept_aside_and_can_be_written_again<S: ObjectStore>(place: Place<S>) {
    let digest = put(&place.store, b"weights").await;
    assert!(place.store.quarantine(&digest).await.unwrap());
    assert_eq!(place.store.open(&digest).await.err().unwrap().kind(), io::ErrorKind::NotFound);
    assert_eq!((all(&place.store).await.len(), place.num_quarantined()), (0, 1));
    put(&place.store, b"weights").await;
    assert!(place.store.quarantine(&digest).await.unwrap());
    assert_eq!(place.num_quarantined(), 2);
}

async fn the_id_of_an_installation_is_written_once<S: ObjectStore>(place: Place<S>) {
    let store = &place.store;
    assert_eq!(store.installation().await.unwrap(), None);
    store.set_installation("ins_1").await.unwrap();
    store.set_installation("ins_1").await.unwrap();
    let error = store.set_installation("ins_2").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("ins_1") && error.to_string().contains("ins_2"), "{error}");
    assert_eq!(store.installation().await.unwrap().as_deref(), Some("ins_1"));
}
