//! An empty database of either kind.

use sea_orm_migration::sea_orm::{ConnectOptions, Database, DatabaseConnection};

/// Makes two tests of one, `async fn name(db: &DatabaseConnection)`.
macro_rules! on_both {
    ($name:ident) => {
        mod $name {
            #[tokio::test]
            async fn on_sqlite() {
                super::$name(&crate::support::sqlite().await).await;
            }

            #[tokio::test]
            #[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL: apt-get install postgresql")]
            async fn on_postgresql() {
                let database = souk_testkit::postgres::Postgres::shared().database();
                super::$name(&crate::support::connect(&database.url()).await).await;
            }
        }
    };
}
pub(crate) use on_both;

pub(crate) async fn sqlite() -> DatabaseConnection {
    connect("sqlite::memory:").await
}

/// With one connection, since each would have an in-memory database of its own.
pub(crate) async fn connect(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.unwrap()
}
