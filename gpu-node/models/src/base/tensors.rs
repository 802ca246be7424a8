//! What the two file formats have in common for the reader of weights: tensors by name.

use std::path::{Path, PathBuf};

use souk_kernels::cpu::{Matrix, Regions};
use souk_kernels::{KernelError, WeightType};

use super::{BaseError, LoadProgress, OnProgress, Stage};

/// A file, or several, with tensors by name. Implemented for GGUF and for safetensors.
pub(super) trait TensorFiles {
    /// The file or folder, for messages.
    fn path(&self) -> &Path;

    /// Names of all tensors, in no order.
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_>;

    /// Puts the tensor's bytes into `bytes` and returns its type, after its shape and its place in the file have been
    /// checked. `shape` has the outermost dimension first.
    fn read(&mut self, name: &str, shape: &[usize], bytes: &mut Vec<u8>) -> Result<WeightType, BaseError>;

    /// Bytes of all tensors together, for the progress.
    fn total_bytes(&self) -> u64;
}

/// Reads tensors one after the other through one buffer, so that no more than one tensor is held twice.
pub(super) struct TensorReader<'a> {
    files: &'a mut dyn TensorFiles,
    bytes: Vec<u8>,
    progress: LoadProgress,
    on_progress: OnProgress<'a>,
    /// Where the model's matrices lie side by side.
    regions: Regions,
}

impl<'a> TensorReader<'a> {
    pub(super) fn new(files: &'a mut dyn TensorFiles, on_progress: OnProgress<'a>) -> Self {
        let progress = LoadProgress { stage: Stage::Loading, done_bytes: 0, total_bytes: Some(files.total_bytes()) };
        Self { files, bytes: Vec::new(), regions: Regions::new(), progress, on_progress }
    }

    /// The matrix `[rows, cols]`, row `i` of which is the file's row `row_order[i]`.
    pub(super) fn matrix(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
        row_order: Option<&[u32]>,
    ) -> Result<Matrix, BaseError> {
        let weight_type = self.read(name, &[rows, cols])?;
        let packed = Matrix::pack_in(&self.regions, weight_type, rows, cols, &self.bytes, row_order);
        packed.map_err(|source| self.pack_error(name, source))
    }

    /// The vector of `len` numbers, as f32. Norms are all that is read so; they are a few kilobytes.
    pub(super) fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, BaseError> {
        let weight_type = self.read(name, &[len])?;
        let words = self.bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
        let values: Vec<f32> = match weight_type {
            WeightType::F32 => {
                let words = self.bytes.chunks_exact(4);
                words.map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
            }
            WeightType::F16 => words.map(|word| half::f16::from_le_bytes(word).to_f32()).collect(),
            WeightType::BF16 => words.map(|word| half::bf16::from_le_bytes(word).to_f32()).collect(),
            other => {
                return Err(BaseError::Unsupported {
                    path: self.path(),
                    what: format!("type of tensor {name}"),
                    given: format!("{other:?}"),
                    supported: "F32, F16, BF16 for norms",
                });
            }
        };
        Ok(values)
    }

    /// Refuses tensors that nobody asked for: leaving one out would silently change the model.
    pub(super) fn expect_no_others(&self, is_expected: impl Fn(&str) -> bool) -> Result<(), BaseError> {
        match self.files.names().filter(|name| !is_expected(name)).min() {
            None => Ok(()),
            Some(name) => {
                let name: String = name.chars().take(200).collect();
                Err(BaseError::UnexpectedTensor { path: self.path(), name })
            }
        }
    }

    fn read(&mut self, name: &str, shape: &[usize]) -> Result<WeightType, BaseError> {
        let weight_type = self.files.read(name, shape, &mut self.bytes)?;
        self.progress.done_bytes += self.bytes.len() as u64;
        (self.on_progress)(self.progress);
        Ok(weight_type)
    }

    fn path(&self) -> PathBuf {
        self.files.path().to_owned()
    }

    fn pack_error(&self, name: &str, source: KernelError) -> BaseError {
        BaseError::Pack { path: self.path(), name: name.to_owned(), source }
    }
}
