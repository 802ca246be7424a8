//! Why a component is not taken, each with what its author can do.

use crate::generation::RELEASED;

/// Why bytes are not taken as a hook.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// There are none.
    #[error("the upload is empty; send the component's bytes, as `souk hook build` writes them")]
    Empty,
    /// There are too many.
    #[error(
        "the component has {given} bytes and may have {limit}; build it for size, or ask the operator for large ones"
    )]
    TooLarge {
        /// How many there are.
        given: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A core module.
    #[error(
        "this is a core module and no component; `souk hook build` makes one, and so does `wasm-tools component new`"
    )]
    CoreModule,
    /// Machine code.
    #[error(
        "this is machine code (ELF), as compilers for a processor write it; send the component (.wasm) itself, it is compiled here"
    )]
    MachineCode,
    /// The text format.
    #[error("this is the text of a component; send its bytes, as `wasm-tools parse` writes them")]
    Text,
    /// Nothing of that.
    #[error("this is no WebAssembly component: it begins with {begins}")]
    NotWasm {
        /// How, in hexadecimal digits.
        begins: String,
    },
    /// It wants the system.
    #[error(
        "it imports {names}: hooks get nothing of the system, not even an empty interface of it. Build it without WASI: JS and Python with \
         --stub-wasi, Rust with --target wasm32-unknown-unknown, C and Zig without calls that need it (files, clocks, printing); \
         `souk hook build` does so"
    )]
    Wasi {
        /// All of WASI that it imports.
        names: String,
    },
    /// It wants something that there is not.
    #[error("it imports {name}, which is not offered; hooks may import souk:hooks/{offered}")]
    ForeignImport {
        /// What it imports.
        name: String,
        /// What it may.
        offered: String,
    },
    /// It was made for another generation.
    #[error("it was built for {name}, and here are the versions {} of souk:hooks; build it with an SDK of one of those", RELEASED.join(", "))]
    OtherVersion {
        /// Interface and version.
        name: String,
    },
    /// It does nothing.
    #[error("it exports none of souk:hooks/prompt, answer and stream, so there is nothing to call")]
    NothingExported,
    /// Compiling it would take too long, or running it too much.
    #[error("it has {what} {given}, and at most {limit} are taken")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        given: u64,
        /// How much there may be.
        limit: u64,
    },
    /// It is no valid component, or uses what hooks may not.
    #[error("it is not valid: {0}")]
    Invalid(String),
}

impl IntakeError {
    /// A stable word for the cause.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLarge { .. } => "too_large",
            Self::CoreModule => "core_module",
            Self::MachineCode => "machine_code",
            Self::Text => "text",
            Self::NotWasm { .. } => "not_wasm",
            Self::Wasi { .. } => "wasi_import",
            Self::ForeignImport { .. } => "foreign_import",
            Self::OtherVersion { .. } => "other_version",
            Self::NothingExported => "nothing_exported",
            Self::TooMuch { .. } => "too_much",
            Self::Invalid(_) => "invalid",
        }
    }
}
