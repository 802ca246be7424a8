//! TLS with rustls: certificates from files, read again when they change, so that a renewed one is served without a
//! start. Where `server.tls.client_ca` names authorities, clients are asked for a certificate of them, may have none, and
//! are hung up on where they show another.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

use super::settings::TlsSettings;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Why a certificate cannot be served. Each names its file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or has nothing of use.
    #[error("{what} {path} cannot be read: {cause}")]
    File {
        /// `server.tls.cert`, `server.tls.key` or `server.tls.client_ca`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// Certificate and key do not go together, or are of a kind that is not supported.
    #[error("server.tls.cert {cert} with server.tls.key {key}: {cause}")]
    Pair {
        /// The file of the chain.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why.
        cause: rustls::Error,
    },
}

/// A certificate that follows its files. Clones share it.
#[derive(Clone)]
pub struct Certificate {
    settings: TlsSettings,
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(settings: TlsSettings) -> Result<Self, TlsError> {
        let config = read(&settings)?;
        Ok(Self { settings, current: Arc::new(RwLock::new(Arc::new(config))) })
    }

    /// Whether clients are asked for a certificate.
    pub(super) fn asks(&self) -> bool {
        self.settings.asks()
    }

    /// What new connections are encrypted with.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again whenever they change, for as long as it is polled. Files that cannot be used leave the
    /// certificate as it is, which the log says.
    pub(super) async fn follow(self) {
        self.follow_every(LOOK_EVERY).await;
    }

    async fn follow_every(self, interval: Duration) {
        let mut seen = stamps(&self.settings);
        loop {
            tokio::time::sleep(interval).await;
            let now = stamps(&self.settings);
            if now == seen {
                continue;
            }
            match read(&self.settings) {
                Ok(config) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                    tracing::info!(cert = %self.settings.cert.display(), "New certificate");
                }
                // Two files do not change at once: the next change brings the other.
                Err(error) => tracing::error!(%error, "The new certificate cannot be used; the old one stays"),
            }
            seen = now;
        }
    }
}

/// What shows that a file was replaced.
fn stamps(settings: &TlsSettings) -> [Option<(SystemTime, u64)>; 3] {
    [&settings.cert, &settings.key, &settings.client_ca].map(|path| {
        let facts = std::fs::metadata(path).ok()?;
        Some((facts.modified().ok()?, facts.len()))
    })
}

fn read(settings: &TlsSettings) -> Result<ServerConfig, TlsError> {
    let TlsSettings { cert, key, client_ca, .. } = settings;
    let chain = certificates("server.tls.cert", cert)?;
    let private = PrivateKeyDer::from_pem_file(key);
    let private = private.map_err(|error| unreadable("server.tls.key", key, error.to_string()))?;
    let pair = |cause| TlsError::Pair { cert: cert.clone(), key: key.clone(), cause };
    // The provider is named: with two in the tree there is no default.
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(pair)?;
    let builder = if settings.asks() {
        builder.with_client_cert_verifier(verifier(client_ca)?)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(chain, private).map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Checks what clients show, and lets those in that show nothing: which routes they may call then is the routes' business.
fn verifier(client_ca: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    const SETTING: &str = "server.tls.client_ca";
    let bad = |cause: String| unreadable(SETTING, client_ca, cause);
    let mut roots = RootCertStore::empty();
    for certificate in certificates(SETTING, client_ca)? {
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated();
    verifier.build().map_err(|error| bad(error.to_string()))
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |cause: String| unreadable(what, path, cause);
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))?.collect();
    let found = found.map_err(|error| bad(error.to_string()))?;
    if found.is_empty() { Err(bad("it has no certificate".to_owned())) } else { Ok(found) }
}

fn unreadable(what: &'static str, path: &Path, cause: String) -> TlsError {
    TlsError::File { what, path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Writes a certificate of its own making for `name` into `folder`.
    fn make(folder: &Path, name: &str) -> TlsSettings {
        let settings =
            TlsSettings { cert: folder.join("cert.pem"), key: folder.join("key.pem"), ..TlsSettings::default() };
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")])
            .arg("-keyout")
            .arg(&settings.key)
            .arg("-out")
            .arg(&settings.cert)
            .output()
            .expect("openssl runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        settings
    }

    #[tokio::test]
    async fn a_new_certificate_is_served_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let certificate = Certificate::open(make(folder.path(), "one.example")).unwrap();
        let follower = tokio::spawn(certificate.clone().follow_every(Duration::from_millis(20)));
        let first = certificate.current();
        let wait_for_change = async |from: &Arc<ServerConfig>| {
            for _ in 0..500 {
                if !Arc::ptr_eq(from, &certificate.current()) {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            false
        };
        std::fs::write(folder.path().join("cert.pem"), "no certificate").unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(Arc::ptr_eq(&first, &certificate.current()), "what cannot be used leaves the old one");
        make(folder.path(), "two.example");
        assert!(wait_for_change(&first).await);
        follower.abort();
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let settings = make(folder.path(), "one.example");
        let text = |settings: TlsSettings| Certificate::open(settings).err().expect("an error").to_string();
        let absent = text(TlsSettings { cert: folder.path().join("absent.pem"), ..settings.clone() });
        assert!(absent.contains("server.tls.cert") && absent.contains("absent.pem"), "{absent}");
        let swapped = text(TlsSettings { key: settings.cert.clone(), ..settings.clone() });
        assert!(swapped.contains("server.tls.key") && swapped.contains("cert.pem"), "{swapped}");
        let other = tempfile::tempdir().unwrap();
        let foreign = text(TlsSettings { key: make(other.path(), "two.example").key, ..settings });
        assert!(foreign.contains("with server.tls.key"), "{foreign}");
        let nobodys =
            text(TlsSettings { client_ca: make(other.path(), "two.example").key, ..make(folder.path(), "one") });
        assert!(nobodys.contains("server.tls.client_ca") && nobodys.contains("it has no certificate"), "{nobodys}");
    }
}
