//! The listener with TLS: its certificate, and those that it asks clients for.

#![expect(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::sync::Arc;
use std::time::Duration;

use axum::middleware::from_fn;
use axum::routing::get;
use axum::{Extension, Router};
use souk_http::client_certificate::{ClientCertificate, require};
use souk_http::serve::{Certificate, Listening, Server, ServerSettings, TlsSettings};
use souk_testkit::certificates::{Authority, Issued};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

/// Long against every time here, so that a busy machine fails no test.
const LONG: Duration = Duration::from_secs(20);

async fn connect(listening: &Listening) -> TcpStream {
    TcpStream::connect(listening.address).await.unwrap()
}

/// A server with this certificate, and what it tells of clients' certificates at `/certificate` and lets through at `/services`.
async fn start_encrypted(tls: TlsSettings) -> (Server, Listening) {
    let settings = ServerSettings { handshake_timeout: Duration::from_millis(400), ..Default::default() };
    let server = Server::new(settings, u64::MAX);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let shown = |certificate: Option<Extension<ClientCertificate>>| async move {
        format!("{:?}", certificate.map(|Extension(certificate)| certificate))
    };
    let services = Router::new().route("/services", get(|| async { "a service" })).layer(from_fn(require));
    let router = Router::new().route("/", get(|| async { "hello" })).route("/certificate", get(shown)).merge(services);
    let listening = server.listen(listener, router, Some(Certificate::open(tls).unwrap())).unwrap();
    (server, listening)
}

/// What a client hears that trusts the authority and shows this, or why it hears nothing.
async fn ask_encrypted(
    listening: &Listening,
    trusted: &Authority,
    shows: Option<&Issued>,
    path: &str,
) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted.root()).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let client = match shows {
        None => client.with_no_client_auth(),
        Some(shows) => {
            let chain = vec![CertificateDer::from_pem_file(&shows.cert).unwrap()];
            client.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&shows.key).unwrap()).unwrap()
        }
    };
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let name = ServerName::try_from("souk.test").unwrap();
    let mut stream = connector.connect(name, connect(listening).await).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: souk\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    let mut heard = Vec::new();
    timeout(LONG, stream.read_to_end(&mut heard)).await.unwrap()?;
    Ok(String::from_utf8(heard).unwrap())
}

#[tokio::test]
async fn tls_is_spoken_and_who_does_not_shake_hands_is_hung_up_on() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let own = authority.issue("server", "DNS:souk.test");
    let tls = TlsSettings { cert: own.cert, key: own.key, ..TlsSettings::default() };
    let (_server, listening) = start_encrypted(tls).await;
    assert!(ask_encrypted(&listening, &authority, None, "/").await.unwrap().ends_with("hello"));
    let nobody_was_asked = ask_encrypted(&listening, &authority, None, "/certificate").await.unwrap();
    assert!(nobody_was_asked.ends_with("None"), "{nobody_was_asked}");
    assert!(ask_encrypted(&listening, &authority, None, "/services").await.unwrap().ends_with("a service"));
    let mut silent = connect(&listening).await;
    timeout(LONG, silent.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_port_that_asks_for_certificates_lets_services_in_by_them_and_others_to_what_is_not_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, foreign) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "others"));
    let own = authority.issue("server", "DNS:souk.test");
    let client_ca = folder.path().join("client-ca.pem");
    std::fs::copy(authority.root(), &client_ca).unwrap();
    let tls = TlsSettings { cert: own.cert, key: own.key, operators: true, client_ca: client_ca.clone() };
    let (_server, listening) = start_encrypted(tls).await;
    let (node, stranger) = (authority.issue("node", "DNS:node"), foreign.issue("stranger", "DNS:node"));
    let ask = async |shows, path| ask_encrypted(&listening, &authority, shows, path).await;
    let shown = ask(Some(&node), "/certificate").await.unwrap();
    assert!(shown.ends_with("Some(Shown)"), "{shown}");
    assert!(ask(Some(&node), "/services").await.unwrap().ends_with("a service"));
    // An operator's browser has none, and reaches what is for operators.
    assert!(ask(None, "/").await.unwrap().ends_with("hello"));
    let refused = ask(None, "/services").await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("client_certificate_missing"), "{refused}");
    assert!(refused.contains("server.tls.client_ca"), "{refused}");
    // Another's certificate is no certificate, whatever is asked for.
    let error = ask(Some(&stranger), "/").await.unwrap_err().to_string();
    assert!(error.contains("UnknownCA"), "the client is told why: {error}");
    // Another authority takes the place of the first, while the server runs.
    std::fs::write(client_ca, std::fs::read(foreign.root()).unwrap()).unwrap();
    let changed = async {
        while ask(Some(&stranger), "/services").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, changed).await.unwrap();
    assert!(ask(Some(&node), "/services").await.is_err(), "its authority is gone");
}
