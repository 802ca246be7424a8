//! A hook that is run here, as a server runs it, with the cases that were recorded of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use secrecy::SecretString;
use souk_plugins::cases::{Case, FourBytesEach};
use souk_plugins::{
    CallContext, Hook, HookSettings, Host, LoadError, Report, SealingKey, Tier, compile_here,
    intake::{self, IntakeError},
};
use souk_protocol::gate::Weight;
use souk_protocol::{Digest, TenantId};

use crate::cli::TriedArgs;

/// What `souk hook build` writes.
pub(super) const COMPONENT: &str = "hook.wasm";

/// A hook, its cases and what it runs with.
pub(super) struct Tried {
    pub(super) hook: Arc<Hook>,
    pub(super) report: Report,
    pub(super) tier: Tier,
    /// How long it took to compile.
    pub(super) compiling: Duration,
    pub(super) context: CallContext,
    pub(super) cases: Vec<Recorded>,
    /// What runs it ends with this.
    _host: Host,
}

/// A case with its file.
pub(super) struct Recorded {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) case: Case,
}

impl Tried {
    /// Compiles a component in this process, which is its author's own, and reads its cases.
    pub(super) async fn load(arguments: &TriedArgs) -> anyhow::Result<Self> {
        let path = &arguments.hook;
        let component = if path.is_dir() { path.join(COMPONENT) } else { path.clone() };
        let bytes = std::fs::read(&component)
            .with_context(|| format!("cannot read {}; `souk hook build` writes it", component.display()))?;
        let (report, tier) = check(&bytes)?;
        let beside = || component.parent().unwrap_or(Path::new(".")).join("cases");
        let cases = read_cases(&arguments.cases.clone().unwrap_or_else(beside))?;

        let settings = HookSettings::default();
        let key = SealingKey::new(SecretString::from("what is compiled here is run here alone"));
        let host = Host::start(&settings, key.clone()).context("hooks cannot be run here")?;
        let began = Instant::now();
        let sealed = compile_here(&bytes, &key).context("it cannot be compiled")?;
        let compiling = began.elapsed();
        let hook = host.load(&Digest::of(&bytes), async { Ok::<_, LoadError>(sealed) }).await?;
        let context = context(&settings, tier);
        Ok(Self { hook, report, tier, compiling, context, cases, _host: host })
    }
}

/// What a hook has in its owner's own call where no operator has changed anything.
fn context(settings: &HookSettings, tier: Tier) -> CallContext {
    CallContext {
        tenant: TenantId::from_stored("author"),
        weight: Weight::USUAL,
        // Who may publish large ones is given more of everything.
        limits: if tier == Tier::Large { settings.ceiling } else { settings.limits },
        may_log: true,
        config: Arc::from("{}"),
        variables: Arc::new(BTreeMap::new()),
        clock_s: 0,
        seed: 0,
        tokens: Arc::new(FourBytesEach),
    }
}

/// Checks a component as it is when it is published; whether it is a large one comes out of it.
pub(super) fn check(bytes: &[u8]) -> Result<(Report, Tier), IntakeError> {
    let settings = HookSettings::default();
    let check =
        |tier, limits| intake::check(bytes, &intake::Bounds::new(&settings, tier, limits)).map(|report| (report, tier));
    match check(Tier::Usual, &settings.limits) {
        Err(IntakeError::TooLarge { .. } | IntakeError::TooMuch { .. }) => check(Tier::Large, &settings.ceiling),
        checked => checked,
    }
}

/// What was found, in a line.
pub(super) fn shown(report: &Report, tier: Tier) -> String {
    let short = |name: &String| name.trim_start_matches("souk:hooks/").split('@').next().unwrap_or_default().to_owned();
    let imports: Vec<_> = report.imports.iter().map(short).filter(|name| name != "types").collect();
    let exports: Vec<_> = report.exports.iter().map(|export| export.as_str()).collect();
    let mut line = format!("{} bytes, exports {}", report.size_bytes, exports.join(", "));
    if !imports.is_empty() {
        let _ = write!(line, ", imports {}", imports.join(", "));
    }
    if tier == Tier::Large {
        line.push_str("; it is large: the operator has to let your tenant publish it (souk hook limits --large true)");
    }
    line
}

fn read_cases(folder: &Path) -> anyhow::Result<Vec<Recorded>> {
    let mut cases = Vec::new();
    let entries = std::fs::read_dir(folder).with_context(|| format!("there are no cases in {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let case = serde_json::from_str(&text).with_context(|| format!("{} is no case", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        cases.push(Recorded { name, path, case });
    }
    ensure!(!cases.is_empty(), "there are no cases in {}", folder.display());
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(cases)
}
