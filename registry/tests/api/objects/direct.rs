//! Uploads straight into the bucket.

use std::time::Duration;

use reqwest::StatusCode;
use sha2::{Digest as _, Sha256};
use souk_protocol::Digest;
use souk_registry::{Begun, DirectPart, DirectUploads, ObjectStore, PartAddress};
use tokio::io::AsyncReadExt as _;

use super::stores::{PART, all, bytes, in_bucket, in_folder, read};

/// How long addresses are good.
const HOUR: Duration = Duration::from_secs(3600);

fn part(number: u64, bytes: &[u8]) -> DirectPart {
    DirectPart { number, size_bytes: bytes.len() as u64, sha256: Sha256::digest(bytes).into() }
}

/// The upload of these tests, with what the store calls it or without that.
fn upl_1(store_id: Option<&str>) -> Begun<'_> {
    Begun { upload: "upl_1", store_id }
}

async fn address(direct: &dyn DirectUploads, of: Begun<'_>, part: DirectPart) -> PartAddress {
    direct.addresses(of, &[part], HOUR).await.unwrap().pop().unwrap()
}

async fn send(to: &PartAddress, bytes: &[u8]) -> StatusCode {
    let mut request = reqwest::Client::new().put(&to.url);
    for (name, value) in to.headers.iter().filter(|(name, _)| name != "content-length") {
        request = request.header(name, value);
    }
    request.body(bytes.to_vec()).send().await.unwrap().status()
}

#[tokio::test]
async fn parts_are_sent_looked_at_and_put_in_place_under_their_digest() {
    let place = in_bucket().await;
    let (store, server) = (&place.store, place.server.as_ref().unwrap());
    server.page_by(1);
    let direct = store.direct().unwrap();
    let content = bytes(2 * PART + 5, 1);
    let id = direct.begin("upl_1").await.unwrap();
    let (known, unknown) = (upl_1(Some(&id)), upl_1(None));
    let parts: Vec<_> = content.chunks(PART).collect();
    // The last first, then it is interrupted, and goes on with what is missing.
    let wanted = |number: usize| part(number as u64 + 1, parts[number]);
    assert_eq!(send(&address(direct, unknown, wanted(2)).await, parts[2]).await, StatusCode::OK);
    assert_eq!(direct.parts(unknown).await.unwrap().unwrap(), [wanted(2)]);
    let num_requests = server.num_requests("", "");
    let addresses = direct.addresses(known, &[wanted(0), wanted(1)], HOUR).await.unwrap();
    assert_eq!(server.num_requests("", ""), num_requests, "who knows the store's id needs no request to sign");
    for to in addresses {
        assert_eq!(send(&to, parts[to.number as usize - 1]).await, StatusCode::OK);
    }
    for of in [known, unknown] {
        assert_eq!(direct.parts(of).await.unwrap().unwrap(), [wanted(0), wanted(1), wanted(2)]);
    }
    for of in [known, known, unknown] {
        assert_eq!(direct.complete(of).await.unwrap(), content.len() as u64, "again it answers the same");
        assert_eq!(direct.parts(of).await.unwrap(), None, "it has no parts any more");
    }
    direct.addresses(unknown, &[wanted(0)], HOUR).await.unwrap_err();
    let mut sent = Vec::new();
    direct.open("upl_1").await.unwrap().read_to_end(&mut sent).await.unwrap();
    assert!(sent == content);
    assert!(all(store).await.is_empty(), "nothing is visible before it was looked at");
    let digest = Digest::of(&content);
    direct.completed("upl_1", content.len() as u64).commit(&digest).await.unwrap();
    assert!(read(store, &digest).await.unwrap() == content);
    // Who fails now can do it again.
    direct.completed("upl_1", content.len() as u64).commit(&digest).await.unwrap();
    assert_eq!(store.discard("upl_1").await.unwrap(), 1);
    assert!(store.staged().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_address_takes_the_bytes_that_it_was_signed_for_and_no_others() {
    let place = in_bucket().await;
    let direct = place.store.direct().unwrap();
    let id = direct.begin("upl_1").await.unwrap();
    let content = bytes(1000, 1);
    let to = address(direct, upl_1(Some(&id)), part(1, &content)).await;
    let mut flipped = content.clone();
    flipped[500] ^= 1;
    for other in [&flipped[..], &content[..999], &[&content[..], b"x"].concat()] {
        assert!(send(&to, other).await.is_client_error(), "{} bytes", other.len());
    }
    let mut elsewhere = to.clone();
    elsewhere.url = elsewhere.url.replace("partNumber=1", "partNumber=2");
    assert!(send(&elsewhere, &content).await.is_client_error());
    // Another checksum than that which was signed.
    let mut lying = to.clone();
    let sum = part(1, &flipped).sha256;
    for (_, value) in lying.headers.iter_mut().filter(|(name, _)| name.contains("checksum")) {
        *value = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, sum);
    }
    assert!(send(&lying, &flipped).await.is_client_error());
    assert!(direct.parts(upl_1(Some(&id))).await.unwrap().unwrap().is_empty());
    assert_eq!(send(&to, &content).await, StatusCode::OK);
}

#[tokio::test]
async fn one_that_was_not_completed_is_discarded_with_what_its_upload_staged() {
    let place = in_bucket().await;
    let (store, direct) = (&place.store, place.store.direct().unwrap());
    let id = direct.begin("upl_1").await.unwrap();
    let content = bytes(1000, 1);
    let to = address(direct, upl_1(Some(&id)), part(1, &content)).await;
    assert_eq!(send(&to, &content).await, StatusCode::OK);
    assert_eq!(store.staged().await.unwrap(), ["upl_1"]);
    assert_eq!(store.discard("upl_1").await.unwrap(), 1);
    assert!(store.staged().await.unwrap().is_empty());
    assert!(send(&to, &content).await.is_client_error(), "the address is good for nothing now");
    for of in [upl_1(Some(&id)), upl_1(None)] {
        direct.parts(of).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_folder_has_no_such_uploads() {
    assert!(in_folder().await.store.direct().is_none());
}
