//! Reaching a PostgreSQL server: once to find out whether it can be used, with an error that says which setting is to
//! change; from then on through pools, which replace connections that broke.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions, PgSslMode};
use sea_orm::sqlx::{self, ConnectOptions as _, Connection as _};
use sea_orm::{DatabaseConnection, SqlxPostgresConnector};
use secrecy::ExposeSecret as _;

use super::settings::{BUSY_TIMEOUT, DatabaseSettings, SslMode};

/// How long the first connection may take, with TLS and a name to look up.
const FIRST_CONNECTION: Duration = Duration::from_secs(10);

/// A transaction that its registry does not go on with is ended, so that a stalled process holds up no other.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(10);

/// What tests run on; older ones are out of support or soon will be.
const OLDEST: i32 = 15;

/// Why a PostgreSQL server cannot be used. Names user, host and database, and never the password.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The URL cannot be read.
    #[error("registry.database.url is not a URL of PostgreSQL")]
    Url(#[source] sqlx::Error),
    /// A file of the settings cannot be read.
    #[error("{setting} {path} cannot be read")]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// Nobody answers.
    #[error(
        "PostgreSQL at {server} (registry.database.url) cannot be reached; is it running, and does it listen there?"
    )]
    Unreachable {
        /// `user@host:port/database`.
        server: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It speaks no TLS.
    #[error(
        "PostgreSQL at {0} speaks no TLS; turn `ssl` on there, or set registry.database.sslmode to \"disable\" where nobody else is on the way"
    )]
    NoTls(String),
    /// Its certificate is not trusted, or is for another host.
    #[error(
        "the certificate of PostgreSQL at {server} is not trusted; it must be for that host, and of a well-known authority or one in registry.database.root_cert"
    )]
    NotTrusted {
        /// `user@host:port/database`.
        server: String,
        /// What TLS says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// User or password are wrong, or the server does not let them in from here.
    #[error(
        "PostgreSQL at {server} does not let the user in; check the user in registry.database.url, the password (registry.database.password or password_file) and the server's pg_hba.conf"
    )]
    NotLetIn {
        /// `user@host:port/database`.
        server: String,
        /// What the server says.
        #[source]
        source: sqlx::Error,
    },
    /// There is no such database.
    #[error("PostgreSQL at {0} has no such database; create it (CREATE DATABASE), or correct registry.database.url")]
    NoDatabase(String),
    /// The server is too old.
    #[error("PostgreSQL at {server} is version {version}; the oldest that can be used is {OLDEST}")]
    TooOld {
        /// `user@host:port/database`.
        server: String,
        /// Its major version.
        version: i32,
    },
    /// It can be read only.
    #[error("PostgreSQL at {0} is a standby, which can only be read; name the primary in registry.database.url")]
    Standby(String),
    /// The database has texts in another encoding.
    #[error("the database of PostgreSQL at {server} has the encoding {encoding}; create one with ENCODING 'UTF8'")]
    Encoding {
        /// `user@host:port/database`.
        server: String,
        /// What it has.
        encoding: String,
    },
    /// No tables can be made.
    #[error(
        "the user may not make tables in the database of PostgreSQL at {0}; make it the database's owner, or GRANT CREATE ON SCHEMA public"
    )]
    NoRights(String),
    /// Something else.
    #[error("PostgreSQL at {server} cannot be used")]
    Other {
        /// `user@host:port/database`.
        server: String,
        /// What it says.
        #[source]
        source: sqlx::Error,
    },
}

/// A server that was found fit for use.
pub(super) struct Postgres(PgConnectOptions);

impl Postgres {
    /// Connects once and looks at the server.
    pub(super) async fn open(settings: &DatabaseSettings) -> Result<Self, PostgresError> {
        let options = options(settings)?;
        let server = shown(&options);
        let looking = tokio::time::timeout(FIRST_CONNECTION, look(&options));
        let found = looking.await.unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())));
        found.map_err(|error| explain(&server, error))?.check(server)?;
        Ok(Self(options))
    }

    /// A pool, which connects when it is asked.
    pub(super) fn pool(&self, max_connections: u32) -> DatabaseConnection {
        let pool = PgPoolOptions::new().max_connections(max_connections).acquire_timeout(BUSY_TIMEOUT);
        SqlxPostgresConnector::from_sqlx_postgres_pool(pool.connect_lazy_with(self.0.clone()))
    }
}

/// What was found.
struct Found {
    version: i32,
    encoding: String,
    is_standby: bool,
    may_create: bool,
}

