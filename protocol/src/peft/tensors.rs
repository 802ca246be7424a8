//! The safetensors header, by our own checks: 8 bytes of length, that much JSON, then the data of all tensors.
//! <https://github.com/huggingface/safetensors#format> says what is allowed; several points that it leaves to readers
//! (repeated keys, names, a limit on the header) are settled here.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Map, Value};

use super::problem::{Problem, ProblemCode, ProblemList, Problems, clip};
use super::strict_json::{describe, parse_object};
use super::{MAX_HEADER_BYTES, MAX_METADATA_BYTES, MAX_TENSOR_NAME_BYTES, MAX_TENSORS};
use crate::manifest::WEIGHTS_FILE;

/// Bytes of the length in front of the header.
pub(super) const LENGTH_BYTES: usize = 8;
/// Most dimensions of a tensor. Adapters need two.
const MAX_DIMENSIONS: usize = 8;

/// How the numbers of a tensor are stored, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorType {
    /// IEEE half precision.
    F16,
    /// The upper half of a single-precision number.
    BF16,
    /// IEEE single precision.
    F32,
}

impl TensorType {
    /// Bytes of one element.
    #[must_use]
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        match name {
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::BF16),
            "F32" => Some(Self::F32),
            _ => None,
        }
    }
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// As written in the file.
    pub name: String,
    /// Type of its elements.
    pub dtype: TensorType,
    /// Sizes of the dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Where its bytes are in the data section. The length is that of shape and type.
    pub range: Range<u64>,
}

impl TensorEntry {
    /// The tensor's bytes in `data`, the file's data section; `None` if `data` ends too early.
    #[must_use]
    pub fn bytes<'a>(&self, data: &'a [u8]) -> Option<&'a [u8]> {
        data.get(usize::try_from(self.range.start).ok()?..usize::try_from(self.range.end).ok()?)
    }

    /// Number of elements.
    #[must_use]
    pub fn num_elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A header that passed every check: tensors lie one behind the other from 0 to `data_len` without holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorHeader {
    /// All tensors in the order of their data.
    pub tensors: Vec<TensorEntry>,
    /// The file's own `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// Offset of the data section in the file.
    pub data_start: u64,
    /// Length of the data section.
    pub data_len: u64,
}

impl TensorHeader {
    /// How many bytes of the file [`Self::parse`] needs, from the first eight (or all, if the file has fewer). The
    /// answer is at most 8 bytes above [`MAX_HEADER_BYTES`].
    ///
    /// # Errors
    /// [`ProblemCode::NotSafetensors`] naming the format where it is another one, [`ProblemCode::Truncated`],
    /// [`ProblemCode::TooLarge`].
    pub fn bytes_needed(first_bytes: &[u8]) -> Result<usize, Problem> {
        let Some(length) = first_bytes.first_chunk::<LENGTH_BYTES>() else {
            let given = first_bytes.len();
            return Err(Problem::new(
                ProblemCode::Truncated,
                WEIGHTS_FILE,
                format!("expected at least {LENGTH_BYTES} bytes, given {given}"),
            ));
        };
        let header_bytes = u64::from_le_bytes(*length);
        match usize::try_from(header_bytes) {
            Ok(bytes) if bytes <= MAX_HEADER_BYTES => Ok(LENGTH_BYTES + bytes),
            _ => Err(other_format(first_bytes).unwrap_or_else(|| {
                let message = format!("the header may have {MAX_HEADER_BYTES} bytes, this one says {header_bytes}");
                Problem::new(ProblemCode::TooLarge, WEIGHTS_FILE, message)
            })),
        }
    }

