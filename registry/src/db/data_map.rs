//! Whose every table is: what an export of a tenant has of it, and what an erasure does with it. One table of tables; a test
//! compares it with the schema, so that a table that is added says so here.

use sea_orm::entity::prelude::*;
use sea_orm::{FromQueryResult as _, JsonValue, Statement, Value};
use souk_protocol::TenantId;

/// What is known of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// Its primary key.
    key: &'static [&'static str],
    /// The condition, in SQL, under which a row is of the tenant with the id `$1`; none where rows belong to no tenant.
    of_tenant: Option<&'static str>,
    /// Columns that no export has: secrets, and what only the registry has a use for.
    hidden: &'static [&'static str],
    /// A column beside the table's own, in SQL.
    more: Option<&'static str>,
    /// What an erasure does.
    fate: Fate,
}

/// What an erasure does with a tenant's rows.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// They are removed.
    Goes,
    /// They stay, for this reason; these columns become what stands beside them, in SQL.
    Stays(&'static str, &'static [(&'static str, &'static str)]),
}

const OF_ADAPTER: &str = "adapter_id IN (SELECT a.id FROM adapters a WHERE a.tenant_id = $1)";
const OF_VERSION: &str = "version_id IN (SELECT v.id FROM versions v JOIN adapters a ON a.id = v.adapter_id \
                          WHERE a.tenant_id = $1)";
const OF_UPLOAD: &str = "upload_id IN (SELECT u.id FROM uploads u JOIN adapters a ON a.id = u.adapter_id \
                         WHERE a.tenant_id = $1)";
const OF_HOOK: &str = "hook_id IN (SELECT h.id FROM hooks h WHERE h.tenant_id = $1)";
const OWN_OR_OF_HOOK: &str = "(tenant_id = $1 OR hook_id IN (SELECT h.id FROM hooks h WHERE h.tenant_id = $1))";
const OF_HOOK_VERSION: &str = "version_id IN (SELECT v.id FROM hook_versions v JOIN hooks h ON h.id = v.hook_id \
                               WHERE h.tenant_id = $1)";
/// Not by `IN`, which would look up all requests of a tenant for each page of jobs.
const OF_REQUEST: &str =
    "EXISTS (SELECT 1 FROM usage_requests r WHERE r.id = usage_jobs.request_id AND r.tenant_id = $1)";
const OWN: &str = "tenant_id = $1";
const OWN_OR_OF_ADAPTER: &str =
    "(tenant_id = $1 OR adapter_id IN (SELECT a.id FROM adapters a WHERE a.tenant_id = $1))";
/// A member's name and address, which the tenant's owners see.
const MEMBER: &str = "(SELECT p.name FROM persons p WHERE p.id = members.person_id) AS name, \
                      (SELECT p.email FROM persons p WHERE p.id = members.person_id) AS email";
/// Persons are nobody's: one may be a member of many tenants, and is erased as a person.
const NOBODYS: Fate = Fate::Stays("it belongs to no tenant", &[]);

