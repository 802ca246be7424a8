//! Hooks of registries: what they were compiled to, their components, and the way of what they say.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::StatusCode;
use souk_gateway::{HookSource, HookSourceError};
use souk_protocol::Digest;
use souk_protocol::hooks::HookLine;
use souk_protocol::internal::{MAX_HOOK_LINES, PREFIX, WriteHookLines};

use crate::registries::{Failure, Registries};

/// How long a registry has for all of a component. The longest is some tens of MiB.
const COMPONENT_TIME: Duration = Duration::from_secs(20);
/// How long it has to write lines.
const WRITE_TIME: Duration = Duration::from_secs(5);

/// A [`HookSource`] whose registries are elsewhere. Whoever answers first gives; what it gives is compared with its digest.
pub struct HttpHooks(Registries);

impl HttpHooks {
    /// Asks these registries.
    #[must_use]
    pub const fn new(registries: Registries) -> Self {
        Self(registries)
    }

    /// What a path brings; `None`: there is nothing.
    async fn get(&self, path: String) -> Result<Option<Bytes>, HookSourceError> {
        let path = &format!("{PREFIX}/hooks/{path}");
        let got = self.0.first_of(move |number| async move {
            let request = |http: &reqwest::Client, url| http.get(url).timeout(COMPONENT_TIME);
            match self.0.send(number, path, request).await {
                Ok(response) => Ok(Some(response.bytes().await.map_err(|error| Failure::of(&error))?)),
                Err(Failure::Refuses(StatusCode::NOT_FOUND, _)) => Ok(None),
                Err(failure) => Err(failure),
            }
        });
        got.await.map_err(|error| HookSourceError::Unavailable(error.into()))
    }
}

#[async_trait]
impl HookSource for HttpHooks {
    async fn artifact(&self, digest: &Digest, engine: &str) -> Result<Option<Bytes>, HookSourceError> {
        // It is sealed, and the seal says which component it was made from.
        self.get(format!("{digest}/artifacts/{engine}")).await
    }

    async fn component(&self, digest: &Digest) -> Result<Bytes, HookSourceError> {
        let component = self.get(format!("{digest}/component")).await?.ok_or(HookSourceError::NotFound)?;
        if Digest::of(&component) == *digest {
            return Ok(component);
        }
        Err(HookSourceError::Unavailable(format!("what a registry gives for {digest} is something else").into()))
    }

    async fn write_lines(&self, lines: Vec<HookLine>) -> Result<(), HookSourceError> {
        for some in lines.chunks(MAX_HOOK_LINES) {
            let question = WriteHookLines { lines: some.to_vec() };
            let written = self.0.ask::<()>("hooks/lines", &question, WRITE_TIME).await;
            written.map_err(|error| HookSourceError::Unavailable(error.into()))?;
        }
        Ok(())
    }
}
