//! A transaction that writes.

use std::ops::Deref;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseBackend, DatabaseTransaction, DbErr, ExecResult, QueryResult, Statement};

use crate::crash_points::{CrashPoint, pass};

/// A transaction that writes: to whoever uses it a transaction like any other, with a crash point on either side of its
/// commit. Dropped without one it writes nothing.
#[derive(Debug)]
pub(crate) struct Write(DatabaseTransaction);

impl Write {
    pub(super) const fn of(transaction: DatabaseTransaction) -> Self {
        Self(transaction)
    }

    /// Makes all of it last.
    pub(crate) async fn commit(self) -> Result<(), DbErr> {
        pass(CrashPoint::BeforeCommit);
        self.0.commit().await?;
        pass(CrashPoint::AfterCommit);
        Ok(())
    }

    /// Takes all of it back.
    pub(crate) async fn rollback(self) -> Result<(), DbErr> {
        self.0.rollback().await
    }
}

impl Deref for Write {
    type Target = DatabaseTransaction;

    fn deref(&self) -> &DatabaseTransaction {
        &self.0
    }
}

#[async_trait]
impl ConnectionTrait for Write {
    fn get_database_backend(&self) -> DatabaseBackend {
        self.0.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.0.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.0.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.0.query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.0.query_all_raw(statement).await
    }
}