    /// Reads the header out of the file's first bytes; more than [`Self::bytes_needed`] do not matter.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(first_bytes: &[u8]) -> Result<Self, Problems> {
        let needed = Self::bytes_needed(first_bytes)?;
        let Some(json) = first_bytes.get(LENGTH_BYTES..needed) else {
            let message = format!("the header ends at byte {needed}, the file at byte {}", first_bytes.len());
            return Err(Problem::new(ProblemCode::Truncated, WEIGHTS_FILE, message).into());
        };
        if json.first() != Some(&b'{') {
            let problem = other_format(first_bytes).unwrap_or_else(|| {
                Problem::new(ProblemCode::HeaderInvalid, WEIGHTS_FILE, "the header does not begin with `{`")
            });
            return Err(problem.into());
        }
        let mut problems = ProblemList::default();
        let Some(object) = parse_object(json, WEIGHTS_FILE, ProblemCode::HeaderInvalid, &mut problems) else {
            return Err(problems.into_problems().expect("a header that is no object is a problem"));
        };
        let header = Self::from_object(object, needed as u64, &mut problems);
        problems.into_result(header)
    }

    /// Compares the file's true length with what the header says.
    ///
    /// # Errors
    /// [`ProblemCode::Truncated`] or [`ProblemCode::TrailingBytes`] with both lengths.
    pub fn check_file_len(&self, file_len: u64) -> Result<(), Problem> {
        // Saturates only for a data length that no file has.
        let expected = self.data_start.saturating_add(self.data_len);
        let code = match file_len.cmp(&expected) {
            std::cmp::Ordering::Equal => return Ok(()),
            std::cmp::Ordering::Less => ProblemCode::Truncated,
            std::cmp::Ordering::Greater => ProblemCode::TrailingBytes,
        };
        let message = format!("by its header the file has {expected} bytes, given {file_len}");
        Err(Problem::new(code, WEIGHTS_FILE, message))
    }

    fn from_object(object: Map<String, Value>, data_start: u64, problems: &mut ProblemList) -> Self {
        let mut metadata = BTreeMap::new();
        let mut tensors = Vec::new();
        if object.len() > MAX_TENSORS + 1 {
            let message = format!("expected at most {MAX_TENSORS} tensors, given {}", object.len());
            problems.add(ProblemCode::TooLarge, WEIGHTS_FILE, message);
            return Self { tensors, metadata, data_start, data_len: 0 };
        }
        for (name, value) in object {
            if name == "__metadata__" {
                metadata = read_metadata(value, problems);
            } else if let Some(tensor) = read_tensor(name, &value, problems) {
                tensors.push(tensor);
            }
        }
        tensors.sort_by(|a, b| (a.range.start, a.range.end, &a.name).cmp(&(b.range.start, b.range.end, &b.name)));
        // A tensor that was refused leaves a hole of its own, which says nothing new.
        if problems.count() == 0 {
            check_layout(&tensors, problems);
        }
        let data_len = tensors.last().map_or(0, |tensor| tensor.range.end);
        Self { tensors, metadata, data_start, data_len }
    }
}

fn read_metadata(value: Value, problems: &mut ProblemList) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::new();
    let mut size_bytes = 0;
    let Value::Object(fields) = value else {
        let message = format!("expected an object of texts, given {}", describe(&value));
        problems.add(ProblemCode::HeaderInvalid, "__metadata__", message);
        return metadata;
    };
    for (key, value) in fields {
        let Value::String(text) = value else {
            let message = format!("expected a text for `{}`, given {}", clip(&key, 80), describe(&value));
            problems.add(ProblemCode::HeaderInvalid, "__metadata__", message);
            continue;
        };
        size_bytes += key.len() + text.len();
        metadata.insert(key, text);
    }
    if size_bytes > MAX_METADATA_BYTES {
        let message = format!("expected at most {MAX_METADATA_BYTES} bytes, given {size_bytes}");
        problems.add(ProblemCode::TooLarge, "__metadata__", message);
    }
    metadata
}

fn read_tensor(name: String, value: &Value, problems: &mut ProblemList) -> Option<TensorEntry> {
    let before = problems.count();
    if !is_tensor_name(&name) {
        let message = format!(
            "a tensor name is 1 to {MAX_TENSOR_NAME_BYTES} letters, digits, `_`, `-` and dots, with no empty part"
        );
        problems.add(ProblemCode::TensorName, &name, message);
    }
    let Value::Object(fields) = value else {
        problems.add(ProblemCode::HeaderInvalid, &name, format!("expected an object, given {}", describe(value)));
        return None;
    };
    for key in fields.keys().filter(|key| !matches!(key.as_str(), "dtype" | "shape" | "data_offsets")) {
        problems.add(ProblemCode::HeaderInvalid, &name, format!("unknown field `{}`", clip(key, 80)));
    }
    let dtype = read_type(fields.get("dtype"), &name, problems);
    let shape = read_sizes(fields.get("shape"), MAX_DIMENSIONS);
    let offsets = read_sizes(fields.get("data_offsets"), 2);
    if shape.is_none() {
        let message = format!("`shape` must be a list of at most {MAX_DIMENSIONS} sizes");
        problems.add(ProblemCode::HeaderInvalid, &name, message);
    }
    let range = offsets.and_then(|ends| match ends[..] {
        [start, end] if start <= end => Some(start as u64..end as u64),
        _ => None,
    });
    if range.is_none() {
        let message = "`data_offsets` must be two offsets, the first not above the second";
        problems.add(ProblemCode::HeaderInvalid, &name, message);
    }
    let (dtype, shape, range) = (dtype?, shape?, range?);
    check_size(&name, dtype, &shape, &range, problems);
    (problems.count() == before).then_some(TensorEntry { name, dtype, shape, range })
}

