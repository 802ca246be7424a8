//! Two registries on one database and one object store, in one process. Those in processes of their own are in
//! `processes.rs`.

use std::io;
use std::sync::Arc;

use reqwest::{Method, RequestBuilder, StatusCode};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use souk_protocol::Digest;
use souk_registry::{BlobReader, FolderStore, ObjectStore, Registry, StagedBlob, StoredBlob};
use tokio::sync::Semaphore;

use crate::components::component;
use crate::faults::num_uploads;
use crate::support::{
    AdapterFiles, LEASE, Stack, User, bases, body, config_in, halting_form, in_haste, problem, wait_until,
};

/// Two registries in haste, and a tenant with an adapter at both.
async fn two() -> (Stack, Stack, User, User) {
    let first = Stack::start_with(in_haste).await;
    let acme = first.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    let second = Stack::start_in(first.folder.clone(), in_haste).await;
    assert_eq!(second.admin.key, "", "the second start makes no second admin key");
    let at_second = second.user(&acme.key);
    (first, second, acme, at_second)
}

fn upload_request(user: &User) -> RequestBuilder {
    user.request(Method::POST, "/adapters/acme/sst2/versions")
}

const WEIGHTS: &str = "/adapters/acme/sst2/versions/1.0.0/files/adapter_model.safetensors";

#[tokio::test]
async fn one_is_restarted_in_the_middle_of_the_others_upload_and_nothing_is_lost() {
    let (first, second, acme, _) = two().await;
    let (form, go_on) = halting_form("1.0.0", 1);
    let upload = tokio::spawn(upload_request(&acme).multipart(form).send());
    wait_until("the upload has begun", async || num_uploads(&first).await == 1 && first.num_objects() == 1).await;
    drop(second.kill().await);
    let second = Stack::start_in(first.folder.clone(), in_haste).await;
    // Long enough for the lease to lapse and be collected, were it not renewed.
    tokio::time::sleep(3 * LEASE).await;
    assert_eq!((num_uploads(&first).await, first.num_objects()), (1, 1));
    let acme = second.user(&acme.key);
    let again = acme.upload("acme/sst2", "1.0.0", &AdapterFiles::tiny(2)).await;
    problem(again, StatusCode::CONFLICT, "upload_in_progress").await;
    go_on.send(()).unwrap();
    let made = body(upload.await.unwrap().unwrap(), StatusCode::CREATED).await;
    assert_eq!(body(acme.get("/adapters/acme/sst2/versions/1.0.0").await, StatusCode::OK).await, made);
    assert_eq!(acme.get(WEIGHTS).await.bytes().await.unwrap(), AdapterFiles::tiny(1).weights_bytes());
    assert_eq!((num_uploads(&first).await, first.num_objects()), (0, 3));
}

#[tokio::test]
async fn a_call_that_runs_at_one_is_in_flight_at_the_other_and_its_answer_is_kept_for_both() {
    let (first, _second, acme, at_second) = two().await;
    let (form, go_on) = halting_form("1.0.0", 1);
    let call = upload_request(&acme).header("idempotency-key", "k").multipart(form).send();
    let call = tokio::spawn(call);
    wait_until("the upload has begun", async || num_uploads(&first).await == 1).await;
    let repeat = || {
        let form = AdapterFiles::tiny(1).form("1.0.0");
        upload_request(&at_second).header("idempotency-key", "k").multipart(form).send()
    };
    problem(repeat().await.unwrap(), StatusCode::CONFLICT, "idempotency_in_flight").await;
    tokio::time::sleep(2 * LEASE).await;
    problem(repeat().await.unwrap(), StatusCode::CONFLICT, "idempotency_in_flight").await;
    go_on.send(()).unwrap();
    let made = body(call.await.unwrap().unwrap(), StatusCode::CREATED).await;
    let repeated = repeat().await.unwrap();
    assert_eq!(repeated.headers()["idempotency-replayed"], "true");
    assert_eq!(body(repeated, StatusCode::CREATED).await, made);
}