impl Found {
    fn check(self, server: String) -> Result<(), PostgresError> {
        let version = self.version / 10_000;
        if version < OLDEST {
            return Err(PostgresError::TooOld { server, version });
        }
        if self.is_standby {
            return Err(PostgresError::Standby(server));
        }
        if self.encoding != "UTF8" {
            return Err(PostgresError::Encoding { server, encoding: self.encoding });
        }
        if self.may_create { Ok(()) } else { Err(PostgresError::NoRights(server)) }
    }
}

async fn look(options: &PgConnectOptions) -> Result<Found, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    let query = "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), \
                 pg_is_in_recovery(), coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)";
    let (version, encoding, is_standby, may_create) = sqlx::query_as(query).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(Found { version, encoding, is_standby, may_create })
}

fn options(settings: &DatabaseSettings) -> Result<PgConnectOptions, PostgresError> {
    let read = |setting, path: &PathBuf| {
        let failed = |source| PostgresError::File { setting, path: path.clone(), source };
        std::fs::read_to_string(path).map_err(failed)
    };
    let mut options: PgConnectOptions = settings.url.expose_secret().parse().map_err(PostgresError::Url)?;
    if !settings.password.expose_secret().is_empty() {
        options = options.password(settings.password.expose_secret());
    } else if !settings.password_file.as_os_str().is_empty() {
        let password = read("registry.database.password_file", &settings.password_file)?;
        options = options.password(password.trim_end_matches(['\r', '\n']));
    }
    if !settings.root_cert.as_os_str().is_empty() {
        let path = &settings.root_cert;
        let setting = "registry.database.root_cert";
        let certificates = read(setting, path)?;
        if !certificates.contains("-----BEGIN CERTIFICATE-----") {
            let source = io::Error::new(io::ErrorKind::InvalidData, "it has no certificate in PEM");
            return Err(PostgresError::File { setting, path: path.clone(), source });
        }
        options = options.ssl_root_cert_from_pem(certificates.into_bytes());
    }
    let mode = match settings.sslmode {
        // Nobody is on the way to a socket of this machine.
        _ if options.get_socket().is_some() => PgSslMode::Disable,
        SslMode::VerifyFull => PgSslMode::VerifyFull,
        SslMode::Require => PgSslMode::Require,
        SslMode::Disable => PgSslMode::Disable,
    };
    let milliseconds = |duration: Duration| duration.as_millis().to_string();
    let options = options.ssl_mode(mode).application_name("souk").options([
        ("lock_timeout", milliseconds(BUSY_TIMEOUT)),
        ("idle_in_transaction_session_timeout", milliseconds(IDLE_IN_TRANSACTION)),
    ]);
    Ok(options.disable_statement_logging())
}

/// `user@host:port/database`.
fn shown(options: &PgConnectOptions) -> String {
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => options.get_host().to_owned(),
    };
    let database = options.get_database().unwrap_or_default();
    format!("{}@{host}:{}/{database}", options.get_username(), options.get_port())
}

fn explain(server: &str, error: sqlx::Error) -> PostgresError {
    let server = server.to_owned();
    let code = error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned());
    match (error, code.as_deref()) {
        // What a handshake ends with.
        (sqlx::Error::Io(source), _) if source.kind() == io::ErrorKind::InvalidData => {
            PostgresError::NotTrusted { server, source: source.into() }
        }
        (sqlx::Error::Io(source), _) => PostgresError::Unreachable { server, source },
        (sqlx::Error::Tls(source), _) if source.to_string().contains("does not support TLS") => {
            PostgresError::NoTls(server)
        }
        (sqlx::Error::Tls(source), _) => PostgresError::NotTrusted { server, source },
        (source, Some("28P01" | "28000")) => PostgresError::NotLetIn { server, source },
        (_, Some("3D000")) => PostgresError::NoDatabase(server),
        (source, _) => PostgresError::Other { server, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_too_old_or_cannot_be_written_is_told_with_what_it_is() {
        let good = || Found { version: 150_018, encoding: "UTF8".to_owned(), is_standby: false, may_create: true };
        let told = |found: Found| found.check("u@h:1/d".to_owned()).err().map(|error| error.to_string());
        assert_eq!(told(good()), None);
        let old = told(Found { version: 120_022, ..good() }).unwrap();
        assert!(old.contains("version 12") && old.contains("is 15"), "{old}");
        assert!(told(Found { is_standby: true, ..good() }).unwrap().contains("standby"));
        assert!(told(Found { encoding: "SQL_ASCII".to_owned(), ..good() }).unwrap().contains("SQL_ASCII"));
        assert!(told(Found { may_create: false, ..good() }).unwrap().contains("GRANT CREATE"));
    }
}
