//! The parts of an upload: how many there are, how long each is, and which have arrived.

use souk_protocol::Digest;

use crate::db::DirectUploadRow;
use crate::error::{Finding, RegistryError};
use crate::objects::{Begun, DirectPart};

/// Most parts that one call asks addresses for: some gigabytes, in an answer of some 100 KiB.
const MAX_ADDRESSES: usize = 100;
/// How many of the missing parts an error names.
const MAX_NAMED: usize = 8;

/// A part that a caller wants to send, unchecked.
pub(crate) struct PartRequest {
    /// From 1.
    pub(crate) number: u64,
    /// SHA-256 of its bytes.
    pub(crate) digest: String,
}

impl DirectUploadRow {
    /// The upload as the store is asked about it.
    pub(super) fn begun(&self) -> Begun<'_> {
        Begun { upload: &self.upload_id, store_id: self.store_id.as_deref() }
    }

    /// How many parts it has.
    pub(crate) fn num_parts(&self) -> u64 {
        self.bytes().div_ceil(self.most_part_bytes())
    }

    /// The length of a part, if there is one of this number.
    fn bytes_of_part(&self, number: u64) -> Option<u64> {
        let before = number.checked_sub(1)?.checked_mul(self.most_part_bytes())?;
        let left = self.bytes().checked_sub(before).filter(|left| *left > 0)?;
        Some(left.min(self.most_part_bytes()))
    }

    fn bytes(&self) -> u64 {
        u64::try_from(self.size_bytes).unwrap_or_default()
    }

    fn most_part_bytes(&self) -> u64 {
        u64::try_from(self.part_bytes).unwrap_or_default().max(1)
    }
}

/// The parts that addresses are asked for, with the length that each must have.
pub(super) fn check_parts(row: &DirectUploadRow, asked: Vec<PartRequest>) -> Result<Vec<DirectPart>, RegistryError> {
    let mut wrong = Vec::new();
    if !(1..=MAX_ADDRESSES).contains(&asked.len()) {
        wrong.push(Finding::field("parts", format!("1 to {MAX_ADDRESSES} parts, given {}", asked.len())));
    }
    let mut parts = Vec::new();
    for (index, part) in asked.into_iter().take(MAX_ADDRESSES).enumerate() {
        match (row.bytes_of_part(part.number), part.digest.parse::<Digest>()) {
            (Some(size_bytes), Ok(digest)) => {
                parts.push(DirectPart { number: part.number, size_bytes, sha256: *digest.as_bytes() });
            }
            (size_bytes, digest) => {
                if size_bytes.is_none() {
                    let detail = format!("1 to {}, given {}", row.num_parts(), part.number);
                    wrong.push(Finding::field(format!("parts[{index}].number"), detail));
                }
                if let Err(error) = digest {
                    wrong.push(Finding::field(format!("parts[{index}].digest"), error.to_string()));
                }
            }
        }
    }
    RegistryError::unless_valid(wrong)?;
    Ok(parts)
}

/// Whether every part has arrived with its length.
pub(super) fn check_arrived(row: &DirectUploadRow, arrived: &[DirectPart]) -> Result<(), RegistryError> {
    let has = |number: u64| {
        let size = row.bytes_of_part(number);
        arrived.iter().any(|part| part.number == number && Some(part.size_bytes) == size)
    };
    let num_parts = row.num_parts();
    let missing: Vec<_> = (1..=num_parts).filter(|number| !has(*number)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let named: Vec<_> = missing.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    let more = if missing.len() > MAX_NAMED { ", …" } else { "" };
    let first = format!("{}{more}", named.join(", "));
    Err(RegistryError::PartsMissing { num_parts, num_missing: missing.len() as u64, first })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(size_bytes: i64, part_bytes: i64) -> DirectUploadRow {
        DirectUploadRow {
            upload_id: String::new(),
            tenant_id: String::new(),
            adapter_id: String::new(),
            version: String::new(),
            digest: String::new(),
            size_bytes,
            part_bytes,
            expires_at_ms: 0,
            store_id: None,
        }
    }

    proptest! {
        #[test]
        fn the_parts_of_an_upload_have_its_bytes_and_each_but_the_last_is_full(size in 1..100_000_i64, part in 1..5_000_i64) {
            let row = row(size, part);
            let sizes: Vec<_> = (1..=row.num_parts()).map(|number| row.bytes_of_part(number).unwrap()).collect();
            prop_assert_eq!(sizes.iter().sum::<u64>(), size as u64);
            prop_assert!(sizes[..sizes.len() - 1].iter().all(|bytes| *bytes == part as u64));
            prop_assert_eq!(row.bytes_of_part(0), None);
            prop_assert_eq!(row.bytes_of_part(row.num_parts() + 1), None);
            prop_assert_eq!(row.bytes_of_part(u64::MAX), None);
        }

        #[test]
        fn whatever_arrived_is_enough_only_if_every_part_is_there_with_its_length(
            size in 1..200_i64,
            arrived in proptest::collection::vec((0..12_u64, 0..40_u64), 0..12)
        ) {
            let row = row(size, 20);
            let parts: Vec<_> = arrived
                .iter()
                .map(|(number, size_bytes)| DirectPart { number: *number, size_bytes: *size_bytes, sha256: [0; 32] })
                .collect();
            let is_whole = (1..=row.num_parts())
                .all(|number| arrived.contains(&(number, row.bytes_of_part(number).unwrap())));
            prop_assert_eq!(check_arrived(&row, &parts).is_ok(), is_whole);
        }
    }
}
