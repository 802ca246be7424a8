//! From settings to a client of one server.

use std::fs;
use std::path::PathBuf;

use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, TlsCertificates};
use secrecy::{ExposeSecret as _, SecretString};

use crate::fault::Fault;
use crate::settings::RedisSettings;

/// Host and port of one server.
pub(crate) type Address = (String, u16);

/// How any of the servers is reached, once its address is known.
pub(crate) struct Place {
    info: ConnectionInfo,
    user: String,
    password: SecretString,
    password_file: PathBuf,
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
        })
    }

    /// The address that the URL has.
    pub(crate) fn address(&self) -> Result<Address, Fault> {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => Ok((host.clone(), *port)),
            _ => Err(Fault::Setting("redis.url must have a host".to_owned())),
        }
    }

    /// A client of the server at this address. Files are read each time, so that what is renewed in them counts.
    pub(crate) fn client(&self, address: &Address) -> Result<Client, Fault> {
        let mut redis = self.info.redis_settings().clone();
        if !self.user.is_empty() {
            redis = redis.set_username(&self.user);
        }
        if !self.password_file.as_os_str().is_empty() {
            let password = read(&self.password_file, "redis.password_file")?;
            redis = redis.set_password(String::from_utf8_lossy(&password).trim_end_matches(['\r', '\n']));
        } else if !self.password.expose_secret().is_empty() {
            redis = redis.set_password(self.password.expose_secret());
        }
        let info = self.info.clone().set_redis_settings(redis);
        self.open(info, address)
    }

    /// A client of the sentinel at this address, without user and password.
    pub(crate) fn sentinel(&self, address: &Address) -> Result<Client, Fault> {
        let bare = "redis://localhost".into_connection_info()?;
        let info = self.info.clone().set_redis_settings(bare.redis_settings().clone());
        self.open(info, address)
    }

    fn open(&self, info: ConnectionInfo, (host, port): &Address) -> Result<Client, Fault> {
        let ConnectionAddr::TcpTls { insecure, .. } = info.addr() else {
            return Ok(Client::open(info.set_addr(ConnectionAddr::Tcp(host.clone(), *port)))?);
        };
        let insecure = *insecure;
        let info =
            info.set_addr(ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure, tls_params: None });
        if self.root_certificate.as_os_str().is_empty() {
            return Ok(Client::open(info)?);
        }
        let root_cert = Some(read(&self.root_certificate, "redis.root_certificate")?);
        Ok(Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })?)
    }
}

fn read(file: &PathBuf, setting: &str) -> Result<Vec<u8>, Fault> {
    fs::read(file).map_err(|error| Fault::Setting(format!("{setting} cannot be read: {}: {error}", file.display())))
}
