//! A registry on a folder and on a bucket: publishing, the tie, the collector, the check.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use sea_orm::ConnectionTrait as _;
use souk_protocol::Digest;
use souk_protocol::manifest::blob_path;
use souk_registry::{CheckOptions, CheckReport, Registry, RegistryConfig, check_objects, open_sqlite};
use souk_testkit_s3::S3Server;
use tempfile::TempDir;

use super::stores::{PART, bytes, put, read, settings};
use crate::support::{Stack, User, bases, in_haste, num_objects, wait_until};

macro_rules! for_both {
    ($($name:ident,)*) => {
        mod folder {
            $(#[tokio::test] async fn $name() { super::$name(super::Home::new(None)).await; })*
        }
        mod bucket {
            $(#[tokio::test] async fn $name() {
                super::$name(super::Home::new(Some(souk_testkit_s3::S3Server::start().await))).await;
            })*
        }
    };
}

for_both! {
    what_is_published_can_be_downloaded_and_goes_when_it_is_deleted,
    what_a_killed_registry_had_staged_is_collected_and_what_runs_is_not,
    an_object_without_references_is_kept_for_its_time_and_then_removed,
    a_database_and_objects_that_do_not_belong_together_are_not_used,
    the_check_finds_what_is_wrong_and_its_repair_removes_nothing,
}

/// Where a registry's data is.
struct Home {
    folder: Arc<TempDir>,
    server: Option<S3Server>,
}

impl Home {
    fn new(server: Option<S3Server>) -> Self {
        Self { folder: Arc::new(tempfile::tempdir().unwrap()), server }
    }

    fn config(&self) -> RegistryConfig {
        let mut config = RegistryConfig::new(self.folder.path());
        if let Some(server) = &self.server {
            config.objects = settings(server);
        }
        config
    }

    async fn start(&self, change: impl FnOnce(&mut RegistryConfig)) -> Stack {
        let objects = self.config().objects;
        Stack::start_in(self.folder.clone(), |config| {
            config.objects = objects;
            change(config);
        })
        .await
    }

    fn num_objects(&self) -> usize {
        match &self.server {
            Some(server) => server.names("of/tests/sha256/").len(),
            None => num_objects(self.folder.path()),
        }
    }

    fn remove(&self, digest: &str) {
        let path = blob_path(&digest.parse().unwrap());
        match &self.server {
            Some(server) => server.remove(&format!("of/tests/{path}")),
            None => std::fs::remove_file(self.folder.path().join("objects").join(path)).unwrap(),
        }
    }

    fn damage(&self, digest: &str, content: &[u8]) {
        let path = blob_path(&digest.parse().unwrap());
        match &self.server {
            Some(server) => server.damage(&format!("of/tests/{path}"), content),
            None => std::fs::write(self.folder.path().join("objects").join(path), content).unwrap(),
        }
    }

    async fn check(&self, options: CheckOptions) -> CheckReport {
        check_objects(&self.config(), options).await.unwrap()
    }
}

async fn publisher(stack: &Stack) -> User {
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    acme
}

