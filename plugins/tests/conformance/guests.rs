//! Components, and a host that has them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;
use souk_plugins::cases::{Case, FourBytesEach};
use souk_plugins::{CallContext, Hook, HookSettings, Host, LoadError, Report, SealingKey, Tier, compile_here, intake};
use souk_protocol::gate::Weight;
use souk_protocol::{Digest, TenantId};

/// What was recorded: committed components.
pub(crate) fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests")
}

/// What `make guests` built last. Python's are here alone.
pub(crate) fn built() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache"))).expect("there is a home");
    cache.join("souk/guests/built")
}

/// The component of an example.
pub(crate) fn component(folder: &Path, name: &str) -> Vec<u8> {
    let path = folder.join(name).with_extension("wasm");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether a component is of an example; one is for tests alone.
pub(crate) fn has_cases(name: &str) -> bool {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).join("cases").is_dir()
}

/// Every recorded case of an example, by its name.
pub(crate) fn cases(example: &str) -> BTreeMap<String, Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example).join("cases");
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let read = files.map(|file| {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let case = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.file_stem().unwrap().to_string_lossy().into_owned(), case)
    });
    read.collect()
}

/// A host, as an operator has it who changed nothing.
pub(crate) struct Guests {
    host: Host,
    key: SealingKey,
    settings: HookSettings,
}

impl Guests {
    pub(crate) fn new() -> Self {
        let settings = HookSettings::default();
        let key = SealingKey::new(SecretString::from("a key for tests alone, and long enough"));
        Self { host: Host::start(&settings, key.clone()).unwrap(), key, settings }
    }

    /// Checked as an upload is.
    pub(crate) fn check(&self, component: &[u8], tier: Tier) -> Report {
        intake::check(component, &intake::Bounds::new(&self.settings, tier, &self.context(tier).limits)).unwrap()
    }

    pub(crate) async fn hook(&self, component: &[u8]) -> Arc<Hook> {
        let sealed = compile_here(component, &self.key).map_err(|error| LoadError::NotToBeHad(error.to_string()));
        self.host.load(&Digest::of(component), async { sealed }).await.unwrap()
    }

    /// Of the hook's owner. Where large components may be published, the ceiling is the limit as well.
    pub(crate) fn context(&self, tier: Tier) -> CallContext {
        CallContext {
            tenant: TenantId::from_stored("owner"),
            weight: Weight::USUAL,
            limits: if tier == Tier::Large { self.settings.ceiling } else { self.settings.limits },
            may_log: true,
            config: Arc::from("{}"),
            variables: Arc::new(BTreeMap::new()),
            clock_s: 0,
            seed: 0,
            tokens: Arc::new(FourBytesEach),
        }
    }

    /// Runs all cases of an example in a component and says which are not as they were recorded.
    pub(crate) async fn run(&self, example: &str, component: &[u8], tier: Tier) {
        let hook = self.hook(component).await;
        let cases = cases(example);
        assert!(!cases.is_empty(), "{example} has no cases");
        for (name, case) in cases {
            let ran = case.run(&hook, &self.context(tier)).await;
            let ran = ran.unwrap_or_else(|error| panic!("{example}, {name}: {error} {:?}", error.detail));
            assert!(ran.is_as(&case), "{example}, {name}: it made\n{:#?}\nof\n{case:#?}", ran.case);
        }
    }
}