#[tokio::test]
async fn a_key_that_one_revokes_the_other_refuses_from_the_next_request_on() {
    let (first, second, acme, at_second) = two().await;
    assert_eq!(at_second.get("/adapters").await.status(), StatusCode::OK);
    let id = first.principal(&acme).await.key;
    assert_eq!(first.admin.delete(&format!("/keys/{id}")).await.status(), StatusCode::NO_CONTENT);
    problem(at_second.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    assert!(second.registry.authenticate(&acme.key).await.is_err());
}

#[tokio::test]
async fn of_two_that_make_the_same_name_at_once_one_does() {
    let (first, second, acme, at_second) = two().await;
    let second_admin = second.user(&first.admin.key);
    for round in 0..8 {
        let request = json!({ "name": format!("n{round}") });
        for (one, other, path) in [(&acme, &at_second, "/adapters"), (&first.admin, &second_admin, "/tenants")] {
            let (a, b) = tokio::join!(one.post(path, request.clone()), other.post(path, request.clone()));
            let (made, refused) = if a.status() == StatusCode::CREATED { (a, b) } else { (b, a) };
            assert_eq!(made.status(), StatusCode::CREATED);
            problem(refused, StatusCode::CONFLICT, "already_exists").await;
        }
    }
}

#[tokio::test]
async fn of_two_that_make_a_signing_key_at_once_both_do_and_each_verifies_what_the_other_signs() {
    let (first, second, acme, at_second) = two().await;
    let second_admin = second.user(&first.admin.key);
    for _ in 0..4 {
        let rotate = |admin: &User| admin.request(Method::POST, "/auth/signing-keys").send();
        let (a, b) = tokio::join!(rotate(&first.admin), rotate(&second_admin));
        let made = [body(a.unwrap(), StatusCode::CREATED).await, body(b.unwrap(), StatusCode::CREATED).await];
        for user in [&acme, &at_second] {
            let known = body(user.get("/auth/jwks").await, StatusCode::OK).await;
            let knows = |key: &Value| known["keys"].as_array().unwrap().iter().any(|one| one["kid"] == key["kid"]);
            assert!(made.iter().all(knows), "{known}");
        }
        for (signer, verifier) in [(&acme, &second), (&at_second, &first)] {
            let token = body(signer.post("/auth/token", json!({})).await, StatusCode::OK).await;
            let token = token["access_token"].as_str().unwrap().to_owned();
            assert_eq!(verifier.user(&token).get("/adapters").await.status(), StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn bytes_that_one_uploads_stay_when_the_other_deletes_a_version_with_the_same() {
    let (first, _second, acme, at_second) = two().await;
    for round in 0..8 {
        let (old, new) = (format!("1.{round}.0"), format!("2.{round}.0"));
        acme.publish("acme/sst2", &old, 1).await;
        // Both at once, each time in another order.
        let files = AdapterFiles::tiny(1);
        let path = format!("/adapters/acme/sst2/versions/{old}");
        let (made, deleted) = tokio::join!(acme.upload("acme/sst2", &new, &files), at_second.delete(&path));
        assert_eq!((made.status(), deleted.status()), (StatusCode::CREATED, StatusCode::NO_CONTENT));
        let file = format!("/adapters/acme/sst2/versions/{new}/files/adapter_model.safetensors");
        assert_eq!(at_second.get(&file).await.bytes().await.unwrap(), AdapterFiles::tiny(1).weights_bytes());
        assert_eq!(
            at_second.delete(&format!("/adapters/acme/sst2/versions/{new}")).await.status(),
            StatusCode::NO_CONTENT
        );
        assert_eq!(first.num_objects(), 0);
    }
}

#[tokio::test]
async fn of_many_that_start_at_once_one_makes_the_schema_the_pepper_and_the_admin_key() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let starts = (0..6).map(|_| {
        let config = config_in(folder.path());
        tokio::spawn(async move {
            let registry = Registry::open_embedded(config, bases()).await.unwrap();
            let key = registry.bootstrap().await.unwrap();
            (registry, key)
        })
    });
    let started: Vec<_> = futures::future::join_all(starts).await.into_iter().map(Result::unwrap).collect();
    let keys: Vec<_> = started.iter().filter_map(|(_, key)| key.as_ref()).collect();
    let [key] = keys[..] else { panic!("{} admin keys", keys.len()) };
    for (registry, _) in &started {
        assert!(registry.authenticate(key.expose()).await.is_ok());
    }
}

/// A store whose commits wait until they are let through.
struct SlowStore {
    inner: FolderStore,
    commits: Arc<Semaphore>,
}

struct SlowBlob {
    inner: Box<dyn StagedBlob>,
    commits: Arc<Semaphore>,
}

#[async_trait::async_trait]
impl ObjectStore for SlowStore {
    async fn stage(&self, upload: &str) -> io::Result<Box<dyn StagedBlob>> {
        let inner = self.inner.stage(upload).await?;
        Ok(Box::new(SlowBlob { inner, commits: self.commits.clone() }))
    }

    async fn staged(&self) -> io::Result<Vec<String>> {
        self.inner.staged().await
    }

    async fn discard(&self, upload: &str) -> io::Result<usize> {
        self.inner.discard(upload).await
    }

    async fn open(&self, digest: &Digest) -> io::Result<BlobReader> {
        self.inner.open(digest).await
    }

    async fn remove(&self, digest: &Digest) -> io::Result<()> {
        self.inner.remove(digest).await
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
impl StagedBlob for SlowBlob {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.write(bytes).await
    }

    async fn commit(self: Box<Self>, digest: &Digest) -> io::Result<()> {
        self.commits.acquire().await.unwrap().forget();
        self.inner.commit(digest).await
    }
}

#[tokio::test]
async fn an_upload_that_was_ended_while_its_blobs_went_in_place_publishes_nothing_and_leaves_nothing() {
    let commits = Arc::new(Semaphore::new(0));
    let stack = Stack::start_on(|inner| Arc::new(SlowStore { inner, commits: commits.clone() })).await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    let sender = acme.clone();
    let form = AdapterFiles::tiny(1).form("1.0.0");
    let upload = tokio::spawn(upload_request(&sender).header("idempotency-key", "k").multipart(form).send());
    let db = stack.database().await;
    let count = async |table: &str| stack.number(&format!("SELECT count(*) AS n FROM {table}")).await;
    wait_until("the upload counts on its blobs", async || count("upload_blobs").await == 3).await;
    // What the collector of another registry does with an upload whose lease has lapsed.
    db.execute_unprepared("DELETE FROM upload_blobs; DELETE FROM uploads").await.unwrap();
    commits.add_permits(100);
    let answer = upload.await.unwrap().unwrap();
    assert!(answer.headers().contains_key("retry-after"));
    problem(answer, StatusCode::SERVICE_UNAVAILABLE, "lease_lost").await;
    assert_eq!(body(acme.get("/adapters/acme/sst2/versions").await, StatusCode::OK).await["data"], json!([]));
    assert_eq!((stack.num_objects(), count("blobs").await, count("idempotent_requests").await), (0, 0, 0));
    acme.publish("acme/sst2", "1.0.0", 1).await;
}

#[tokio::test]
async fn a_hook_that_was_deleted_while_a_version_of_it_went_in_place_leaves_nothing() {
    let commits = Arc::new(Semaphore::new(0));
    let stack = Stack::start_on(|inner| Arc::new(SlowStore { inner, commits: commits.clone() })).await;
    let acme = stack.tenant("acme").await;
    acme.make_hook("mask", "private").await;
    let sender = acme.clone();
    let upload = tokio::spawn(async move { sender.upload_hook("acme/mask", "1.0.0", component(1)).await });
    let compiled = "SELECT count(*) AS n FROM hook_versions WHERE artifact_digest IS NOT NULL";
    wait_until("what it was compiled to is counted on", async || stack.number(compiled).await == 1).await;
    assert_eq!(acme.delete("/hooks/acme/mask").await.status(), StatusCode::NO_CONTENT);
    commits.add_permits(100);
    problem(upload.await.unwrap(), StatusCode::NOT_FOUND, "not_found").await;
    assert_eq!((stack.num_objects(), stack.number("SELECT count(*) AS n FROM blobs").await), (0, 0));
}
