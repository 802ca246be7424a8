//! A gateway whose callers and adapters have hooks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use async_trait::async_trait;
use axum::body::Bytes;
use serde_json::{Value, json};
use souk_gateway::{HookSource, HookSourceError, Hooks, HooksParts};
use souk_plugins::{Compiler, HookSettings, Host, SealingKey, compile_here};
use souk_protocol::hooks::{Attached, CallerHooks, HookLimits, HookLine, OnFailure, Part, Share, Standing, Step};
use souk_protocol::ids::HookVersionId;
use souk_protocol::{Digest, TenantId};

use crate::stack::Around;

/// The tenant of the tests' key.
pub(crate) const OWN: &str = "ten_acme";
/// Another tenant, whose hooks some of them are.
pub(crate) const STRANGER: &str = "ten_stranger";

/// A component of the tests' guests.
pub(crate) fn guest(name: &str) -> Bytes {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../plugins/tests/guests/{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
}

/// Where the tests' hooks are kept: compiled here, once in a process.
#[derive(Default)]
pub(crate) struct House {
    sealed: Mutex<HashMap<Digest, Bytes>>,
    /// What hooks said.
    pub(crate) lines: Mutex<Vec<HookLine>>,
    num_asked: AtomicUsize,
}

impl House {
    /// How often something was asked for.
    pub(crate) fn num_asked(&self) -> usize {
        self.num_asked.load(Ordering::Acquire)
    }

    /// Has a hook no more.
    pub(crate) fn lose(&self, digest: &Digest) {
        self.sealed.lock().unwrap().remove(digest);
    }

    /// Waits for so many lines.
    pub(crate) async fn lines(&self, num_lines: usize) -> Vec<HookLine> {
        for _ in 0..500 {
            if self.lines.lock().unwrap().len() >= num_lines {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        std::mem::take(&mut *self.lines.lock().unwrap())
    }

    fn keep(&self, component: &Bytes) -> Digest {
        static COMPILED: OnceLock<Mutex<HashMap<Digest, Bytes>>> = OnceLock::new();
        let digest = Digest::of(component);
        let mut compiled = COMPILED.get_or_init(Mutex::default).lock().unwrap();
        let sealed = compiled.entry(digest).or_insert_with(|| compile_here(component, &key()).unwrap());
        self.sealed.lock().unwrap().insert(digest, sealed.clone());
        digest
    }
}

#[async_trait]
impl HookSource for House {
    async fn artifact(&self, digest: &Digest, engine: &str) -> Result<Option<Bytes>, HookSourceError> {
        self.num_asked.fetch_add(1, Ordering::AcqRel);
        assert_eq!(engine, host().engine_hash().to_string());
        Ok(self.sealed.lock().unwrap().get(digest).cloned())
    }

    async fn component(&self, _digest: &Digest) -> Result<Bytes, HookSourceError> {
        Err(HookSourceError::NotFound)
    }

    async fn write_lines(&self, lines: Vec<HookLine>) -> Result<(), HookSourceError> {
        self.lines.lock().unwrap().extend(lines);
        Ok(())
    }
}

fn key() -> SealingKey {
    SealingKey::new("a sealing key of the tests, long enough".to_owned().into())
}

/// The host of the test process.
fn host() -> Arc<Host> {
    static HOST: OnceLock<Arc<Host>> = OnceLock::new();
    Arc::clone(HOST.get_or_init(|| Arc::new(Host::start(&settings(), key()).unwrap())))
}

fn settings() -> HookSettings {
    // A debug build on a busy machine: fuel is what ends a hook here.
    let defaults = HookSettings::default();
    let mut limits = defaults.limits;
    limits.processor = std::time::Duration::from_secs(20);
    limits.stream_processor = limits.processor;
    HookSettings { limits, ceiling: limits, ..defaults }
}

/// Data of a gateway with hooks; what they are kept in comes along.
pub(crate) fn around() -> (Around, Arc<House>) {
    let house = Arc::new(House::default());
    let hooks = Hooks::new(HooksParts {
        host: host(),
        compiler: Arc::new(Compiler::new("/nonexistent".into(), Vec::new(), settings(), key())),
        source: Arc::clone(&house) as Arc<dyn HookSource>,
        settings: settings(),
    });
    (Around { hooks, ..Around::default() }, house)
}

/// A step of the caller's own with a guest.
pub(crate) fn step(house: &House, guest_name: &str, config: &Value) -> Step {
    let digest = house.keep(&guest(guest_name));
    Step {
        hook: format!("acme/{guest_name}").parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        id: HookVersionId::from_stored(format!("hkv_{guest_name}")),
        digest,
        owner: TenantId::from_stored(OWN),
        parts: BTreeSet::from(Part::ALL),
        config: config.to_string().into(),
        on_failure: OnFailure::FailClosed,
        share: Share::ALL,
        standing: Standing::Callable,
    }
}

/// The puppet with what it is told, which has these parts.
pub(crate) fn puppet(house: &House, config: &Value, parts: &[Part]) -> Step {
    Step { parts: parts.iter().copied().collect(), ..step(house, "puppet", config) }
}

/// Has these steps act on the requests of the tests' tenant.
pub(crate) fn of_caller(around: &Around, steps: Vec<Step>) {
    with_caller(around, CallerHooks { of_tenant: steps, ..CallerHooks::default() });
}

/// The same, with all that a caller has.
pub(crate) fn with_caller(around: &Around, hooks: CallerHooks) {
    around.change_tree(|tree| tree.hooks = Some(Arc::new(hooks)));
}

/// Has these steps act on the requests for `acme/sst2`, as its publisher's.
pub(crate) fn of_adapter(around: &Around, steps: Vec<Step>) {
    of_adapter_within(around, steps, HookLimits::default());
}

/// The same, with what the operator said that the publisher's hooks may take.
pub(crate) fn of_adapter_within(around: &Around, steps: Vec<Step>, limits: HookLimits) {
    let variables = BTreeMap::from([("tone".to_owned(), "friendly".to_owned())]);
    let attached = Attached { tenant: TenantId::from_stored(STRANGER), variables: Arc::new(variables), limits, steps };
    around.trees.attach(Some(Arc::new(attached)));
}

/// A chat with the adapter.
pub(crate) fn chat(content: &str) -> Value {
    json!({"model": "acme/sst2", "messages": [{"role": "user", "content": content}]})
}

/// A body with one more field.
pub(crate) fn with(mut body: Value, name: &str, value: impl Into<Value>) -> Value {
    body[name] = value.into();
    body
}
