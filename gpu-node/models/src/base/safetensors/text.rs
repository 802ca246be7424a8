//! Text files that a stranger wrote.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::base::BaseError;

/// Longest JSON file that is read; the largest tokenizers in use have about 35 MB.
const MAX_JSON_BYTES: u64 = 128 << 20;

/// Reads a JSON file.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, BaseError> {
    serde_json::from_str(&read_text(path)?).map_err(|error| BaseError::malformed(path, error.to_string()))
}

pub(super) fn read_optional_json<T: DeserializeOwned + Default>(path: &Path) -> Result<T, BaseError> {
    if path.exists() { read_json(path) } else { Ok(T::default()) }
}

pub(super) fn read_text(path: &Path) -> Result<String, BaseError> {
    let file = File::open(path).map_err(BaseError::io("open", path))?;
    let mut text = String::new();
    let len = file.take(MAX_JSON_BYTES).read_to_string(&mut text).map_err(BaseError::io("read", path))?;
    if len as u64 == MAX_JSON_BYTES {
        return Err(BaseError::malformed(path, format!("it has more than {MAX_JSON_BYTES} bytes")));
    }
    Ok(text)
}
