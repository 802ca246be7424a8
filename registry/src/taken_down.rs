//! What was taken down at some time, for those who start: queues and nodes that have forgotten it, or were away.

use sea_orm::DbErr;
use souk_protocol::Digest;

use crate::Registry;
use crate::db::versions;

impl Registry {
    /// The versions that were taken down last, at most `most` of them, the oldest first.
    ///
    /// # Errors
    /// What the database says.
    pub async fn last_taken_down(&self, most: u64) -> Result<Vec<Digest>, DbErr> {
        let rows = versions::last_taken_down(&self.db, most).await?;
        let digest = |row: &versions::Model| row.digest.parse().expect("only checked digests are stored");
        Ok(rows.iter().rev().map(digest).collect())
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::ConnectionTrait as _;
    use souk_protocol::{KeyId, Principal, Scope, TenantId};

    use super::*;
    use crate::RegistryConfig;
    use crate::adapters::NewAdapter;
    use crate::db::tenants;
    use crate::idempotency::Once;
    use crate::words::Visibility;

    #[tokio::test]
    async fn the_newest_are_answered_and_the_oldest_of_them_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open_embedded(RegistryConfig::new(folder.path()), Vec::new()).await.unwrap();
        assert_eq!(registry.last_taken_down(2).await.unwrap(), []);
        let tenant = tenants::insert(&registry.db, "acme").await.unwrap();
        let principal = Principal {
            tenant: TenantId::from_stored(tenant.id),
            tenant_name: tenant.name,
            key: KeyId::from_stored("key"),
            person: None,
            models: None,
            scopes: Scope::ALL.into_iter().collect(),
        };
        let (name, visibility) = ("sst2".to_owned(), Visibility::Private);
        let new = NewAdapter { name, owner: None, visibility, description: String::new() };
        registry.create_adapter(&principal, new, &Once::default(), |_| "made").await.unwrap();
        let digest = |number: u8| Digest::of(&[number]);
        let states = ["taken_down", "ready", "taken_down", "taken_down", "yanked", "deleted"];
        // In an order of their own: by when they were taken down, not by when they were made.
        for (number, (state, at_ms)) in (0_u8..).zip(states.into_iter().zip([30, 60, 10, 20, 50, 40])) {
            let insert = format!(
                "INSERT INTO versions (id, adapter_id, version, state, digest, base_digest, rank, created_at_ms, \
                 state_changed_at_ms) VALUES ('{number}', (SELECT id FROM adapters), '{number}.0.0', '{state}', '{}', 'b', 8, {number}, {at_ms})",
                digest(number),
            );
            registry.db.execute_unprepared(&insert).await.unwrap();
        }
        assert_eq!(registry.last_taken_down(10).await.unwrap(), [digest(2), digest(3), digest(0)]);
        assert_eq!(registry.last_taken_down(2).await.unwrap(), [digest(3), digest(0)]);
    }
}
