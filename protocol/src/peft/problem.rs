//! What is wrong with an adapter: a stable code, what it concerns, and a sentence with what was expected and given.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Most problems that are listed; the rest are counted. A hostile file has thousands.
pub const MAX_LISTED_PROBLEMS: usize = 64;

/// The kind of a problem, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// The weights file is of another format: pickle, zip, GGUF, ...
    NotSafetensors,
    /// The safetensors header is not what the format says.
    HeaderInvalid,
    /// A header, configuration or list is larger than the limit.
    TooLarge,
    /// A JSON object has a key twice; readers disagree on which one counts.
    DuplicateKey,
    /// A tensor's name is outside the grammar.
    TensorName,
    /// A tensor's type is not F16, BF16 or F32.
    TensorType,
    /// A tensor's shape and byte range disagree.
    TensorSize,
    /// Tensors overlap or leave holes.
    TensorLayout,
    /// The file ends before its data does.
    Truncated,
    /// The file goes on after its data.
    TrailingBytes,
    /// A tensor has NaN or infinity in it.
    NotFinite,
    /// The configuration is not a JSON object.
    ConfigInvalid,
    /// A field has a value of the wrong type or range.
    FieldInvalid,
    /// `peft_type` is not `LORA`.
    UnsupportedPeftType,
    /// A known option that changes the answers and is not supported.
    UnsupportedOption,
    /// An option that this version does not know and that is set.
    UnknownOption,
    /// The adapter was made for another base model.
    WrongBase,
    /// The configuration's name of the base model says nothing, and neither does the publisher.
    BaseNotNamed,
    /// The configuration asks for a tensor that the file lacks.
    MissingTensor,
    /// The file has a tensor that the configuration does not ask for.
    UnexpectedTensor,
    /// A tensor's shape does not fit the base model.
    WrongShape,
    /// A pair's rank is not the configuration's, or its halves differ.
    RankMismatch,
    /// A rank is outside the limits.
    RankRange,
    /// A layer that the base model does not have.
    LayerOutOfRange,
    /// Nothing of the base model is changed.
    NoEffect,
    /// Some pairs change nothing. A warning.
    DeadPairs,
    /// The chat template does not compile, or fails on a simple conversation.
    TemplateInvalid,
    /// A file beside the adapter is not what its name says.
    FileInvalid,
    /// A token that the base model's vocabulary does not have. A warning, unless the chat template writes it.
    AddedTokens,
    /// A file, or a part of one, that makes no difference. A warning.
    NotUsed,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The kind.
    pub code: ProblemCode,
    /// The configuration field, tensor or file that it concerns, cut to 200 characters.
    pub subject: String,
    /// A sentence for the adapter's author.
    pub message: String,
}

impl Problem {
    /// A problem with `subject`.
    #[must_use]
    pub fn new(code: ProblemCode, subject: impl AsRef<str>, message: impl Into<String>) -> Self {
        Self { code, subject: clip(subject.as_ref(), 200), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.message)
    }
}

/// Everything that is wrong with an adapter; at least one problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problems {
    /// The first [`MAX_LISTED_PROBLEMS`] of them, in the order found.
    pub listed: Vec<Problem>,
    /// How many more there are.
    pub num_unlisted: usize,
}

impl Problems {
    /// Whether a problem of this kind is listed.
    #[must_use]
    pub fn has(&self, code: ProblemCode) -> bool {
        self.listed.iter().any(|problem| problem.code == code)
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self { listed: vec![problem], num_unlisted: 0 }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.listed.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        if self.num_unlisted > 0 {
            write!(f, "; and {} more", self.num_unlisted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Collects problems while a check goes on.
#[derive(Debug, Default)]
pub(super) struct ProblemList {
    listed: Vec<Problem>,
    num_unlisted: usize,
}

impl ProblemList {
    pub(super) fn push(&mut self, problem: Problem) {
        if self.listed.len() < MAX_LISTED_PROBLEMS {
            self.listed.push(problem);
        } else {
            self.num_unlisted += 1;
        }
    }

    pub(super) fn add(&mut self, code: ProblemCode, subject: impl AsRef<str>, message: impl Into<String>) {
        self.push(Problem::new(code, subject, message));
    }

    pub(super) fn append(&mut self, problems: Problems) {
        self.num_unlisted += problems.num_unlisted;
        for problem in problems.listed {
            self.push(problem);
        }
    }

    /// How many were found so far; a check compares before and after to see whether it passed.
    pub(super) fn count(&self) -> usize {
        self.listed.len() + self.num_unlisted
    }

    /// `value` if nothing was found.
    pub(super) fn into_result<T>(self, value: T) -> Result<T, Problems> {
        if self.listed.is_empty() {
            return Ok(value);
        }
        Err(Problems { listed: self.listed, num_unlisted: self.num_unlisted })
    }

    /// What was found, if anything.
    pub(super) fn into_problems(self) -> Option<Problems> {
        self.into_result(()).err()
    }
}

/// The first `max_chars` characters of `text`, with a mark where something was cut. What a stranger sends is shown
/// back to them, and logged, only up to a length.
pub(super) fn clip(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
