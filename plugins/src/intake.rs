//! The check of an upload, before anything of it is compiled: is it a component, does it want only what is offered, does it do
//! something, and is it small enough everywhere that compiling it will end.
//!
//! The sections are read first, so that what is wrong is told in words of hooks; only then is it validated, with what hooks may use of
//! WebAssembly: what every engine has, without threads, garbage collection, exceptions or 64-bit memories.

mod error;
mod outline;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use souk_protocol::Digest;
use wasmparser::{Validator, WasmFeatures};

pub use self::error::IntakeError;
use self::outline::Outline;
use crate::generation::{IMPORTS, InterfaceName, PACKAGE};
use crate::limits::{Limits, MAX_INSTANCES};
use crate::settings::{HookSettings, Tier};

/// What a hook does, as it exports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Export {
    /// It is asked before the model.
    Prompt,
    /// It is asked after the model, of whole answers.
    Answer,
    /// It is asked after the model, piece by piece.
    Stream,
    /// It says what it is.
    Describe,
}

impl Export {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Prompt, Self::Answer, Self::Stream, Self::Describe];

    /// The name of its interface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Answer => "answer",
            Self::Stream => "stream",
            Self::Describe => "describe",
        }
    }
}

/// What was found out about a component that is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Of its bytes.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
    /// The generation of the interface that it was built for.
    pub generation: String,
    /// What it does.
    pub exports: BTreeSet<Export>,
    /// What it asks for, as `log` or `config`: all that it can reach.
    pub imports: BTreeSet<String>,
    /// Functions in it.
    pub num_functions: u64,
    /// Bytes of the largest.
    pub largest_function_bytes: u64,
    /// Most local variables of one.
    pub most_locals: u64,
    /// Memory that it begins with.
    pub memory_bytes: u64,
}

/// What a component may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of it.
    pub component_bytes: usize,
    /// Bytes of a function. Compiling takes more than in proportion to it.
    pub function_bytes: u64,
    /// Functions.
    pub functions: u64,
    /// Local variables of a function. The time of compiling one is in proportion to them as well.
    pub locals: u64,
    /// Bytes of memory to begin with.
    pub memory_bytes: u64,
    /// Entries of tables to begin with.
    pub table_elements: u64,
}

/// Core modules and components within a component; Python's has 38 modules.
const MAX_PARTS: u64 = 128;
/// How deep components may lie in one another: a tool that puts hooks together makes two levels.
const MAX_DEPTH: u64 = 4;
/// Instances of modules and components. Most are lists of names that pass something on.
const MAX_LISTED_INSTANCES: u64 = 16 * MAX_INSTANCES as u64;
/// Names in a message are cut to so many characters.
const NAMES_CHARS: usize = 400;

impl Bounds {
    /// Those of a tier for a hook that will run under `limits`.
    #[must_use]
    pub fn new(settings: &HookSettings, tier: Tier, limits: &Limits) -> Self {
        let (function_bytes, functions, locals) = match tier {
            // The largest function of QuickJS has 54 KB, that of the Python interpreter 427 KB.
            Tier::Usual => (128 << 10, 20_000, 2_000),
            Tier::Large => (1 << 20, 100_000, 20_000),
        };
        Self {
            component_bytes: settings.component_bytes(tier),
            function_bytes,
            functions,
            locals,
            memory_bytes: limits.memory_bytes as u64,
            table_elements: limits.max_table_elements as u64,
        }
    }
}

/// Looks at uploaded bytes. Takes a few milliseconds for each megabyte, and memory in proportion.
///
/// # Errors
/// [`IntakeError`] with what its author can do.
pub fn check(bytes: &[u8], bounds: &Bounds) -> Result<Report, IntakeError> {
    if bytes.len() > bounds.component_bytes {
        return Err(IntakeError::TooLarge { given: bytes.len(), limit: bounds.component_bytes });
    }
    check_kind(bytes)?;
    let outline = Outline::read(bytes).map_err(invalid)?;
    let imports = check_imports(&outline)?;
    let (generation, exports) = check_exports(&outline)?;
    check_bounds(&outline, bounds)?;
    Validator::new_with_features(features()).validate_all(bytes).map_err(invalid)?;
    Ok(Report {
        digest: Digest::of(bytes),
        size_bytes: bytes.len() as u64,
        generation,
        exports,
        imports,
        num_functions: outline.num_functions,
        largest_function_bytes: outline.function_bytes,
        most_locals: outline.num_locals,
        memory_bytes: outline.memory_bytes,
    })
}