/// All tables of the schema; rows that refer to others come before them.
pub(crate) const TABLES: [Table; 54] = [
    table("webhook_deliveries", &["id"], OWN, Fate::Goes).hiding(&["claim"]),
    table("webhook_endpoints", &["id"], OWN, Fate::Goes).hiding(&["sealed_secret", "sealed_secret_before"]),
    table("outbox", &["id"], OWN, Fate::Goes),
    table("tags", &["adapter_id", "tag"], OF_ADAPTER, Fate::Goes),
    table("adapter_grants", &["adapter_id", "tenant_id"], OWN_OR_OF_ADAPTER, Fate::Goes),
    table("adapter_gates", &["adapter_id"], OF_ADAPTER, Fate::Goes),
    table("access_requests", &["id"], "(tenant_id = $1 OR owner_id = $1)", Fate::Goes),
    table("hook_lines", &["id"], OWN_OR_OF_HOOK, Fate::Goes),
    table("hook_days", &["version_id", "day"], OF_HOOK_VERSION, Fate::Goes),
    table("hook_grants", &["hook_id", "tenant_id"], OWN_OR_OF_HOOK, Fate::Goes),
    table("hook_settings", &["tenant_id"], OWN, Fate::Goes),
    table("hook_limits", &["tenant_id"], OWN, Fate::Goes),
    table("pipelines", &["tenant_id", "target", "number"], OWN, Fate::Goes),
    table("tenant_policies", &["tenant_id"], OWN, Fate::Goes),
    table("limits", &["tenant_id", "level", "subject_id", "policy"], OWN, Fate::Goes),
    table("tenant_limits", &["tenant_id"], OWN, Fate::Goes),
    table("teams", &["id"], OWN, Fate::Goes),
    table("sign_in_links", &["id"], OWN, Fate::Goes).hiding(&["secret_hash"]),
    table("login_codes", &["id"], OWN, Fate::Goes).hiding(&["secret_hash", "challenge"]),
    table("invitations", &["id"], OWN, Fate::Goes).hiding(&["secret_hash"]),
    table("members", &["tenant_id", "person_id"], OWN, Fate::Goes).with(MEMBER),
    table("version_files", &["version_id", "name"], OF_VERSION, Fate::Goes).with(
        "(SELECT '/registry/v1/adapters/' || a.owner || '/' || a.name || '/versions/' || v.version || '/files/' || \
         version_files.name FROM versions v JOIN adapters a ON a.id = v.adapter_id \
         WHERE v.id = version_files.version_id) AS download",
    ),
    table("upload_blobs", &["upload_id", "digest"], OF_UPLOAD, Fate::Goes),
    table("direct_uploads", &["upload_id"], OWN, Fate::Goes).hiding(&["store_id"]),
    table("uploads", &["id"], OF_ADAPTER, Fate::Goes),
    table("idempotent_requests", &["tenant_id", "route", "idempotency_key"], OWN, Fate::Goes).hiding(&["claim"]),
    table(
        "versions",
        &["id"],
        OF_ADAPTER,
        Fate::Stays("a number is never given again, and what was taken down stays so", &[("report", "NULL")]),
    ),
    table("adapters", &["id"], OWN, Fate::Stays("a name is never given again", &[("description", "''")])),
    table(
        "hook_versions",
        &["id"],
        OF_HOOK,
        Fate::Stays("a number is never given again, and what was taken down stays so", &[("report", "NULL")]),
    )
    .hiding(&["worked_on_by", "lease_expires_at_ms"]),
    table("hooks", &["id"], OWN, Fate::Stays("a name is never given again", &[("description", "''")])),
    table(
        "api_keys",
        &["id"],
        OWN,
        Fate::Stays("entries say by their ids who acted", &[("name", "''"), ("last_four", "''")]),
    )
    .hiding(&["secret_hash", "pepper_version"]),
    table(
        "audit_entries",
        &["tenant_id", "number"],
        OWN,
        Fate::Stays("they have ids alone, and a chain is whole", &[]),
    ),
    table("audit_heads", &["tenant_id"], OWN, Fate::Stays("it is the end of a chain", &[])),
    table("published_heads", &["tenant_id", "number"], OWN, Fate::Stays("what was published stays so", &[])),
    table("tenant_erasures", &["tenant_id"], OWN, Fate::Stays("it says that the tenant was erased", &[])),
    table("tenants", &["id"], "id = $1", Fate::Stays("a name is never given again", &[])),
    // The days first: they are closed before rows go.
    table(
        "usage_days",
        &["tenant_id", "day", "key_id", "person_id", "team_id", "base", "adapters", "outcome"],
        OWN,
        Fate::Stays("they have ids and counts alone, and what was used is billed", &[("closed", "1")]),
    ),
    table("usage_totals", &["level", "subject_id", "period", "unit"], OWN, Fate::Stays("the same, summed up", &[])),
    // Takes its jobs along.
    table("usage_requests", &["id"], OWN, Fate::Goes),
    table("usage_jobs", &["request_id", "job_index"], OF_REQUEST, Fate::Goes),
    nobodys("persons"),
    nobodys("identities"),
    nobodys("sessions"),
    nobodys("logins"),
    nobodys("taken_down_content"),
    nobodys("blobs"),
    nobodys("withdrawals"),
    nobodys("services"),
    nobodys("signing_keys"),
    nobodys("leases"),
    nobodys("installation"),
    nobodys("seaql_migrations"),
    // What SQLite keeps for itself, where it is there.
    nobodys("sqlite_sequence"),
    nobodys("sqlite_stat1"),
];

const fn table(name: &'static str, key: &'static [&'static str], of_tenant: &'static str, fate: Fate) -> Table {
    Table { name, key, of_tenant: Some(of_tenant), hidden: &[], more: None, fate }
}

const fn nobodys(name: &'static str) -> Table {
    Table { name, key: &[], of_tenant: None, hidden: &[], more: None, fate: NOBODYS }
}

/// What an erasure leaves of a tenant, as tables, each with the reason.
pub(crate) fn what_stays() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLES.into_iter().filter(|table| table.of_tenant.is_some()).filter_map(|table| match table.fate {
        Fate::Stays(why, _) => Some((table.name, why)),
        Fate::Goes => None,
    })
}

