//! No commit leaves a row of a blob that says nothing: whoever is killed right after it leaves nothing that nobody would
//! remove.

use sea_orm::ConnectionTrait as _;
use serde_json::json;

use crate::support::{Stack, in_haste, number_of, wait_until};

/// Refuses a commit after which a row of `blobs` is there to which nothing refers and that nobody is to remove.
const EVERY_ROW_SAYS_WHY: &str = "
    CREATE FUNCTION says_why() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (
            SELECT 1 FROM blobs b WHERE b.released_at_ms IS NULL AND b.orphaned_at_ms IS NULL
            AND NOT EXISTS (SELECT 1 FROM version_files f WHERE f.digest = b.digest)
            AND NOT EXISTS (SELECT 1 FROM hook_versions v WHERE b.digest IN (v.digest, v.artifact_digest))
            AND NOT EXISTS (SELECT 1 FROM upload_blobs u WHERE u.digest = b.digest)
        ) THEN
            RAISE EXCEPTION 'a row says nothing, after a change of %', TG_TABLE_NAME;
        END IF;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER says_why AFTER INSERT OR UPDATE ON blobs
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION says_why();
    CREATE CONSTRAINT TRIGGER says_why AFTER DELETE OR UPDATE ON version_files
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION says_why();
    CREATE CONSTRAINT TRIGGER says_why AFTER DELETE OR UPDATE ON hook_versions
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION says_why();
    CREATE CONSTRAINT TRIGGER says_why AFTER DELETE OR UPDATE ON upload_blobs
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION says_why();";

/// What a registry leaves that is killed while it validates a hook, and while it puts an adapter in place: the leases are
/// seen as they are for longer than the test takes.
const IN_THE_MAKING: &str = "
    INSERT INTO hook_versions (id, hook_id, version, state, digest, size_bytes, artifact_digest, artifact_bytes, created_at_ms,
        state_changed_at_ms, worked_on_by, lease_expires_at_ms)
    SELECT 'hkv_dead', id, '1.0.0', 'validating', 'sha256:01', 1, 'sha256:02', 1, 0, 0, 'reg_dead', 9000000000000000 FROM hooks;
    INSERT INTO uploads (id, adapter_id, version, state, owner, lease_expires_at_ms, started_at_ms)
    SELECT 'upl_dead', id, '9.0.0', 'validating', 'reg_dead', 9000000000000000, 0 FROM adapters;
    INSERT INTO upload_blobs (upload_id, digest) VALUES ('upl_dead', 'sha256:03');
    INSERT INTO blobs (digest) VALUES ('sha256:01'), ('sha256:02'), ('sha256:03')";

#[tokio::test]
async fn no_commit_leaves_a_row_of_a_blob_that_says_nothing() {
    let stack = Stack::start_with(in_haste).await;
    let db = stack.database().await;
    db.execute_unprepared(EVERY_ROW_SAYS_WHY).await.unwrap();
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    for (number, seed) in [("1.0.0", 1), ("2.0.0", 2)] {
        acme.publish("acme/sst2", number, seed).await;
    }
    assert!(acme.delete("/adapters/acme/sst2/versions/1.0.0").await.status().is_success());
    // A sweep that had listed one that was removed meanwhile notes it, and forgets it at its next look.
    let only_used = async || number_of(&db, "SELECT count(*) AS n FROM blobs").await == 3;
    wait_until("there are the rows of the version that is left", only_used).await;

    let orphan = "0".repeat(64);
    std::fs::create_dir_all(stack.folder.path().join("objects/sha256/00")).unwrap();
    std::fs::write(stack.folder.path().join("objects/sha256/00").join(&orphan), "nobody's").unwrap();
    let noted = "SELECT count(*) AS n FROM blobs WHERE orphaned_at_ms IS NOT NULL";
    wait_until("the orphan is noted", async || number_of(&db, noted).await == 1).await;
    // Gone by somebody else's hand, and so is its row.
    std::fs::remove_file(stack.folder.path().join("objects/sha256/00").join(&orphan)).unwrap();
    wait_until("its row is gone", only_used).await;

    acme.make_hook("mask", "private").await;
    db.execute_unprepared(&format!("BEGIN; {IN_THE_MAKING}; COMMIT")).await.unwrap();
    assert!(acme.delete("/hooks/acme/mask").await.status().is_success());
    let of_hook = "SELECT count(*) AS n FROM blobs WHERE digest IN ('sha256:01', 'sha256:02')";
    wait_until("what the hook had begun is gone", async || number_of(&db, of_hook).await == 0).await;
    assert!(acme.delete("/adapters/acme/sst2").await.status().is_success());
    assert!(stack.admin.post("/tenants/acme/erasure", json!({})).await.status().is_success());
    db.execute_unprepared("UPDATE tenant_erasures SET due_at_ms = 1").await.unwrap();
    wait_until("nothing is left", async || number_of(&db, "SELECT count(*) AS n FROM blobs").await == 0).await;
    db.close().await.unwrap();
    stack.close().await;
}
