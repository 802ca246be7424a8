//! Progress of fetching, checking and reading a base model.

/// A moment in fetching or reading a base model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes done in this stage.
    pub done_bytes: u64,
    /// Bytes of the whole stage, where they are known.
    pub total_bytes: Option<u64>,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Another process is pulling the same model.
    Waiting,
    /// Bytes come over the network.
    Downloading,
    /// The model is taken out of its package.
    Unpacking,
    /// The digest of a file is computed.
    Verifying,
    /// Weights are read and laid out for the kernels.
    Loading,
}

impl Stage {
    /// The stage in words, for the start of a line: `downloading`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting for another pull",
            Self::Downloading => "downloading",
            Self::Unpacking => "unpacking",
            Self::Verifying => "verifying",
            Self::Loading => "loading",
        }
    }
}

/// Is told of progress, several times a second at most in the slow stages.
pub type OnProgress<'a> = &'a mut dyn FnMut(LoadProgress);