impl Table {
    const fn hiding(self, hidden: &'static [&'static str]) -> Self {
        Self { hidden, ..self }
    }

    const fn with(self, more: &'static str) -> Self {
        Self { more: Some(more), ..self }
    }

    /// The next `limit` rows of a tenant after the one with the key `after`, by key, each with its own key.
    pub(crate) async fn rows(
        &self,
        connection: &impl ConnectionTrait,
        tenant: &TenantId,
        after: Option<Vec<Value>>,
        limit: u64,
    ) -> Result<Vec<(Vec<Value>, JsonValue)>, DbErr> {
        let Some(of_tenant) = self.of_tenant else { return Ok(Vec::new()) };
        let (name, key) = (self.name, self.key.join(", "));
        let more = self.more.map(|more| format!(", {more}")).unwrap_or_default();
        let mut query = format!("SELECT {name}.*{more} FROM {name} WHERE {of_tenant}");
        let mut values = vec![Value::from(tenant.as_str())];
        if let Some(after) = after {
            let places: Vec<_> = (2..).take(after.len()).map(|place| format!("${place}")).collect();
            query.push_str(&format!(" AND ({key}) > ({})", places.join(", ")));
            values.extend(after);
        }
        query.push_str(&format!(" ORDER BY {key} LIMIT {limit}"));
        let statement = Statement::from_sql_and_values(connection.get_database_backend(), query, values);
        let rows = JsonValue::find_by_statement(statement).all(connection).await?;
        Ok(rows.into_iter().map(|row| self.shown(row)).collect())
    }

    fn shown(&self, mut row: JsonValue) -> (Vec<Value>, JsonValue) {
        let of_key = |column: &&str| match &row[*column] {
            JsonValue::Number(number) => Value::from(number.as_i64().unwrap_or_default()),
            other => Value::from(other.as_str().unwrap_or_default()),
        };
        let key = self.key.iter().map(of_key).collect();
        if let Some(columns) = row.as_object_mut() {
            for hidden in self.hidden {
                columns.remove(*hidden);
            }
        }
        (key, row)
    }

    /// Does with at most `limit` rows of a tenant what an erasure does; answers whether some are left.
    pub(crate) async fn erase(
        &self,
        connection: &impl ConnectionTrait,
        tenant: &TenantId,
        limit: u64,
    ) -> Result<bool, DbErr> {
        let Some(of_tenant) = self.of_tenant else { return Ok(false) };
        let (name, key) = (self.name, self.key.join(", "));
        let some = |condition: &str| format!("({key}) IN (SELECT {key} FROM {name} WHERE {condition} LIMIT {limit})");
        let statement = match self.fate {
            Fate::Goes => format!("DELETE FROM {name} WHERE {}", some(of_tenant)),
            Fate::Stays(_, []) => return Ok(false),
            Fate::Stays(_, cleared) => {
                let to: Vec<_> = cleared.iter().map(|(column, value)| format!("{column} = {value}")).collect();
                let is_other = |(column, value): &(&str, &str)| match *value {
                    "NULL" => format!("{column} IS NOT NULL"),
                    value => format!("{column} <> {value}"),
                };
                let others: Vec<_> = cleared.iter().map(is_other).collect();
                let left = format!("{of_tenant} AND ({})", others.join(" OR "));
                format!("UPDATE {name} SET {} WHERE {}", to.join(", "), some(&left))
            }
        };
        let backend = connection.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, statement, [Value::from(tenant.as_str())]);
        Ok(connection.execute_raw(statement).await?.rows_affected() == limit)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sea_orm::{ConnectOptions, Database};
    use souk_migrations::{Migrator, MigratorTrait as _};

    use super::*;

    async fn database() -> sea_orm::DatabaseConnection {
        // One connection, because each would have an in-memory database of its own.
        let db = Database::connect(ConnectOptions::new("sqlite::memory:").max_connections(1).to_owned()).await.unwrap();
        Migrator::up(&db, None).await.unwrap();
        db
    }

    #[tokio::test]
    async fn every_table_of_the_schema_says_whose_it_is() {
        let db = database().await;
        let query = "SELECT name FROM sqlite_master WHERE type = 'table'";
        let found = db.query_all_raw(Statement::from_string(db.get_database_backend(), query)).await.unwrap();
        let found: BTreeSet<String> = found.iter().map(|row| row.try_get("", "name").unwrap()).collect();
        let named: BTreeSet<String> = TABLES.iter().map(|table| table.name.to_owned()).collect();
        assert_eq!(named.len(), TABLES.len());
        let unnamed: Vec<_> = found.difference(&named).collect();
        assert!(unnamed.is_empty(), "say in TABLES whose these are: {unnamed:?}");
        let unknown: Vec<_> = named.difference(&found).filter(|name| !name.starts_with("sqlite_")).collect();
        assert!(unknown.is_empty(), "no such tables: {unknown:?}");
    }

    #[tokio::test]
    async fn every_table_can_be_read_and_erased_as_it_says() {
        let db = database().await;
        let tenant = TenantId::from_stored("ten_1");
        for table in TABLES {
            assert_eq!(table.rows(&db, &tenant, None, 10).await.unwrap().len(), 0, "{}", table.name);
            let after = table.key.iter().map(|_| Value::from("x")).collect();
            table.rows(&db, &tenant, Some(after), 10).await.unwrap();
            assert!(!table.erase(&db, &tenant, 10).await.unwrap(), "{}", table.name);
        }
    }
}
