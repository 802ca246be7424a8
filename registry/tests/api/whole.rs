//! What holds of a data folder at any time but for what runs: nothing is half there, and database and objects agree.

use std::path::Path;

use reqwest::StatusCode;
use sea_orm::DatabaseConnection;
use souk_registry::{AuditVerifier, CheckOptions, CheckReport, RegistryConfig, check_objects};
use souk_testkit_s3::S3Server;

use crate::support::{User, body, config_in, database_of, number_of, s3_at, until};

/// What a registry leaves that is killed, until the collector has ended it.
const LEFT: [(&str, &str); 7] = [
    ("uploads", "SELECT count(*) AS n FROM uploads"),
    ("uploads that go straight to the store", "SELECT count(*) AS n FROM direct_uploads"),
    ("versions of hooks that are validated", "SELECT count(*) AS n FROM hook_versions WHERE state = 'validating'"),
    ("blobs that uploads count on", "SELECT count(*) AS n FROM upload_blobs"),
    ("claims", "SELECT count(*) AS n FROM idempotent_requests WHERE status IS NULL"),
    ("blobs to be removed", "SELECT count(*) AS n FROM blobs WHERE released_at_ms IS NOT NULL"),
    (
        "blobs with a row to which nothing refers",
        "SELECT count(*) AS n FROM blobs b WHERE NOT EXISTS (SELECT 1 FROM version_files f WHERE f.digest = b.digest)
         AND NOT EXISTS (SELECT 1 FROM hook_versions v WHERE v.size_bytes > 0 AND b.digest IN (v.digest, v.artifact_digest))",
    ),
];

/// What must never be.
const NEVER: [(&str, &str); 8] = [
    (
        "versions that exist without files",
        "SELECT count(*) AS n FROM versions v WHERE v.state IN ('ready', 'yanked')
         AND (SELECT count(*) FROM version_files f WHERE f.version_id = v.id) < 3",
    ),
    (
        "versions that were deleted and have files",
        "SELECT count(*) AS n FROM versions v WHERE v.state = 'deleted'
         AND EXISTS (SELECT 1 FROM version_files f WHERE f.version_id = v.id)",
    ),
    (
        "versions of adapters that were deleted",
        "SELECT count(*) AS n FROM versions v JOIN adapters a ON a.id = v.adapter_id
         WHERE a.deleted_at_ms IS NOT NULL AND v.state IN ('ready', 'yanked')",
    ),
    (
        "versions of hooks that were deleted",
        "SELECT count(*) AS n FROM hook_versions v JOIN hooks h ON h.id = v.hook_id
         WHERE h.deleted_at_ms IS NOT NULL AND v.state IN ('ready', 'yanked', 'validating')",
    ),
    (
        "versions of hooks without anything that they were compiled to",
        "SELECT count(*) AS n FROM hook_versions v WHERE v.state IN ('ready', 'yanked')
         AND (v.artifact_digest IS NULL OR v.report IS NULL OR v.size_bytes = 0)",
    ),
    (
        "tags of versions that do not exist",
        "SELECT count(*) AS n FROM tags t JOIN versions v ON v.id = t.version_id WHERE v.state = 'deleted'",
    ),
    (
        "files whose blob has no row",
        "SELECT count(*) AS n FROM version_files f WHERE NOT EXISTS (SELECT 1 FROM blobs b WHERE b.digest = f.digest)",
    ),
    (
        "tenants with another count of stored bytes than their files have",
        "SELECT count(*) AS n FROM tenants t WHERE t.stored_bytes <> COALESCE((SELECT SUM(f.size_bytes)
         FROM version_files f JOIN versions v ON v.id = f.version_id JOIN adapters a ON a.id = v.adapter_id
         WHERE a.tenant_id = t.id), 0) + COALESCE((SELECT SUM(v.size_bytes) FROM hook_versions v
         JOIN hooks h ON h.id = v.hook_id WHERE h.tenant_id = t.id AND v.state <> 'validating'), 0)",
    ),
];

/// Waits until what was killed has been ended by a registry that runs, which does nothing else meanwhile, and looks at
/// everything.
pub(crate) async fn check_whole(folder: &Path) {
    let num_staged = || std::fs::read_dir(folder.join("objects/staging")).unwrap().count();
    check(folder, &config_in(folder), num_staged).await;
}

/// The same where the objects are in a bucket.
pub(crate) async fn check_whole_on(folder: &Path, server: &S3Server) {
    let config = RegistryConfig { objects: s3_at(server.endpoint()), ..config_in(folder) };
    check(folder, &config, || server.names("of/tests/staging/").len() + server.num_running_uploads()).await;
}

/// Verifies the chains of all tenants and the installation's: no entry is missing, doubled or changed. Answers how many
/// entries there are.
pub(crate) async fn check_chains(operator: &User) -> i64 {
    let mut num_entries = verify_chain(operator, "installation=true").await;
    let mut cursor = String::new();
    loop {
        let page = body(operator.get(&format!("/tenants?limit=100{cursor}")).await, StatusCode::OK).await;
        for tenant in page["data"].as_array().unwrap() {
            let name = tenant["name"].as_str().unwrap();
            let of_tenant = verify_chain(operator, &format!("tenant={name}")).await;
            assert!(of_tenant > 0, "that {name} was made is its first entry");
            num_entries += of_tenant;
        }
        let Some(next) = page["next_cursor"].as_str() else { return num_entries };
        cursor = format!("&cursor={next}");
    }
}

/// Verifies one chain, `tenant=NAME` or `installation=true`.
pub(crate) async fn verify_chain(operator: &User, which: &str) -> i64 {
    let answer = operator.get(&format!("/audit/export?{which}")).await;
    assert_eq!(answer.status(), StatusCode::OK, "{which}");
    let export = answer.text().await.unwrap();
    let mut verifier = AuditVerifier::new(Vec::new());
    for line in export.split_inclusive('\n') {
        verifier.line(line.as_bytes()).unwrap_or_else(|fault| panic!("{which}: {fault}"));
    }
    let verified = verifier.finish().unwrap_or_else(|fault| panic!("{which}: {fault}"));
    // Nothing is removed from these, and the number of the last is how many there are.
    assert_eq!(verified.first, 1, "{which}");
    verified.last
}

async fn check(folder: &Path, config: &RegistryConfig, num_staged: impl Fn() -> usize) {
    let db = database_of(folder).await;
    let mut left = None;
    let ended = until(async || {
        left = what_is_left(&db).await;
        left.is_none() && num_staged() == 0
    });
    assert!(ended.await, "after twenty seconds there are {}", left.unwrap_or("objects in the making"));
    for (what, query) in NEVER {
        assert_eq!(number_of(&db, query).await, 0, "{what}");
    }
    db.close().await.unwrap();
    let deep = CheckOptions { deep: true, repair: false };
    let report = check_objects(config, deep).await.unwrap();
    let clean =
        CheckReport { num_objects: report.num_objects, size_bytes: report.size_bytes, ..CheckReport::default() };
    assert_eq!(report, clean);
}

async fn what_is_left(db: &DatabaseConnection) -> Option<&'static str> {
    for (what, query) in LEFT {
        if number_of(db, query).await > 0 {
            return Some(what);
        }
    }
    None
}
