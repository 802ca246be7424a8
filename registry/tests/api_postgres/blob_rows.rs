//! No commit leaves a row of a blob that says nothing: whoever is killed right after it leaves nothing that nobody would
//! remove.

use sea_orm::ConnectionTrait as _;

use crate::support::{Stack, in_haste, number_of, wait_until};

/// Refuses a commit after which a row of `blobs` is there to which nothing refers and that nobody is to remove.
const EVERY_ROW_SAYS_WHY: &str = "
    CREATE FUNCTION says_why() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (
            SELECT 1 FROM blobs b
            WHERE b.digest = NEW.digest AND b.released_at_ms IS NULL AND b.orphaned_at_ms IS NULL
            AND NOT EXISTS (SELECT 1 FROM version_files f WHERE f.digest = b.digest)
            AND NOT EXISTS (SELECT 1 FROM hook_versions v WHERE b.digest IN (v.digest, v.artifact_digest))
            AND NOT EXISTS (SELECT 1 FROM upload_blobs u WHERE u.digest = b.digest)
        ) THEN
            RAISE EXCEPTION 'the row of % says nothing', NEW.digest;
        END IF;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER says_why AFTER INSERT OR UPDATE ON blobs
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION says_why();";

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
    db.close().await.unwrap();
    stack.close().await;
}
