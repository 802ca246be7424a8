//! When a blob may go: never while a version or an upload refers to it, whichever registry began that.
//!
//! References are rows, of versions (`version_files`, `hook_versions`) and of uploads that have begun to put blobs in place (`upload_blobs`). Whoever begins to refer to a blob, and whoever removes it, first locks the blob's own row, and the
//! object is removed before that lock is given back: an upload that finds a blob there never loses it to a removal that
//! had looked before.

use std::collections::HashSet;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr};
use souk_protocol::Digest;

use crate::crash_points::{CrashPoint, pass};
use crate::db::{
    begin_row_write, begin_write, blobs, direct_uploads, hook_versions, upload_blobs, uploads, version_files,
};
use crate::error::RegistryError;
use crate::objects::ObjectStore;

/// Removes those of `digests` that nothing refers to any more; answers how many. The transaction that ended the
/// references has noted them ([`blobs::release`]), so a failure or a crash leaves them to the collector. That takes none which was
/// noted less than a lease ago, so that two do not set about the same objects in two orders.
pub(crate) async fn remove_released(db: &DatabaseConnection, objects: &dyn ObjectStore, digests: Vec<String>) -> usize {
    let mut num_removed = 0;
    for digest in digests {
        match remove_unless_referred_to(db, objects, &digest).await {
            Ok(is_removed) => num_removed += usize::from(is_removed),
            Err(error) => {
                tracing::warn!(blob = digest, %error, "Blob {digest} stays until the collector tries again");
            }
        }
    }
    num_removed
}

/// Removes a blob that nothing refers to; answers whether it did.
pub(crate) async fn remove_unless_referred_to(
    db: &DatabaseConnection,
    objects: &dyn ObjectStore,
    digest: &str,
) -> Result<bool, RegistryError> {
    let transaction = begin_row_write(db).await?;
    // Gone already: another registry did it, or another file of the same version has the same content.
    if !blobs::lock(&transaction, digest).await? {
        return Ok(false);
    }
    // Looked up after the lock: what is referred to from now on waits for it.
    let one = [digest.to_owned()];
    let is_referred_to = in_use(&transaction, &one).await?.contains(digest);
    if is_referred_to {
        blobs::keep(&transaction, digest).await?;
    } else {
        if let Ok(digest) = digest.parse::<Digest>() {
            objects.remove(&digest).await?;
            pass(CrashPoint::ObjectRemoved);
        }
        blobs::delete(&transaction, digest).await?;
    }
    transaction.commit().await?;
    Ok(!is_referred_to)
}

/// Those of `digests` that a version refers to, of an adapter or of a hook, or that an upload counts on.
pub(crate) async fn in_use(connection: &impl ConnectionTrait, digests: &[String]) -> Result<HashSet<String>, DbErr> {
    let mut in_use = referred_to(connection, digests).await?;
    in_use.extend(upload_blobs::counted_on(connection, digests).await?);
    Ok(in_use)
}

/// Those of `digests` that something refers to which is published or about to be.
pub(crate) async fn referred_to(
    connection: &impl ConnectionTrait,
    digests: &[String],
) -> Result<HashSet<String>, DbErr> {
    let mut referred_to = version_files::referred_to(connection, digests).await?;
    referred_to.extend(hook_versions::referred_to(connection, digests).await?);
    Ok(referred_to)
}

/// Ends an upload that did not succeed and is still `owner`'s: sets its number free and removes what it put in place,
/// unless something else refers to it. `digests` are what its owner knows to have put there, which is more than the rows
/// say when another registry ended it first.
pub(crate) async fn end_upload(
    db: &DatabaseConnection,
    objects: &dyn ObjectStore,
    id: &str,
    owner: &str,
    digests: Vec<String>,
) -> Result<(), DbErr> {
    let transaction = begin_write(db).await?;
    let digests = if uploads::lock(&transaction, id, owner).await? {
        end_upload_in(&transaction, id, digests).await?
    } else {
        blobs::release(&transaction, &digests).await?;
        digests
    };
    transaction.commit().await?;
    remove_released(db, objects, digests).await;
    Ok(())
}

/// Leaves an upload that its client sent to the store, and that is still `owner`'s, to its client again: what was put in
/// place is removed as in [`end_upload`], and what was sent stays. One that has expired ends.
pub(crate) async fn reopen_upload(
    db: &DatabaseConnection,
    objects: &dyn ObjectStore,
    id: &str,
    owner: &str,
    digests: Vec<String>,
) -> Result<(), DbErr> {
    let transaction = begin_write(db).await?;
    let digests = match direct_uploads::unexpired(&transaction, id).await? {
        Some(expires_at_ms) => reopen_upload_in(&transaction, id, owner, expires_at_ms, digests).await?,
        None => {
            transaction.rollback().await?;
            return end_upload(db, objects, id, owner, digests).await;
        }
    };
    transaction.commit().await?;
    remove_released(db, objects, digests).await;
    Ok(())
}

/// The rows of [`reopen_upload`]. Answers the blobs to which a reference ended, for [`remove_released`].
pub(crate) async fn reopen_upload_in(
    transaction: &DatabaseTransaction,
    id: &str,
    owner: &str,
    expires_at_ms: i64,
    mut digests: Vec<String>,
) -> Result<Vec<String>, DbErr> {
    if uploads::reopen(transaction, id, owner, expires_at_ms).await? {
        digests.extend(upload_blobs::delete_of(transaction, id).await?);
    }
    digests.sort_unstable();
    digests.dedup();
    blobs::release(transaction, &digests).await?;
    Ok(digests)
}

/// The rows of [`end_upload`]. Answers the blobs to which a reference ended, for [`remove_released`].
pub(crate) async fn end_upload_in(
    transaction: &DatabaseTransaction,
    id: &str,
    mut digests: Vec<String>,
) -> Result<Vec<String>, DbErr> {
    digests.extend(upload_blobs::delete_of(transaction, id).await?);
    digests.sort_unstable();
    digests.dedup();
    blobs::release(transaction, &digests).await?;
    direct_uploads::delete(transaction, id).await?;
    uploads::delete(transaction, id).await?;
    Ok(digests)
}
