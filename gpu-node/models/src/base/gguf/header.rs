//! The header of a GGUF file: metadata and where the tensors are.
//!
//! Souk reads headers itself because files come from strangers: the reader in candle-core divides by an alignment that
//! the file gives and turns each byte of an array into a 32-byte value. Here every length is compared with what is left
//! of the file first, so memory stays within a small multiple of the header's own size.

use std::collections::HashMap;
use std::io::{self, Read};

/// Longest header that is read. The largest vocabularies in use (256 000 tokens) need about 16 MB.
const MAX_HEADER_BYTES: u64 = 64 << 20;
/// Most metadata entries and tensors; real files have a few hundred.
const MAX_ENTRIES: u64 = 1 << 16;
/// Most dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 4;
/// Deepest nesting of arrays; real files have one level.
const MAX_ARRAY_DEPTH: usize = 4;
/// Where tensors begin if the file does not say: at the next multiple of this.
const DEFAULT_ALIGNMENT: u64 = 32;

/// What a GGUF file says before its tensors.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: HashMap<String, Value>,
    pub(super) tensors: HashMap<String, TensorEntry>,
    /// Where in the file the offsets of tensors are counted from.
    pub(super) data_offset: u64,
}

/// Where a tensor is.
#[derive(Debug)]
pub(super) struct TensorEntry {
    /// The format's number for the tensor's type.
    pub(super) type_id: u32,
    /// Outermost dimension first.
    pub(super) shape: Vec<u64>,
    /// From `data_offset`.
    pub(super) offset: u64,
}

/// A metadata value, in the forms that a reader of models needs.
#[derive(Debug, PartialEq)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Integers(Vec<i64>),
    /// An array of anything else, which was passed over.
    Skipped,
}

/// Why a header cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("not a GGUF file: it begins with {0:02x?}")]
    Magic([u8; 4]),
    #[error("GGUF version {0} is not supported; supported: 2, 3")]
    Version(u32),
    #[error("{what}: {given}, more than the limit of {limit}")]
    TooMany { what: &'static str, given: u64, limit: u64 },
    #[error("{what} needs {needed} bytes where the header has {left} left")]
    TooLong { what: &'static str, needed: u64, left: u64 },
    #[error("metadata type {0} is unknown")]
    ValueType(u32),
    #[error("`{0}` appears twice")]
    Duplicate(String),
    #[error("a text in the header is not UTF-8")]
    Text,
    #[error("general.alignment is not a power of two")]
    Alignment,
    #[error("the header ends early or cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl Header {
    /// Reads the header at the start of a file of `file_bytes`.
    pub(super) fn read(reader: impl Read, file_bytes: u64) -> Result<Self, HeaderError> {
        let mut reader = Cursor { reader, position: 0, limit: file_bytes.min(MAX_HEADER_BYTES) };
        let magic = reader.array()?;
        if magic != *b"GGUF" {
            return Err(HeaderError::Magic(magic));
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(HeaderError::Version(version));
        }
        let num_tensors = reader.count("number of tensors")?;
        let num_values = reader.count("number of metadata entries")?;
        let metadata = reader.entries(num_values, |reader| {
            let value_type = reader.u32()?;
            reader.value(value_type, 0)
        })?;
        let tensors = reader.entries(num_tensors, Cursor::tensor)?;
        let alignment = match metadata.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(Value::Unsigned(alignment)) if alignment.is_power_of_two() && *alignment < MAX_HEADER_BYTES => {
                *alignment
            }
            Some(_) => return Err(HeaderError::Alignment),
        };
        Ok(Self { metadata, tensors, data_offset: reader.position.next_multiple_of(alignment) })
    }
}

/// Reads forward and knows how much may still come.
struct Cursor<R> {
    reader: R,
    position: u64,
    limit: u64,
}

