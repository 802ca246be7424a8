//! Reaching the server: TLS, and what is usually set wrongly, each told with the setting that is to change.

use std::path::PathBuf;

use secrecy::SecretString;
use souk_registry::{DatabaseSettings, Pools, PostgresError, RegistrySettings, SslMode};
use souk_testkit::postgres::{PASSWORD, Postgres, TestDatabase, USER};

fn settings(url: String, sslmode: SslMode) -> DatabaseSettings {
    DatabaseSettings { url: url.into(), sslmode, ..RegistrySettings::default().database }
}

/// The address of `database` under another host, without a password.
fn url_at(host: &str, database: &TestDatabase) -> String {
    format!("postgres://{USER}@{host}:{}/{}", Postgres::shared().port(), database.name())
}

/// By TLS as `localhost`, which is what the certificate is for, trusting the authority that signed it.
fn verified(database: &TestDatabase) -> DatabaseSettings {
    DatabaseSettings {
        password: PASSWORD.to_owned().into(),
        root_cert: Postgres::shared().root_cert(),
        ..settings(url_at("localhost", database), SslMode::VerifyFull)
    }
}

async fn refusal(settings: &DatabaseSettings) -> PostgresError {
    Pools::open_postgres(settings).await.expect_err("it cannot be used")
}

/// The error with its causes, which must not have the password.
fn told(error: &PostgresError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    assert!(!text.contains(PASSWORD), "{text}");
    text
}

#[tokio::test]
async fn verify_full_takes_the_certificate_of_a_trusted_authority_for_the_host_and_no_other() {
    let database = Postgres::shared().database();
    let settings = verified(&database);
    let pools = Pools::open_postgres(&settings).await.unwrap();
    let query = "SELECT ssl::int::bigint AS n FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(crate::support::number_of(&pools.own, query).await, 1);

    // Another host than the certificate's.
    let elsewhere = DatabaseSettings { url: url_at("127.0.0.1", &database).into(), ..settings.clone() };
    let error = refusal(&elsewhere).await;
    assert!(matches!(error, PostgresError::NotTrusted { .. }), "{}", told(&error));
    // An authority that is not trusted.
    let unknown = DatabaseSettings { root_cert: PathBuf::new(), ..settings.clone() };
    let error = refusal(&unknown).await;
    assert!(matches!(error, PostgresError::NotTrusted { .. }), "{}", told(&error));
    assert!(told(&error).contains("registry.database.root_cert"));
    // Neither matters where it is only to be hidden what is said.
    let unasked = DatabaseSettings { sslmode: SslMode::Require, root_cert: PathBuf::new(), ..settings };
    let pools = Pools::open_postgres(&unasked).await.unwrap();
    assert_eq!(crate::support::number_of(&pools.own, query).await, 1);
    let plain = Pools::open_postgres(&self::settings(database.url(), SslMode::Disable)).await.unwrap();
    assert_eq!(crate::support::number_of(&plain.own, query).await, 0);
}

#[tokio::test]
async fn a_file_that_has_no_certificate_or_is_not_there_is_named() {
    let database = Postgres::shared().database();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "no certificate").unwrap();
    for path in [file.path().to_owned(), PathBuf::from("/nowhere/root.crt")] {
        let error = refusal(&DatabaseSettings { root_cert: path.clone(), ..verified(&database) }).await;
        let text = told(&error);
        assert!(text.contains("registry.database.root_cert") && text.contains(path.to_str().unwrap()), "{text}");
    }
    let missing = DatabaseSettings {
        password: SecretString::default(),
        password_file: "/nowhere/password".into(),
        ..verified(&database)
    };
    let text = told(&refusal(&missing).await);
    assert!(text.contains("registry.database.password_file /nowhere/password"), "{text}");
}

#[tokio::test]
async fn the_password_comes_from_the_url_a_setting_or_a_file() {
    let database = Postgres::shared().database();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{PASSWORD}\n")).unwrap();
    let url = url_at("127.0.0.1", &database);
    let by_file = DatabaseSettings { password_file: file.path().into(), ..settings(url.clone(), SslMode::Disable) };
    let by_setting = DatabaseSettings { password: PASSWORD.to_owned().into(), ..settings(url, SslMode::Disable) };
    for good in [by_file, by_setting.clone(), settings(database.url(), SslMode::Disable)] {
        Pools::open_postgres(&good).await.unwrap();
    }
    let wrong = DatabaseSettings { password: "wrong".to_owned().into(), ..by_setting };
    let error = refusal(&wrong).await;
    assert!(matches!(error, PostgresError::NotLetIn { .. }), "{}", told(&error));
    assert!(told(&error).contains("registry.database.url") && told(&error).contains("password_file"));
}

#[tokio::test]
async fn a_server_that_is_not_there_and_a_database_that_is_not_are_told_apart() {
    let database = Postgres::shared().database();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = refusal(&settings(format!("postgres://{USER}:{PASSWORD}@{closed}/x"), SslMode::Disable)).await;
    assert!(matches!(error, PostgresError::Unreachable { .. }), "{}", told(&error));
    assert!(told(&error).contains(&closed.to_string()) && told(&error).contains("refused"), "{}", told(&error));
    let other = database.url().replace(database.name(), "nowhere");
    let error = refusal(&settings(other, SslMode::Disable)).await;
    assert!(matches!(error, PostgresError::NoDatabase(_)), "{}", told(&error));
    assert!(told(&error).contains("/nowhere") && told(&error).contains("CREATE DATABASE"));
}

#[tokio::test]
async fn a_user_who_may_make_no_tables_is_told_so_before_the_first_is_tried() {
    let database = Postgres::shared().database();
    let user = format!("reader_{}", std::process::id());
    database.psql(&format!("CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'"));
    let url = database.url().replace(&format!("//{USER}:"), &format!("//{user}:"));
    let error = refusal(&settings(url, SslMode::Disable)).await;
    database.psql(&format!("DROP ROLE {user}"));
    assert!(matches!(error, PostgresError::NoRights(_)), "{}", told(&error));
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let shared = Postgres::shared().database();
    let name = format!("latin_{}", std::process::id());
    shared.psql(&format!(
        "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER libc"
    ));
    let error = refusal(&settings(shared.url().replace(shared.name(), &name), SslMode::Disable)).await;
    shared.psql(&format!("DROP DATABASE {name} WITH (FORCE)"));
    assert!(matches!(&error, PostgresError::Encoding { encoding, .. } if encoding == "LATIN1"), "{}", told(&error));
}