fn read_type(value: Option<&Value>, name: &str, problems: &mut ProblemList) -> Option<TensorType> {
    let dtype = value.and_then(Value::as_str).and_then(TensorType::from_name);
    if dtype.is_none() {
        let given = value.map_or_else(|| "nothing".to_owned(), describe);
        problems.add(ProblemCode::TensorType, name, format!("`dtype` must be F16, BF16 or F32; given {given}"));
    }
    dtype
}

fn read_sizes(value: Option<&Value>, max_len: usize) -> Option<Vec<usize>> {
    let items = value?.as_array().filter(|items| items.len() <= max_len)?;
    items.iter().map(|item| item.as_u64().and_then(|size| usize::try_from(size).ok())).collect()
}

fn check_size(name: &str, dtype: TensorType, shape: &[usize], range: &Range<u64>, problems: &mut ProblemList) {
    let expected =
        shape.iter().try_fold(dtype.size_bytes(), |bytes, &size| bytes.checked_mul(size)).map(|bytes| bytes as u64);
    let given = range.end - range.start;
    if expected != Some(given) {
        let expected = expected.map_or_else(|| "more than 2^64".to_owned(), |bytes| bytes.to_string());
        let message = format!("shape {shape:?} of {dtype:?} has {expected} bytes, `data_offsets` give {given}");
        problems.add(ProblemCode::TensorSize, name, message);
    }
}

fn check_layout(tensors: &[TensorEntry], problems: &mut ProblemList) {
    let mut end = 0;
    for tensor in tensors {
        if tensor.range.start != end {
            let kind = if tensor.range.start < end { "overlaps the tensor before it" } else { "leaves a hole" };
            let message = format!("expected the data to begin at {end}, given {}: it {kind}", tensor.range.start);
            problems.add(ProblemCode::TensorLayout, &tensor.name, message);
            return;
        }
        end = tensor.range.end;
    }
}

fn is_tensor_name(name: &str) -> bool {
    (1..=MAX_TENSOR_NAME_BYTES).contains(&name.len())
        && name
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'))
}

/// Names the format of a file that is not safetensors, by its first bytes. Asked only once the length or the first
/// byte of the JSON is wrong, since a length may look like another format's mark.
fn other_format(first_bytes: &[u8]) -> Option<Problem> {
    const MARKS: &[(&[u8], &str)] = &[
        (b"PK\x03\x04", "a zip archive, as torch.save writes"),
        (b"PK\x05\x06", "an empty zip archive"),
        (b"\x80\x02", "a pickle file"),
        (b"\x80\x03", "a pickle file"),
        (b"\x80\x04", "a pickle file"),
        (b"\x80\x05", "a pickle file"),
        (b"(dp", "a pickle file"),
        (b"ccopy_reg", "a pickle file"),
        (b"GGUF", "a GGUF file"),
        (b"\x1f\x8b", "a gzip file"),
        (b"\x89HDF", "an HDF5 file"),
        (b"version https://git-lfs", "a git-lfs pointer, not the file that it stands for"),
        (b"{", "a JSON file"),
        (b"<", "a web page or XML file"),
    ];
    // Callers may hold only the eight bytes of the length, so a longer mark is compared as far as there are bytes.
    let matches = |mark: &[u8]| {
        let len = mark.len().min(first_bytes.len());
        len >= mark.len().min(LENGTH_BYTES) && first_bytes[..len] == mark[..len]
    };
    let (_, name) = MARKS.iter().find(|(mark, _)| matches(mark))?;
    let hint = if name.contains("pickle") || name.contains("zip") {
        ", which may run code when read; save the adapter again with `safe_serialization=True`"
    } else {
        ""
    };
    let message = format!("this is {name}{hint}; expected safetensors");
    Some(Problem::new(ProblemCode::NotSafetensors, WEIGHTS_FILE, message))
}

#[cfg(test)]
mod tests;
