//! One module per table, as sea-orm wants it. What the tables mean is written in `migrations/`.
#![expect(unreachable_pub, reason = "sea-orm's derives need `pub` models, and this module is private to the crate")]

/// Writes the two items that every entity needs and that are empty for all of ours: rows are joined by hand.
macro_rules! no_relations {
    () => {
        #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
        pub enum Relation {}

        impl ActiveModelBehavior for ActiveModel {}
    };
}

pub mod tenant {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "tenants")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub name: String,
        pub created_at_ms: i64,
    }
    no_relations!();
}

pub mod api_key {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "api_keys")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub tenant_id: String,
        pub name: String,
        pub scopes: String,
        pub secret_hash: Vec<u8>,
        pub pepper_version: i32,
        pub last_four: String,
        pub created_at_ms: i64,
        pub expires_at_ms: Option<i64>,
        pub revoked_at_ms: Option<i64>,
        pub last_used_at_ms: Option<i64>,
    }
    no_relations!();
}

pub mod adapter {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "adapters")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub tenant_id: String,
        pub owner: String,
        pub name: String,
        pub visibility: String,
        pub description: String,
        pub created_at_ms: i64,
        pub updated_at_ms: i64,
        pub deleted_at_ms: Option<i64>,
    }
    no_relations!();
}

pub mod version {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "versions")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub adapter_id: String,
        pub version: String,
        pub state: String,
        pub digest: String,
        pub base_digest: String,
        pub rank: i32,
        pub state_reason: Option<String>,
        pub created_at_ms: i64,
        pub state_changed_at_ms: i64,
    }
    no_relations!();
}

pub mod version_file {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "version_files")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub version_id: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub name: String,
        pub digest: String,
        pub size_bytes: i64,
    }
    no_relations!();
}

pub mod tag {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "tags")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub adapter_id: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub tag: String,
        pub version_id: String,
        pub updated_at_ms: i64,
    }
    no_relations!();
}

pub mod upload {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "uploads")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub adapter_id: String,
        pub version: String,
        pub state: String,
        pub started_at_ms: i64,
    }
    no_relations!();
}

pub mod idempotent_request {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "idempotent_requests")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub tenant_id: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub route: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub idempotency_key: String,
        pub body_digest: Option<String>,
        pub status: Option<i32>,
        pub response: Option<String>,
        pub created_at_ms: i64,
    }
    no_relations!();
}