/// What hooks may use of WebAssembly: the same as [`engine`](crate::engine) runs.
fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::SIMD
        | WasmFeatures::FLOATS
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::COMPONENT_MODEL
}

fn check_kind(bytes: &[u8]) -> Result<(), IntakeError> {
    // The last two bytes before the end tell components (1) from core modules (0).
    match bytes {
        [] => Err(IntakeError::Empty),
        [0x7f, b'E', b'L', b'F', ..] => Err(IntakeError::MachineCode),
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => Err(IntakeError::CoreModule),
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(()),
        _ if bytes.trim_ascii_start().starts_with(b"(") => Err(IntakeError::Text),
        _ => {
            let begins = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            Err(IntakeError::NotWasm { begins })
        }
    }
}

fn check_imports(outline: &Outline) -> Result<BTreeSet<String>, IntakeError> {
    let wasi: Vec<&str> = outline.imports.iter().map(String::as_str).filter(|name| name.starts_with("wasi:")).collect();
    if !wasi.is_empty() {
        return Err(IntakeError::Wasi { names: shortened(&wasi.join(", ")) });
    }
    let mut imports = BTreeSet::new();
    for name in &outline.imports {
        let foreign = || IntakeError::ForeignImport { name: shortened(name), offered: IMPORTS[1..].join(", ") };
        let ours = InterfaceName::parse(name).filter(InterfaceName::is_ours).ok_or_else(foreign)?;
        if !ours.is_released() {
            return Err(IntakeError::OtherVersion { name: shortened(name) });
        }
        if !IMPORTS.contains(&ours.interface) {
            return Err(foreign());
        }
        // The first has types alone.
        if ours.interface != IMPORTS[0] {
            imports.insert(ours.interface.to_owned());
        }
    }
    Ok(imports)
}

fn check_exports(outline: &Outline) -> Result<(String, BTreeSet<Export>), IntakeError> {
    let (mut generations, mut exports) = (BTreeSet::new(), BTreeSet::new());
    for name in &outline.exports {
        // Whatever else there is, nobody calls: QuickJS leaves its `init`.
        let Some(ours) = InterfaceName::parse(name).filter(InterfaceName::is_ours) else { continue };
        let other = || IntakeError::OtherVersion { name: shortened(name) };
        let version = ours.version.filter(|_| ours.is_released()).ok_or_else(other)?;
        let known = Export::ALL.into_iter().find(|export| export.as_str() == ours.interface);
        exports.insert(known.ok_or_else(other)?);
        generations.insert(version.to_owned());
    }
    if exports.iter().all(|export| *export == Export::Describe) {
        return Err(IntakeError::NothingExported);
    }
    let generation = generations.pop_last().ok_or(IntakeError::NothingExported)?;
    if let Some(another) = generations.pop_last() {
        return Err(IntakeError::OtherVersion { name: format!("{PACKAGE} {another} beside {generation}") });
    }
    Ok((generation, exports))
}

fn check_bounds(outline: &Outline, bounds: &Bounds) -> Result<(), IntakeError> {
    let counts = [
        ("parts:", outline.num_modules + outline.num_components, MAX_PARTS),
        ("components in one another:", outline.depth, MAX_DEPTH),
        ("instances:", outline.num_instances, MAX_LISTED_INSTANCES),
        ("functions:", outline.num_functions, bounds.functions),
        ("a function of bytes:", outline.function_bytes, bounds.function_bytes),
        ("a function with locals:", outline.num_locals, bounds.locals),
        ("bytes of memory to begin with:", outline.memory_bytes, bounds.memory_bytes),
        ("entries of tables to begin with:", outline.table_elements, bounds.table_elements),
    ];
    match counts.into_iter().find(|(_, given, limit)| given > limit) {
        Some((what, given, limit)) => Err(IntakeError::TooMuch { what, given, limit }),
        None => Ok(()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn invalid(error: wasmparser::Error) -> IntakeError {
    IntakeError::Invalid(shortened(&error.to_string()))
}

fn shortened(text: &str) -> String {
    text.chars().take(NAMES_CHARS).collect()
}
