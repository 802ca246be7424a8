//! Uploads that end before they are done, and starts after a kill.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use sea_orm::ConnectionTrait as _;
use serde_json::json;
use souk_protocol::{AdapterRef, Digest, ResolveError};
use souk_registry::{BlobReader, FolderStore, ObjectStore, StagedBlob, StoredBlob};

use crate::faults::num_uploads;
use crate::support::{AdapterFiles, LEASE, Stack, body, halting_form, in_haste, problem, wait_until};

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    let (form, _never) = halting_form("1.0.0", 1);
    let request = acme.request(Method::POST, "/adapters/acme/sst2/versions").multipart(form);
    let upload = tokio::spawn(request.send());
    wait_until("the upload has begun", async || num_uploads(&stack).await == 1 && stack.num_objects() == 1).await;

    // Meanwhile it is not ready, and its number is taken.
    let principal = stack.principal(&acme).await;
    let reference: AdapterRef = "acme/sst2@1.0.0".parse().unwrap();
    let resolved = stack.registry.resolve(&principal, &reference).await;
    assert!(matches!(resolved, Err(ResolveError::NotReady { state, .. }) if state == "uploading"));
    let second = acme.upload("acme/sst2", "1.0.0", &AdapterFiles::tiny(2)).await;
    problem(second, StatusCode::CONFLICT, "upload_in_progress").await;

    upload.abort();
    wait_until("nothing is left", async || num_uploads(&stack).await == 0 && stack.num_objects() == 0).await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
}

#[tokio::test]
async fn a_client_that_sends_nothing_is_given_up() {
    let stack = Stack::start_with(|config| config.settings.upload_idle_timeout = Duration::from_millis(200)).await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    let (form, _never) = halting_form("1.0.0", 1);
    let request = acme.request(Method::POST, "/adapters/acme/sst2/versions").multipart(form);
    let upload = tokio::spawn(request.send());
    wait_until("the upload has begun", async || num_uploads(&stack).await == 1).await;
    wait_until("nothing is left", async || num_uploads(&stack).await == 0 && stack.num_objects() == 0).await;
    upload.abort();
}

#[tokio::test]
async fn as_many_uploads_run_at_once_as_the_operator_allows() {
    let stack = Stack::start_with(|config| config.settings.max_concurrent_uploads = 1).await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    let (form, _never) = halting_form("1.0.0", 1);
    let request = acme.request(Method::POST, "/adapters/acme/sst2/versions").multipart(form);
    let upload = tokio::spawn(request.send());
    wait_until("the upload has begun", async || num_uploads(&stack).await == 1).await;
    let second = acme.upload("acme/sst2", "2.0.0", &AdapterFiles::tiny(2)).await;
    assert!(second.headers().contains_key("retry-after"));
    problem(second, StatusCode::SERVICE_UNAVAILABLE, "overloaded").await;
    upload.abort();
    wait_until("the slot is free", async || {
        acme.upload("acme/sst2", "2.0.0", &AdapterFiles::tiny(2)).await.status() != StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
}

/// What a process leaves that is killed after its blob is in place and before its row is.
async fn leave_behind(stack: &Stack) {
    let db = stack.database().await;
    let blob = Digest::of(b"begun");
    db.execute_unprepared(&format!(
        "INSERT INTO uploads (id, adapter_id, version, state, started_at_ms, owner, lease_expires_at_ms)
         SELECT 'upl_dead', id, '2.0.0', 'validating', 0, 'reg_dead', 1 FROM adapters;
         INSERT INTO blobs (digest) VALUES ('{blob}');
         INSERT INTO upload_blobs (upload_id, digest) VALUES ('upl_dead', '{blob}');
         INSERT INTO idempotent_requests (tenant_id, route, idempotency_key, created_at_ms, claim, lease_expires_at_ms)
         SELECT tenant_id, 'POST /registry/v1/adapters', 'k', 0, 'clm_dead', 1 FROM adapters"
    ))
    .await
    .unwrap();
    let store = FolderStore::open(stack.folder.path().join("objects")).await.unwrap();
    for content in [b"begun".as_slice(), b"orphan"] {
        let mut blob = store.stage("upl_dead").await.unwrap();
        blob.write(content).await.unwrap();
        blob.commit(&Digest::of(content)).await.unwrap();
    }
    for upload in ["upl_dead", "upl_long_dead"] {
        std::fs::write(stack.folder.path().join(format!("objects/staging/{upload}.1")), b"half").unwrap();
    }
}

#[tokio::test]
async fn a_start_removes_nothing_and_the_collector_what_a_killed_registry_had_begun() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    let kept = acme.publish("acme/sst2", "1.0.0", 1).await;
    let num_objects = stack.num_objects();
    leave_behind(&stack).await;
    assert_eq!(stack.num_objects(), num_objects + 4);
    let key = acme.key.clone();
    let folder = stack.close().await;

    let calm = Stack::start_in(folder, |_| {}).await;
    assert_eq!((calm.num_objects(), num_uploads(&calm).await), (num_objects + 4, 1));
    let acme = calm.user(&key);
    let answer = acme.upload("acme/sst2", "2.0.0", &AdapterFiles::tiny(2)).await;
    problem(answer, StatusCode::CONFLICT, "upload_in_progress").await;
    let folder = calm.close().await;

    let stack = Stack::start_in(folder, |config| {
        in_haste(config);
        config.settings.orphans_kept = 2 * LEASE;
    })
    .await;
    let acme = stack.user(&key);
    wait_until("the upload, its blob and what it had staged are gone", async || {
        (stack.num_objects(), num_uploads(&stack).await) == (num_objects + 1, 0)
    })
    .await;
    let request = acme.request(Method::POST, "/adapters").header("idempotency-key", "k").json(&json!({ "name": "x" }));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::CREATED);
    wait_until("the orphan is gone", async || stack.num_objects() == num_objects).await;
    assert_eq!(body(acme.get("/adapters/acme/sst2/versions/1.0.0").await, StatusCode::OK).await, kept);
    let weights = acme.get("/adapters/acme/sst2/versions/1.0.0/files/adapter_model.safetensors").await;
    assert_eq!(weights.bytes().await.unwrap(), AdapterFiles::tiny(1).weights_bytes());
    acme.publish("acme/sst2", "2.0.0", 2).await;
}