async fn what_is_published_can_be_downloaded_and_goes_when_it_is_deleted(home: Home) {
    let stack = home.start(|_| {}).await;
    let acme = publisher(&stack).await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    assert_eq!(home.num_objects(), 3);
    let weights = acme.get("/adapters/acme/sst2/versions/1.0.0/files/adapter_model.safetensors").await;
    assert_eq!(weights.status(), StatusCode::OK);
    assert!(weights.bytes().await.unwrap() == crate::support::AdapterFiles::tiny(1).weights_bytes());
    assert_eq!(acme.delete("/adapters/acme/sst2/versions/1.0.0").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(home.num_objects(), 0);
}

async fn what_a_killed_registry_had_staged_is_collected_and_what_runs_is_not(home: Home) {
    let stack = home.start(in_haste).await;
    let objects = stack.registry.objects();
    let mut blob = objects.stage("upl_gone").await.unwrap();
    blob.write(&bytes(PART + 1, 1)).await.unwrap();
    std::mem::forget(blob);
    assert_eq!(objects.staged().await.unwrap(), ["upl_gone"]);
    wait_until("it is discarded", async || objects.staged().await.unwrap().is_empty()).await;
    publisher(&stack).await.publish("acme/sst2", "1.0.0", 1).await;
    assert_eq!(home.num_objects(), 3);
}

async fn an_object_without_references_is_kept_for_its_time_and_then_removed(home: Home) {
    let stack = home.start(in_haste).await;
    publisher(&stack).await.publish("acme/sst2", "1.0.0", 1).await;
    let orphan = put(&*stack.registry.objects(), b"nobody's").await;
    let db = open_sqlite(&home.folder.path().join("registry.sqlite")).await.unwrap();
    let noted = async || {
        let query = "SELECT count(*) AS n FROM blobs WHERE orphaned_at_ms IS NOT NULL";
        let query = sea_orm::Statement::from_string(db.get_database_backend(), query);
        db.query_one_raw(query).await.unwrap().unwrap().try_get::<i64>("", "n").unwrap() == 1
    };
    wait_until("it is noted", noted).await;
    stack.close().await;
    assert_eq!(home.num_objects(), 4, "it is kept for a week");
    let stack = home.start(|config| {
        in_haste(config);
        config.settings.orphans_kept = Duration::from_millis(300);
    });
    let stack = stack.await;
    wait_until("it is removed", async || stack.registry.objects().open(&orphan).await.is_err()).await;
    assert_eq!(home.num_objects(), 3);
}

async fn a_database_and_objects_that_do_not_belong_together_are_not_used(mut home: Home) {
    let stack = home.start(|_| {}).await;
    publisher(&stack).await.publish("acme/sst2", "1.0.0", 1).await;
    stack.close().await;
    let open = async |config: RegistryConfig| match Registry::open_embedded(config, bases()).await {
        Ok(_) => panic!("it opened"),
        Err(error) => error.to_string(),
    };
    // The objects first, since what a refused start has opened of a database stays open in this process.
    let objects = home.folder.path().join("objects");
    let elsewhere = home.folder.path().join("elsewhere");
    let kept = match &mut home.server {
        Some(server) => Some(std::mem::replace(server, S3Server::start().await)),
        None => std::fs::rename(&objects, &elsewhere).map(|()| None).unwrap(),
    };
    let error = open(home.config()).await;
    assert!(error.contains("the object store is new"), "{error}");
    if kept.is_some() {
        home.server = kept;
    } else {
        std::fs::remove_dir_all(&objects).unwrap();
        std::fs::rename(&elsewhere, &objects).unwrap();
    }
    let database = home.folder.path().join("registry.sqlite");
    std::fs::rename(&database, home.folder.path().join("kept.sqlite")).unwrap();
    let error = open(home.config()).await;
    assert!(error.contains("the database is new"), "{error}");
    assert_eq!(home.num_objects(), 3);
}

async fn the_check_finds_what_is_wrong_and_its_repair_removes_nothing(home: Home) {
    let deep = CheckOptions { deep: true, repair: false };
    let stack = home.start(|_| {}).await;
    let acme = publisher(&stack).await;
    let version = acme.publish("acme/sst2", "1.0.0", 1).await;
    let digest_of = |name: &str| {
        let files = version["files"].as_array().unwrap();
        let file = files.iter().find(|file| file["name"] == name).unwrap();
        file["digest"].as_str().unwrap().to_owned()
    };
    let report = home.check(deep).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.num_objects, 3);

    let (config, weights, manifest) =
        (digest_of("adapter_config.json"), digest_of("adapter_model.safetensors"), digest_of("manifest.json"));
    let orphan = put(&*stack.registry.objects(), b"nobody's").await;
    home.remove(&config);
    home.damage(&manifest, b"short");
    let mut flipped = crate::support::AdapterFiles::tiny(1).weights_bytes();
    *flipped.last_mut().unwrap() ^= 1;
    home.damage(&weights, &flipped);

    let report = home.check(CheckOptions::default()).await;
    assert!(report.wrong_digest.is_empty(), "bytes are only read when that is wanted");
    let report = home.check(deep).await;
    let named = |found: &[souk_registry::FoundBlob]| -> Vec<_> {
        found.iter().map(|blob| (blob.digest.clone(), blob.versions.clone())).collect()
    };
    assert_eq!(named(&report.missing), [(config.clone(), vec!["acme/sst2@1.0.0 adapter_config.json".to_owned()])]);
    assert_eq!(named(&report.wrong_size), [(manifest.clone(), vec!["acme/sst2@1.0.0 manifest.json".to_owned()])]);
    let of_weights = vec!["acme/sst2@1.0.0 adapter_model.safetensors".to_owned()];
    assert_eq!(named(&report.wrong_digest), [(weights.clone(), of_weights)]);
    assert_eq!(named(&report.orphans), [(orphan.to_string(), vec![])]);
    assert_eq!((report.num_quarantined, report.num_noted), (0, 0));

    let report = home.check(CheckOptions { deep: true, repair: true }).await;
    assert_eq!((report.num_quarantined, report.num_noted), (2, 1));
    let report = home.check(deep).await;
    assert_eq!((report.missing.len(), report.orphans.len()), (3, 1), "{report:?}");
    assert!(report.wrong_size.is_empty() && report.wrong_digest.is_empty());
    assert_eq!(read(&*stack.registry.objects(), &orphan).await.unwrap(), b"nobody's", "an orphan is only noted");
    // Who publishes the same files again puts them right.
    acme.publish("acme/sst2", "1.0.1", 1).await;
    let report = home.check(deep).await;
    assert!(report.missing.is_empty() && !report.is_clean(), "{report:?}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["orphans"][0]["digest"], Digest::of(b"nobody's").to_string());
}
