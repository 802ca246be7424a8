//! Compiling, in a process apart.
//!
//! Compiling a component of a megabyte can be made to take minutes and gigabytes, and what takes them cannot be stopped from within. So it is done
//! by a child: this executable again, with nothing of its surroundings, under limits that it sets itself before it reads what it is to
//! compile, one at a time, and gone with whoever waits for it.

mod child;

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Instant;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use souk_protocol::gate::{Gate, Rules};
use souk_protocol::{Digest, TenantId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use wasmtime::Engine;

pub use self::child::child_main;
use crate::artifact::SealingKey;
use crate::engine::{EngineHash, compiling};
use crate::settings::{CompileLimits, HookSettings, Tier};

/// First byte of an answer that has a compiled component.
const COMPILED: u8 = b'+';
/// First byte of one that says why there is none.
const REFUSED: u8 = b'-';

/// Compiles components and seals what comes of it.
#[derive(Debug)]
pub struct Compiler {
    program: PathBuf,
    arguments: Vec<OsString>,
    settings: HookSettings,
    key: SealingKey,
    hash: EngineHash,
    turns: Gate<TenantId>,
}

/// What the child is told first, in a line of JSON.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Terms {
    processor_s: u64,
    memory_bytes: u64,
    output_bytes: u64,
}

/// Why a component was not compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The compiler does not take it, in its words.
    #[error("the compiler does not take it: {0}")]
    Refused(String),
    /// It took too much processor time.
    #[error("compiling it takes more than {0} s of processor time; smaller functions with fewer variables take less")]
    TookTooLong(u64),
    /// It took too much memory.
    #[error("compiling it takes more than {0} MiB of memory; smaller functions with fewer variables take less")]
    TookTooMuch(u64),
    /// It took too much time in all, on a machine that was busy.
    #[error("compiling it was not done in {0} s")]
    TimedOut(u64),
    /// Others are being compiled.
    #[error("other components are being compiled; come again")]
    Busy,
    /// The child could not be had, or failed.
    #[error("the compiler failed: {0}")]
    Failed(String),
}

impl CompileError {
    /// A stable word for the cause.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::TookTooLong(_) => "took_too_long",
            Self::TookTooMuch(_) => "took_too_much",
            Self::TimedOut(_) => "timed_out",
            Self::Busy => "busy",
            Self::Failed(_) => "failed",
        }
    }

    /// Whether the component is the reason, so that it is in vain to come again with it.
    #[must_use]
    pub const fn is_of_component(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::TookTooLong(_) | Self::TookTooMuch(_))
    }
}

impl Compiler {
    /// A compiler whose child is `program` with `arguments`, which must do [`child_main`] and nothing else.
    #[must_use]
    pub fn new(program: PathBuf, arguments: Vec<OsString>, settings: HookSettings, key: SealingKey) -> Self {
        let hash = EngineHash::of_this_executable();
        let turns = Gate::new(Rules { total: 1, reserve: 0, small: 1, most: 1 });
        Self { program, arguments, settings, key, hash, turns }
    }

    /// What its artifacts fit to.
    #[must_use]
    pub fn engine_hash(&self) -> EngineHash {
        self.hash
    }

    /// Compiles a component that was checked, and seals what comes of it. Dropping the answer ends the child.
    ///
    /// # Errors
    /// [`CompileError`]
    pub async fn compile(&self, tenant: &TenantId, tier: Tier, component: &Bytes) -> Result<Bytes, CompileError> {
        let limits = self.settings.compile_limits(tier);
        let turn = self.turns.wait(tenant, 1, limits.timeout).await.map_err(|_| CompileError::Busy)?;
        let began = Instant::now();
        let compiled = self.compile_apart(component, &limits).await;
        drop(turn);
        let code = compiled.as_ref().map_or_else(CompileError::code, |_| "ok");
        metrics::counter!("souk_hook_compiles_total", "outcome" => code).increment(1);
        metrics::histogram!("souk_hook_compile_seconds").record(began.elapsed().as_secs_f64());
        Ok(self.key.seal(&Digest::of(component), &self.hash, &compiled?))
    }