#[tokio::test]
async fn of_uploads_of_one_number_exactly_one_wins() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    for round in 0..4 {
        let number = format!("1.{round}.0");
        let uploads = (0..4u8).map(|seed| {
            let (acme, number) = (acme.clone(), number.clone());
            async move { (seed, acme.upload("acme/sst2", &number, &AdapterFiles::tiny(seed)).await) }
        });
        let answers = futures::future::join_all(uploads).await;
        let mut winners = Vec::new();
        for (seed, answer) in answers {
            match answer.status() {
                StatusCode::CREATED => winners.push(seed),
                status => assert_eq!(status, StatusCode::CONFLICT),
            }
        }
        let [winner] = winners[..] else { panic!("winners: {winners:?}") };
        let path = format!("/adapters/acme/sst2/versions/{number}/files/adapter_model.safetensors");
        assert_eq!(acme.get(&path).await.bytes().await.unwrap(), AdapterFiles::tiny(winner).weights_bytes());
    }
    assert_eq!(num_uploads(&stack).await, 0);
}

/// A store whose disk is full after some writes or commits.
struct FillingStore {
    inner: FolderStore,
    operations_left: Arc<AtomicUsize>,
}

struct FillingBlob {
    inner: Box<dyn StagedBlob>,
    operations_left: Arc<AtomicUsize>,
}

fn take_one(operations_left: &AtomicUsize) -> io::Result<()> {
    let taken = operations_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    taken.map(|_| ()).map_err(|_| io::Error::from(io::ErrorKind::StorageFull))
}

#[async_trait::async_trait]
impl ObjectStore for FillingStore {
    async fn stage(&self, upload: &str) -> io::Result<Box<dyn StagedBlob>> {
        let inner = self.inner.stage(upload).await?;
        Ok(Box::new(FillingBlob { inner, operations_left: self.operations_left.clone() }))
    }

    async fn open(&self, digest: &Digest) -> io::Result<BlobReader> {
        self.inner.open(digest).await
    }

    async fn remove(&self, digest: &Digest) -> io::Result<()> {
        self.inner.remove(digest).await
    }

    async fn staged(&self) -> io::Result<Vec<String>> {
        self.inner.staged().await
    }

    async fn discard(&self, upload: &str) -> io::Result<usize> {
        self.inner.discard(upload).await
    }

    async fn quarantine(&self, digest: &Digest) -> io::Result<bool> {
        self.inner.quarantine(digest).await
    }

    async fn list(&self, shard: u8) -> io::Result<Vec<StoredBlob>> {
        self.inner.list(shard).await
    }

    async fn free_bytes(&self) -> io::Result<Option<u64>> {
        self.inner.free_bytes().await
    }

    async fn installation(&self) -> io::Result<Option<String>> {
        self.inner.installation().await
    }

    async fn set_installation(&self, id: &str) -> io::Result<()> {
        self.inner.set_installation(id).await
    }
}

#[async_trait::async_trait]
impl StagedBlob for FillingBlob {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        take_one(&self.operations_left)?;
        self.inner.write(bytes).await
    }

    async fn commit(self: Box<Self>, digest: &Digest) -> io::Result<()> {
        take_one(&self.operations_left)?;
        self.inner.commit(digest).await
    }
}

#[tokio::test]
async fn a_full_disk_is_507_wherever_it_strikes_and_leaves_nothing() {
    let operations_left = Arc::new(AtomicUsize::new(0));
    let left = operations_left.clone();
    let stack = Stack::start_on(|inner| Arc::new(FillingStore { inner, operations_left: left })).await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    let mut num_failures = 0;
    loop {
        operations_left.store(num_failures, Ordering::SeqCst);
        let answer = acme.upload("acme/sst2", "1.0.0", &AdapterFiles::tiny(1)).await;
        if answer.status() == StatusCode::CREATED {
            break;
        }
        problem(answer, StatusCode::INSUFFICIENT_STORAGE, "storage_full").await;
        assert_eq!((stack.num_objects(), num_uploads(&stack).await), (0, 0), "after {num_failures} operations");
        num_failures += 1;
    }
    // At least a write and a commit of each of the three blobs.
    assert!(num_failures >= 6, "{num_failures}");
    assert_eq!(stack.num_objects(), 3);
    let listed = body(acme.get("/adapters/acme/sst2/versions").await, StatusCode::OK).await;
    assert_eq!(listed["data"][0]["version"], json!("1.0.0"));
}
