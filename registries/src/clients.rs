//! The HTTP clients for registries and for what they point at, with the certificates that files hold. They are made anew when
//! the files have changed, which is looked at with each exchange of the service's key.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, Identity, redirect};

use crate::settings::{Settings, SettingsError};

/// How long a connection may take; to a registry that is there it takes a round trip.
const CONNECT_TIME: Duration = Duration::from_millis(500);

/// The clients.
pub(crate) struct Clients {
    settings: Settings,
    current: RwLock<Made>,
}

/// What was made of the files as they were.
struct Made {
    held: Held,
    registries: Client,
    elsewhere: Client,
}

/// What the files hold, PEM; `None` where none is named.
#[derive(PartialEq, Eq)]
struct Held {
    root_cert: Option<Vec<u8>>,
    client_cert: Option<Vec<u8>>,
}

impl Clients {
    /// Reads the files.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub(crate) fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let made = Made::of(settings, Held::read(settings)?)?;
        Ok(Self { settings: settings.clone(), current: RwLock::new(made) })
    }

    /// The client for registries, which shows the service's certificate.
    pub(crate) fn registries(&self) -> Client {
        self.current.read().unwrap_or_else(PoisonError::into_inner).registries.clone()
    }

    /// The client for addresses that registries give, which shows none.
    pub(crate) fn elsewhere(&self) -> Client {
        self.current.read().unwrap_or_else(PoisonError::into_inner).elsewhere.clone()
    }

    /// Makes them anew if the files have changed. Files that cannot be used leave them as they are.
    pub(crate) fn renew(&self) {
        let renewed = Held::read(&self.settings).and_then(|held| {
            if held == self.current.read().unwrap_or_else(PoisonError::into_inner).held {
                return Ok(None);
            }
            Made::of(&self.settings, held).map(Some)
        });
        match renewed {
            Ok(None) => {}
            Ok(Some(made)) => *self.current.write().unwrap_or_else(PoisonError::into_inner) = made,
            Err(error) => tracing::error!(%error, "New certificates cannot be used; the old ones stay"),
        }
    }
}

impl Made {
    fn of(settings: &Settings, held: Held) -> Result<Self, SettingsError> {
        let roots = parse(settings, ROOT_CERT, held.root_cert.as_deref(), |pem| {
            let found = Certificate::from_pem_bundle(pem).map_err(|error| error.to_string())?;
            if found.is_empty() { Err("it has no certificate".to_owned()) } else { Ok(found) }
        })?;
        let identity = parse(settings, CLIENT_CERT, held.client_cert.as_deref(), |pem| {
            Identity::from_pem(pem).map_err(|error| error.to_string())
        })?;
        let build = |client: ClientBuilder| client.build().map_err(SettingsError::Client);
        let client = || {
            Client::builder()
                .connect_timeout(CONNECT_TIME)
                // A key goes along, which is for whom it is meant.
                .redirect(redirect::Policy::none())
                .no_proxy()
                .tls_certs_merge(roots.clone().unwrap_or_default())
        };
        let registries = identity.map_or_else(client, |identity| client().identity(identity));
        Ok(Self { held, registries: build(registries)?, elsewhere: build(client())? })
    }
}

const ROOT_CERT: &str = "registries_root_cert";
const CLIENT_CERT: &str = "registries_client_cert";

impl Held {
    fn read(settings: &Settings) -> Result<Self, SettingsError> {
        let read = |key, path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| std::fs::read(path).map_err(|error| failed(settings, key, path, &error)))
                .transpose()
        };
        Ok(Self {
            root_cert: read(ROOT_CERT, &settings.root_cert)?,
            client_cert: read(CLIENT_CERT, &settings.client_cert)?,
        })
    }
}

/// What a file holds; `None` where none is named.
fn parse<T>(
    settings: &Settings,
    key: &'static str,
    pem: Option<&[u8]>,
    parse: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<Option<T>, SettingsError> {
    let path = if key == ROOT_CERT { &settings.root_cert } else { &settings.client_cert };
    let path = path.as_deref().unwrap_or(Path::new(""));
    pem.map(|pem| parse(pem).map_err(|cause| failed(settings, key, path, &cause))).transpose()
}

fn failed(settings: &Settings, key: &'static str, path: &Path, cause: &impl ToString) -> SettingsError {
    SettingsError::Certificates { section: settings.section, key, path: path.to_owned(), cause: cause.to_string() }
}