    async fn compile_apart(&self, component: &[u8], limits: &CompileLimits) -> Result<Vec<u8>, CompileError> {
        let mut child = self.spawn().map_err(|error| CompileError::Failed(error.to_string()))?;
        let exchange = tokio::time::timeout(limits.timeout, exchange(&mut child, component, limits)).await;
        match exchange {
            Ok(answer) => answer,
            // The child is killed as it is dropped.
            Err(_) => Err(CompileError::TimedOut(limits.timeout.as_secs())),
        }
    }

    fn spawn(&self) -> std::io::Result<Child> {
        Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
    }
}

/// Compiles a component in this process, with no limits: for authors' own tools, which compile what is theirs, and for tests.
///
/// # Errors
/// [`CompileError::Refused`]
pub fn compile_here(component: &[u8], key: &SealingKey) -> Result<Bytes, CompileError> {
    let refused = |error: wasmtime::Error| CompileError::Refused(format!("{error:#}"));
    let engine = Engine::new(&compiling()).map_err(refused)?;
    let compiled = engine.precompile_component(component).map_err(refused)?;
    Ok(key.seal(&Digest::of(component), &EngineHash::of(&engine), &compiled))
}

/// Gives the child its work, and takes what it says.
async fn exchange(child: &mut Child, component: &[u8], limits: &CompileLimits) -> Result<Vec<u8>, CompileError> {
    let failed = |what: &str| CompileError::Failed(what.to_owned());
    let (mut stdin, stdout) = child.stdin.take().zip(child.stdout.take()).ok_or_else(|| failed("it has no pipes"))?;
    let terms = Terms {
        processor_s: limits.processor.as_secs(),
        memory_bytes: limits.memory_bytes as u64,
        output_bytes: limits.output_bytes as u64,
    };
    let mut line = serde_json::to_vec(&terms).map_err(|error| failed(&error.to_string()))?;
    line.push(b'\n');
    let give = async move {
        // Where the child is gone, its end says why.
        if stdin.write_all(&line).await.is_ok() && stdin.write_all(component).await.is_ok() {
            let _ = stdin.shutdown().await;
        }
    };
    let mut answer = Vec::new();
    let mut stdout = stdout.take(limits.output_bytes as u64 + 2);
    let ((), taken) = tokio::join!(give, stdout.read_to_end(&mut answer));
    taken.map_err(|error| failed(&error.to_string()))?;
    let status = child.wait().await.map_err(|error| failed(&error.to_string()))?;
    understand(answer, status, limits)
}

fn understand(mut answer: Vec<u8>, status: ExitStatus, limits: &CompileLimits) -> Result<Vec<u8>, CompileError> {
    match (status.success(), answer.first()) {
        (true, Some(&COMPILED)) if answer.len() <= limits.output_bytes => {
            answer.remove(0);
            Ok(answer)
        }
        (true, Some(&COMPILED)) => Err(CompileError::TookTooMuch(limits.memory_bytes as u64 >> 20)),
        (true, Some(&REFUSED)) => Err(CompileError::Refused(String::from_utf8_lossy(&answer[1..]).into_owned())),
        _ => Err(why_it_ended(status, limits)),
    }
}

/// The limits that a child sets itself end it with signals: of processor time with SIGXCPU, then with SIGKILL; without memory it
/// aborts.
fn why_it_ended(status: ExitStatus, limits: &CompileLimits) -> CompileError {
    match status.signal() {
        Some(libc::SIGXCPU | libc::SIGKILL) => CompileError::TookTooLong(limits.processor.as_secs()),
        Some(libc::SIGABRT) => CompileError::TookTooMuch(limits.memory_bytes as u64 >> 20),
        _ => CompileError::Failed(status.to_string()),
    }
}
