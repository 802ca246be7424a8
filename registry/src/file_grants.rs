//! Leave for nodes to fetch the files of a version.
//!
//! A node knows no callers, so it may not say itself what it needs. What a name means is asked for by a gateway, for a
//! caller that may call it; with the answer goes a grant for the files of that version, signed with the keys that sign
//! tokens. It travels with the job to whichever node takes it, and that node shows it here, beside a token of its own.
//! A node without one gets nothing, and one that was broken into gets what the jobs that it was handed are about.
//!
//! Nothing of it is stored: a grant is good until its time is over. A version that is taken down meanwhile is ordered
//! off the nodes.

use souk_http::token::{self, FileClaims, LIFETIME};
use souk_protocol::manifest::MAX_MANIFEST_BYTES;
use souk_protocol::{AdapterManifest, Digest, FileGrant, wall_clock};
use tokio::io::AsyncReadExt as _;

use crate::Registry;
use crate::auth::AuthError;
use crate::error::RegistryError;

impl Registry {
    /// Signs a grant for the files of a version, for whoever is about to have a node run it.
    ///
    /// # Errors
    /// [`RegistryError`] if there is no key to sign with, and none can be made.
    pub async fn grant_files(&self, version: &Digest) -> Result<FileGrant, RegistryError> {
        let now = wall_clock::since_epoch();
        let claims = FileClaims {
            iss: self.signing_keys.issuer().to_owned(),
            aud: token::FILES.to_owned(),
            sub: *version,
            exp: (now + LIFETIME).as_secs(),
            nbf: now.as_secs(),
        };
        Ok(FileGrant::new(self.signing_keys.sign(&claims).await?))
    }

    /// Whether a grant opens a file. Asks the database only for a signing key that this registry has not seen.
    pub(crate) async fn check_grant(&self, presented: Option<&str>, file: &Digest) -> Result<(), RegistryError> {
        let presented = presented.ok_or(RegistryError::GrantMissing)?;
        let claims = self.signing_keys.verify_files(presented).await.map_err(|error| match error {
            AuthError::Expired => RegistryError::GrantExpired,
            error @ AuthError::Unavailable(_) => RegistryError::Auth(error),
            _ => RegistryError::GrantForeign,
        })?;
        let version = claims.sub;
        if version == *file || self.files_of(&version).await?.contains(file) {
            return Ok(());
        }
        Err(RegistryError::GrantOfAnother { version, file: *file })
    }

    /// What nodes need of a version beside its manifest.
    async fn files_of(&self, version: &Digest) -> Result<[Digest; 2], RegistryError> {
        let not_found = || RegistryError::NotFound { what: "version", name: version.to_string() };
        let manifest = match self.objects.open(version).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(not_found()),
            Err(error) => return Err(error.into()),
        };
        let mut text = Vec::new();
        manifest.take(MAX_MANIFEST_BYTES).read_to_end(&mut text).await?;
        if Digest::of(&text) != *version {
            return Err(RegistryError::ObjectCorrupted {
                file: "the manifest".to_owned(),
                digest: version.to_string(),
            });
        }
        let AdapterManifest { config, weights, .. } = serde_json::from_slice(&text).map_err(std::io::Error::other)?;
        Ok([config.digest, weights.digest])
    }
}
