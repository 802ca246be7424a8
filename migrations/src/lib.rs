//! The SQL schema of the registry, as ordered sea-orm migrations.
