//! From settings to a client of one server.

use std::fs;
use std::path::PathBuf;

use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, TlsCertificates};
use secrecy::{ExposeSecret as _, SecretString};

use crate::fault::Fault;
use crate::settings::{Address, RedisSettings};

/// How any of the servers is reached, once its address is known.
pub(crate) struct Place {
    info: ConnectionInfo,
    user: String,
    password: SecretString,
    password_file: PathBuf,
    root_certificate: PathBuf,
    sentinels: SentinelPlace,
}

/// How sentinels are reached, which have users and certificates of their own.
struct SentinelPlace {
    user: String,
    password: SecretString,
    password_file: PathBuf,
    speak_tls: bool,
    root_certificate: PathBuf,
}

impl Place {
    pub(crate) fn new(settings: &RedisSettings) -> Result<Self, Fault> {
        Ok(Self {
            info: settings.url.expose_secret().into_connection_info()?,
            user: settings.user.clone(),
            password: settings.password.clone(),
            password_file: settings.password_file.clone(),
            root_certificate: settings.root_certificate.clone(),
            sentinels: SentinelPlace::new(settings),
        })
    }

    /// The address that the URL has.
    pub(crate) fn address(&self) -> Result<Address, Fault> {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Ok((host.as_str().into(), *port))
            }
            _ => Err(Fault::Setting("redis.url must have a host".to_owned())),
        }
    }

    /// A client of the server at this address. Files are read each time, so that what is renewed in them counts.
    pub(crate) fn client(&self, address: &Address) -> Result<Client, Fault> {
        let mut redis = self.info.redis_settings().clone();
        if !self.user.is_empty() {
            redis = redis.set_username(&self.user);
        }
        if let Some(password) = secret_of(&self.password, &self.password_file, "redis.password_file")? {
            redis = redis.set_password(password.expose_secret());
        }
        let info = self.info.clone().set_redis_settings(redis);
        let is_insecure = match info.addr() {
            ConnectionAddr::TcpTls { insecure, .. } => Some(*insecure),
            _ => None,
        };
        open(info, address, is_insecure, (&self.root_certificate, "redis.root_certificate"))
    }

    /// A client of the sentinel at this address.
    pub(crate) fn sentinel(&self, address: &Address) -> Result<Client, Fault> {
        let SentinelPlace { user, password, password_file, speak_tls, root_certificate } = &self.sentinels;
        let bare = "redis://localhost".into_connection_info()?;
        let mut redis = bare.redis_settings().clone();
        if !user.is_empty() {
            redis = redis.set_username(user);
        }
        if let Some(password) = secret_of(password, password_file, "redis.sentinel_password_file")? {
            redis = redis.set_password(password.expose_secret());
        }
        let root = if root_certificate.as_os_str().is_empty() {
            (&self.root_certificate, "redis.root_certificate")
        } else {
            (root_certificate, "redis.sentinel_root_certificate")
        };
        open(bare.set_redis_settings(redis), address, speak_tls.then_some(false), root)
    }
}

impl SentinelPlace {
    fn new(settings: &RedisSettings) -> Self {
        Self {
            user: settings.sentinel_user.clone(),
            password: settings.sentinel_password.clone(),
            password_file: settings.sentinel_password_file.clone(),
            speak_tls: settings.sentinels_speak_tls(),
            root_certificate: settings.sentinel_root_certificate.clone(),
        }
    }
}

/// A client of what is at this address, by TLS where `is_insecure` is something: whether it is believed unseen. `root` is the
/// file of certificates that are trusted, and its setting.
fn open(
    info: ConnectionInfo,
    (host, port): &Address,
    is_insecure: Option<bool>,
    root: (&PathBuf, &str),
) -> Result<Client, Fault> {
    let Some(insecure) = is_insecure else {
        return Ok(Client::open(info.set_addr(ConnectionAddr::Tcp(host.to_string(), *port)))?);
    };
    let info =
        info.set_addr(ConnectionAddr::TcpTls { host: host.to_string(), port: *port, insecure, tls_params: None });
    let (file, setting) = root;
    if file.as_os_str().is_empty() {
        return Ok(Client::open(info)?);
    }
    let root_cert = Some(read(file, setting)?);
    Ok(Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })?)
}

/// The password in the file, if one is named, or the settings' own; `None` where it is empty.
fn secret_of(password: &SecretString, file: &PathBuf, setting: &str) -> Result<Option<SecretString>, Fault> {
    if !file.as_os_str().is_empty() {
        let read = read(file, setting)?;
        return Ok(Some(SecretString::from(String::from_utf8_lossy(&read).trim_end_matches(['\r', '\n']))));
    }
    Ok((!password.expose_secret().is_empty()).then(|| password.clone()))
}

fn read(file: &PathBuf, setting: &str) -> Result<Vec<u8>, Fault> {
    fs::read(file).map_err(|error| Fault::Setting(format!("{setting} cannot be read: {}: {error}", file.display())))
}
