//! What only a folder can meet with: its disk goes away while it is used.

use std::io;
use std::path::Path;

use souk_protocol::Digest;
use souk_registry::{FolderStore, ObjectStore};

use super::stores::{put, read};

/// Every call says that the store is away; none that what it looked for is not there.
async fn check_it_is_away(store: &FolderStore, digest: &Digest) {
    let said = [
        ("stage", store.stage("upl_2").await.map(|_| ())),
        ("staged", store.staged().await.map(|_| ())),
        ("discard", store.discard("upl_1").await.map(|_| ())),
        ("open", store.open(digest).await.map(|_| ())),
        ("remove", store.remove(digest).await),
        ("quarantine", store.quarantine(digest).await.map(|_| ())),
        ("list", store.list(digest.as_bytes()[0]).await.map(|_| ())),
        ("installation", store.installation().await.map(|_| ())),
        ("set_installation", store.set_installation("ins_2").await),
    ];
    for (name, answer) in said {
        assert_eq!(answer.map_err(|error| error.kind()), Err(io::ErrorKind::NotConnected), "{name}");
    }
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

#[tokio::test]
async fn while_the_disk_is_away_nothing_is_made_in_its_place_and_every_call_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (root, elsewhere) = (folder.path().join("objects"), folder.path().join("elsewhere"));
    let store = FolderStore::open(&root).await.unwrap();
    store.set_installation("ins_1").await.unwrap();
    let kept = put(&store, b"kept").await;
    for has_mount_point in [true, false] {
        let late = Digest::of(b"late");
        let mut blobs = Vec::new();
        for upload in ["upl_1", "upl_3"] {
            let mut blob = store.stage(upload).await.unwrap();
            blob.write(b"late").await.unwrap();
            blobs.push(blob);
        }
        std::fs::rename(&root, &elsewhere).unwrap();
        if has_mount_point {
            std::fs::create_dir(&root).unwrap();
        }
        // Before the other calls and among them: neither switches the look at the disk off.
        for blob in blobs {
            let error = blob.commit(&late).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotConnected, "{error}");
            check_it_is_away(&store, &kept).await;
        }
        if has_mount_point {
            assert!(is_empty(&root));
            std::fs::remove_dir(&root).unwrap();
        }
        assert!(!root.exists());
        std::fs::rename(&elsewhere, &root).unwrap();
        assert_eq!(read(&store, &kept).await.unwrap(), b"kept");
        assert_eq!(store.open(&late).await.err().unwrap().kind(), io::ErrorKind::NotFound);
        // What could not be removed when its writer failed is still among what is staged.
        assert_eq!(store.staged().await.unwrap(), ["upl_1", "upl_3"]);
        assert_eq!(store.discard("upl_1").await.unwrap() + store.discard("upl_3").await.unwrap(), 2);
    }
    assert!(store.quarantine(&kept).await.unwrap());
}
