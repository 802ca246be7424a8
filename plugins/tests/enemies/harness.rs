//! A host, and hooks in it that were compiled in this process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use souk_plugins::intake::{self, Bounds, IntakeError};
use souk_plugins::words::{Input, Parameters, Piece, PromptOutcome, Request};
use souk_plugins::{
    CallContext, Compiler, CountTokens, Hook, HookError, HookErrorKind, HookSettings, Host, LoadError, Measured,
    Report, SealingKey, Tier, compile_here,
};
use souk_protocol::gate::Weight;
use souk_protocol::{Digest, TenantId};

/// A host with small limits, so that every enemy meets one soon.
pub(crate) struct Harness {
    pub(crate) host: Host,
    pub(crate) key: SealingKey,
    pub(crate) settings: HookSettings,
}

/// One token for each four bytes begun.
pub(crate) struct Quarters;

impl CountTokens for Quarters {
    fn count(&self, text: &str) -> u32 {
        u32::try_from(text.len().div_ceil(4)).unwrap()
    }
}

impl Harness {
    pub(crate) fn new() -> Self {
        Self::with(HookSettings::default())
    }

    pub(crate) fn with(settings: HookSettings) -> Self {
        let key = SealingKey::new(SecretString::from("a key for tests alone"));
        Self { host: Host::start(&settings, key.clone()).unwrap(), key, settings }
    }

    /// Checks, compiles and loads a component.
    pub(crate) async fn hook(&self, component: &[u8]) -> Arc<Hook> {
        self.check(component).unwrap();
        self.load(component).await.unwrap()
    }

    pub(crate) async fn load(&self, component: &[u8]) -> Result<Arc<Hook>, LoadError> {
        let sealed = compile_here(component, &self.key).map_err(|error| LoadError::NotToBeHad(error.to_string()));
        self.host.load(&Digest::of(component), async { sealed }).await
    }

    pub(crate) fn check(&self, component: &[u8]) -> Result<Report, IntakeError> {
        intake::check(component, &Bounds::new(&self.settings, Tier::Usual, &self.settings.limits))
    }

    /// A compiler with a child.
    pub(crate) fn compiler(&self) -> Compiler {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_compile-hook"));
        Compiler::new(program, Vec::new(), self.settings.clone(), self.key.clone())
    }

    /// What a call of the hook's owner has.
    pub(crate) fn context(&self) -> CallContext {
        CallContext {
            tenant: TenantId::from_stored("owner"),
            weight: Weight::USUAL,
            limits: self.settings.limits,
            may_log: true,
            config: Arc::from("{}"),
            variables: Arc::new(BTreeMap::new()),
            clock_s: 1_767_225_600,
            seed: 7,
            tokens: Arc::new(Quarters),
        }
    }

    /// Calls a component's `prompt`.
    pub(crate) async fn prompt(&self, component: &[u8]) -> Result<(PromptOutcome, Measured), HookError> {
        self.hook(component).await.prompt(&self.context(), text("hello")).await
    }

    /// How a component's `prompt` fails.
    pub(crate) async fn failure(&self, component: &[u8]) -> HookError {
        self.prompt(component).await.unwrap_err()
    }

    pub(crate) async fn failure_kind(&self, component: &[u8]) -> HookErrorKind {
        self.failure(component).await.kind
    }
}

/// A request for what follows a text.
pub(crate) fn text(text: &str) -> Request {
    Request {
        input: Input::Text(text.to_owned()),
        parameters: Parameters::default(),
        constraint: None,
        adapter: None,
        tools: None,
        choices: 1,
        is_streamed: false,
        metadata: Vec::new(),
    }
}

pub(crate) fn piece(text: &str) -> Piece {
    Piece { text: text.to_owned(), tokens: Vec::new() }
}

/// Settings whose calls end after some processor time, and not for want of fuel before.
pub(crate) fn with_processor(time: Duration) -> HookSettings {
    let mut settings = HookSettings::default();
    settings.limits.processor = time;
    settings.limits.max_fuel = settings.ceiling.max_fuel;
    settings
}
