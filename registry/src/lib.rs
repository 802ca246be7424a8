//! Control plane: tenants, keys, adapters, versions; HTTP, SQL and objects.
