//! The host of all hooks of a process.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use souk_protocol::Digest;
use souk_protocol::flights::Flights;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use crate::artifact::{ArtifactError, SealingKey, open_component};
use crate::bindings::{Bindings, add_to_linker};
use crate::call::Prepared;
use crate::engine::{self, EngineHash, Ticker};
use crate::executor::Executor;
use crate::hook::Hook;
use crate::residents::Residents;
use crate::settings::HookSettings;
use crate::state::State;

/// Runs hooks. There is one in a process: what two engines compiled must never meet.
pub struct Host {
    engine: Engine,
    hash: EngineHash,
    key: SealingKey,
    linker: Linker<State>,
    executor: Arc<Executor>,
    /// Locked for a look.
    residents: Mutex<Residents<Hook>>,
    loads: Flights<Digest, Result<Arc<Hook>, LoadError>>,
}

/// Why a hook cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// What was compiled cannot be run, and is to be compiled again.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// It does not fit to what is offered, in the engine's words.
    #[error("it does not fit to what is offered: {0}")]
    DoesNotFit(String),
    /// It was not to be had from where it is kept, or cannot be compiled.
    #[error("{0}")]
    NotToBeHad(String),
    /// The host failed.
    #[error("the host failed")]
    Internal,
}

/// Why there is no host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The engine cannot be had.
    #[error("the engine for hooks cannot be started: {0}")]
    Engine(String),
    /// Its threads cannot be had.
    #[error("the threads for hooks cannot be started: {0}")]
    Threads(#[from] std::io::Error),
}

impl Host {
    /// Starts the engine and its threads.
    ///
    /// # Errors
    /// [`HostError`]
    pub fn start(settings: &HookSettings, key: SealingKey) -> Result<Self, HostError> {
        let failed = |error: wasmtime::Error| HostError::Engine(format!("{error:#}"));
        let engine = engine::running(settings).map_err(failed)?;
        let mut linker = Linker::new(&engine);
        add_to_linker(&mut linker).map_err(failed)?;
        let ticker = Ticker::start(&engine)?;
        Ok(Self {
            hash: EngineHash::of(&engine),
            key,
            linker,
            executor: Arc::new(Executor::start(settings, ticker)?),
            residents: Mutex::new(Residents::new(settings.max_resident, settings.max_resident_bytes)),
            loads: Flights::new(),
            engine,
        })
    }

    /// What sealed artifacts must fit to.
    #[must_use]
    pub fn engine_hash(&self) -> EngineHash {
        self.hash
    }

    /// A hook that is in memory.
    #[must_use]
    pub fn resident(&self, digest: &Digest) -> Option<Arc<Hook>> {
        self.lock().get(digest)
    }

    /// Looks whether a sealed artifact would be run.
    ///
    /// # Errors
    /// [`ArtifactError`] of which each says that the component is to be compiled again.
    pub fn check_sealed(&self, digest: &Digest, sealed: &[u8]) -> Result<(), ArtifactError> {
        self.key.open(sealed, digest, &self.hash).map(drop)
    }

    /// A hook, from memory or of what `sealed` gets, which is asked once however many want the hook at a time.
    ///
    /// # Errors
    /// [`LoadError`]
    pub async fn load(
        &self,
        digest: &Digest,
        sealed: impl Future<Output = Result<Bytes, LoadError>>,
    ) -> Result<Arc<Hook>, LoadError> {
        if let Some(hook) = self.resident(digest) {
            return Ok(hook);
        }
        let load = async {
            // Somebody else's load may have ended between the look and this.
            if let Some(hook) = self.resident(digest) {
                return Ok(hook);
            }
            let sealed = sealed.await?;
            self.load_sealed(*digest, sealed).await
        };
        self.loads.join(*digest, load).await
    }

    /// Has a hook no longer in memory, as after its take-down. Calls and streams that are under way end by themselves.
    pub fn forget(&self, digest: &Digest) {
        self.lock().forget(digest);
        self.tell_residents();
    }

    /// Sets the gauges of what is running now.
    pub fn tell(&self) {
        metrics::gauge!("souk_hook_calls_running").set(self.executor.num_running() as f64);
        metrics::gauge!("souk_hook_streams_open").set(self.executor.num_streams() as f64);
        self.tell_residents();
    }

    async fn load_sealed(&self, digest: Digest, sealed: Bytes) -> Result<Arc<Hook>, LoadError> {
        let bytes = sealed.len();
        let (engine, key, hash, linker) = (self.engine.clone(), self.key.clone(), self.hash, self.linker.clone());
        let prepare = move || {
            let component = open_component(&engine, &key, &sealed, &digest, &hash)?;
            prepare(engine, &linker, digest, &component)
        };
        let prepared = self.executor.run_blocking(prepare).await.map_err(|_| LoadError::Internal)??;
        let hook = Arc::new(Hook::new(Arc::clone(&self.executor), prepared));
        self.lock().keep(digest, Arc::clone(&hook), bytes);
        self.tell_residents();
        Ok(hook)
    }

    fn tell_residents(&self) {
        let residents = self.lock();
        metrics::gauge!("souk_hooks_resident").set(residents.len() as f64);
        metrics::gauge!("souk_hooks_resident_bytes").set(residents.bytes() as f64);
    }

    fn lock(&self) -> MutexGuard<'_, Residents<Hook>> {
        // Each change is made in one go.
        self.residents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prepare(
    engine: Engine,
    linker: &Linker<State>,
    digest: Digest,
    component: &Component,
) -> Result<Prepared, LoadError> {
    let does_not_fit = |error: wasmtime::Error| LoadError::DoesNotFit(format!("{error:#}"));
    let instance = linker.instantiate_pre(component).map_err(does_not_fit)?;
    let bindings = Bindings::new(&instance).map_err(does_not_fit)?;
    Ok(Prepared { engine, digest, instance, bindings })
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("engine", &self.hash).finish_non_exhaustive()
    }
}