impl<R: Read> Cursor<R> {
    /// Makes sure that `len` bytes are left, before anything is allocated for them.
    fn claim(&mut self, what: &'static str, len: u64) -> Result<(), HeaderError> {
        let left = self.limit - self.position;
        if len > left {
            return Err(HeaderError::TooLong { what, needed: len, left });
        }
        self.position += len;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HeaderError> {
        self.claim("a number", N as u64)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, HeaderError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, HeaderError> {
        self.array().map(u64::from_le_bytes)
    }

    fn count(&mut self, what: &'static str) -> Result<u64, HeaderError> {
        let given = self.u64()?;
        if given > MAX_ENTRIES {
            return Err(HeaderError::TooMany { what, given, limit: MAX_ENTRIES });
        }
        Ok(given)
    }

    fn text(&mut self) -> Result<String, HeaderError> {
        let len = self.u64()?;
        self.claim("a text", len)?;
        // `claim` has bounded `len` by MAX_HEADER_BYTES.
        let mut bytes = vec![0; len as usize];
        self.reader.read_exact(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| HeaderError::Text)
    }

    fn entries<T>(
        &mut self,
        count: u64,
        mut read: impl FnMut(&mut Self) -> Result<T, HeaderError>,
    ) -> Result<HashMap<String, T>, HeaderError> {
        let mut entries = HashMap::new();
        for _ in 0..count {
            let name = self.text()?;
            let entry = read(self)?;
            if entries.contains_key(&name) {
                return Err(HeaderError::Duplicate(name.chars().take(200).collect()));
            }
            entries.insert(name, entry);
        }
        Ok(entries)
    }

    fn tensor(&mut self) -> Result<TensorEntry, HeaderError> {
        let num_dimensions = self.u32()?;
        if num_dimensions > MAX_DIMENSIONS {
            let (given, limit) = (num_dimensions.into(), MAX_DIMENSIONS.into());
            return Err(HeaderError::TooMany { what: "dimensions of a tensor", given, limit });
        }
        let mut shape = (0..num_dimensions).map(|_| self.u64()).collect::<Result<Vec<_>, _>>()?;
        shape.reverse();
        Ok(TensorEntry { shape, type_id: self.u32()?, offset: self.u64()? })
    }

    fn value(&mut self, value_type: u32, depth: usize) -> Result<Value, HeaderError> {
        Ok(match value_type {
            0 => Value::Unsigned(u8::from_le_bytes(self.array()?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            7 => Value::Bool(self.array::<1>()? != [0]),
            8 => Value::Text(self.text()?),
            9 => self.array_value(depth)?,
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.array()?)),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            unknown => return Err(HeaderError::ValueType(unknown)),
        })
    }

    fn array_value(&mut self, depth: usize) -> Result<Value, HeaderError> {
        if depth >= MAX_ARRAY_DEPTH {
            let (given, limit) = (depth as u64 + 1, MAX_ARRAY_DEPTH as u64);
            return Err(HeaderError::TooMany { what: "nesting of arrays", given, limit });
        }
        let item_type = self.u32()?;
        let len = self.u64()?;
        // Lists grow as items arrive and every item takes bytes of the header, so a false `len` fails early. Token
        // texts and token types are all that is kept; scores and the like are passed over.
        match item_type {
            4 | 5 => {
                let mut integers = Vec::new();
                for _ in 0..len {
                    integers.push(i32::from_le_bytes(self.array()?).into());
                }
                Ok(Value::Integers(integers))
            }
            8 => {
                let mut texts = Vec::new();
                for _ in 0..len {
                    texts.push(self.text()?);
                }
                Ok(Value::Texts(texts))
            }
            _ => {
                for _ in 0..len {
                    self.value(item_type, depth + 1)?;
                }
                Ok(Value::Skipped)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: &mut Vec<u8>, text: &str) {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    }

    /// A header with every kind of value and one tensor.
    fn header() -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(1u64.to_le_bytes());
        bytes.extend(5u64.to_le_bytes());
        text(&mut bytes, "general.alignment");
        bytes.extend(4u32.to_le_bytes());
        bytes.extend(64u32.to_le_bytes());
        text(&mut bytes, "name");
        bytes.extend(8u32.to_le_bytes());
        text(&mut bytes, "tiny");
        text(&mut bytes, "tokens");
        bytes.extend([9u32.to_le_bytes(), 8u32.to_le_bytes()].concat());
        bytes.extend(2u64.to_le_bytes());
        text(&mut bytes, "a");
        text(&mut bytes, "b");
        text(&mut bytes, "types");
        bytes.extend([9u32.to_le_bytes(), 5u32.to_le_bytes()].concat());
        bytes.extend(2u64.to_le_bytes());
        bytes.extend([1i32.to_le_bytes(), (-3i32).to_le_bytes()].concat());
        text(&mut bytes, "scores");
        bytes.extend([9u32.to_le_bytes(), 6u32.to_le_bytes()].concat());
        bytes.extend(1u64.to_le_bytes());
        bytes.extend(0.5f32.to_le_bytes());
        text(&mut bytes, "weight");
        bytes.extend(2u32.to_le_bytes());
        bytes.extend([32u64.to_le_bytes(), 4u64.to_le_bytes()].concat());
        bytes.extend(2u32.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Header, HeaderError> {
        Header::read(bytes, bytes.len() as u64)
    }

    #[test]
    fn values_and_tensors_are_read_and_the_data_begins_aligned() {
        let header = read(&header()).unwrap();
        assert_eq!(header.metadata["name"], Value::Text("tiny".into()));
        assert_eq!(header.metadata["tokens"], Value::Texts(vec!["a".into(), "b".into()]));
        assert_eq!(header.metadata["types"], Value::Integers(vec![1, -3]));
        assert_eq!(header.metadata["scores"], Value::Skipped);
        assert_eq!(header.tensors["weight"].shape, [4, 32]);
        assert_eq!(header.data_offset % 64, 0);
    }

    #[test]
    fn every_cut_is_refused() {
        let bytes = header();
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "cut to {len} bytes");
        }
    }

    #[test]
    fn a_count_beyond_the_file_is_refused_without_room_for_it() {
        let mut bytes = header();
        bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(read(&bytes), Err(HeaderError::TooMany { .. })));
        let mut bytes = header();
        bytes[24..32].copy_from_slice(&(1u64 << 60).to_le_bytes());
        assert!(matches!(read(&bytes), Err(HeaderError::TooLong { .. })));
    }

    #[test]
    fn an_alignment_of_zero_is_refused() {
        let mut bytes = header();
        let at = 32 + "general.alignment".len() + 4;
        bytes[at..at + 4].fill(0);
        assert!(matches!(read(&bytes), Err(HeaderError::Alignment)));
    }

    proptest! {
        #[test]
        fn no_change_to_a_header_makes_the_reader_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut bytes = header();
            for (index, byte) in changes {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(header) = read(&bytes) {
                prop_assert!(header.metadata.len() <= 5 && header.tensors.len() <= 1);
            }
        }
    }

    #[test]
    fn any_bytes_of_a_gguf_header_are_read_or_refused() {
        souk_testkit::fuzz("gguf_header", |bytes| match read(bytes) {
            Ok(header) => {
                assert!(header.tensors.len() <= bytes.len() && header.data_offset % 8 == 0);
                format!("{} tensors", header.tensors.len())
            }
            Err(error) => error.to_string(),
        });
    }
}
