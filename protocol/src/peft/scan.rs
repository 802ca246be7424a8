//! Looks at every number of weights that arrive in pieces: is it finite, and how much does its pair change.

use super::effect::{EffectSums, Measure};
use super::problem::{ProblemCode, ProblemList, Problems};
use super::tensors::{TensorEntry, TensorHeader, TensorType};

/// Fed with the data section in order, in pieces of any length; reports each tensor that has a number which is not
/// finite, with the index of the first, and sums up what the pairs do. Of the data it holds one half of one pair.
#[derive(Debug)]
pub struct WeightsScan {
    tensors: std::vec::IntoIter<TensorEntry>,
    current: Option<Scanned>,
    problems: ProblemList,
    /// `None` where nothing is measured.
    sums: Option<EffectSums>,
}

#[derive(Debug)]
struct Scanned {
    tensor: TensorEntry,
    /// For halves of pairs.
    measure: Option<Measure>,
    remaining_bytes: u64,
    num_scanned: u64,
    /// Bytes of an element that a piece cut apart.
    partial: [u8; 4],
    partial_len: usize,
    reported: bool,
}

impl WeightsScan {
    /// A scan of the file that `header` describes; with `measures` it sums up what the pairs do, too.
    #[must_use]
    pub fn new(header: &TensorHeader, measures: bool) -> Self {
        let sums = measures.then(EffectSums::default);
        let tensors = header.tensors.clone().into_iter();
        let mut scan = Self { tensors, current: None, problems: ProblemList::default(), sums };
        scan.next_tensor();
        scan
    }

    /// Takes the next piece of the data section. Bytes behind its end are ignored.
    pub fn push(&mut self, mut piece: &[u8]) {
        while let Some(current) = &mut self.current {
            if piece.is_empty() {
                return;
            }
            let take = usize::try_from(current.remaining_bytes).map_or(piece.len(), |left| left.min(piece.len()));
            let (mine, rest) = piece.split_at(take);
            current.scan(mine, &mut self.problems);
            piece = rest;
            if current.remaining_bytes == 0 {
                self.next_tensor();
            }
        }
    }

    /// Ends the scan, with sums that are complete only if the data was.
    ///
    /// # Errors
    /// One [`ProblemCode::NotFinite`] for each tensor that has such a number.
    pub(super) fn finish(self) -> Result<EffectSums, Problems> {
        self.problems.into_result(self.sums.unwrap_or_default())
    }

    fn next_tensor(&mut self) {
        let measured = self.current.take().and_then(|scanned| scanned.measure);
        if let (Some(sums), Some(measure)) = (&mut self.sums, measured) {
            sums.add(measure);
        }
        let measures = self.sums.is_some();
        self.current = self.tensors.find(|tensor| !tensor.range.is_empty()).map(|tensor| Scanned {
            measure: if measures { Measure::of(&tensor) } else { None },
            remaining_bytes: tensor.range.end - tensor.range.start,
            tensor,
            num_scanned: 0,
            partial: [0; 4],
            partial_len: 0,
            reported: false,
        });
    }
}

impl Scanned {
    fn scan(&mut self, mut bytes: &[u8], problems: &mut ProblemList) {
        self.remaining_bytes -= bytes.len() as u64;
        let size = self.tensor.dtype.size_bytes();
        if self.partial_len > 0 {
            let take = (size - self.partial_len).min(bytes.len());
            self.partial[self.partial_len..self.partial_len + take].copy_from_slice(&bytes[..take]);
            self.partial_len += take;
            bytes = &bytes[take..];
            if self.partial_len < size {
                return;
            }
            let whole = self.partial;
            self.scan_whole(&whole[..size], problems);
            self.partial_len = 0;
        }
        let tail = bytes.len() % size;
        let (whole, tail) = bytes.split_at(bytes.len() - tail);
        self.scan_whole(whole, problems);
        self.partial[..tail.len()].copy_from_slice(tail);
        self.partial_len = tail.len();
    }

    fn scan_whole(&mut self, elements: &[u8], problems: &mut ProblemList) {
        let size = self.tensor.dtype.size_bytes();
        if !self.reported
            && let Some(offset) = first_not_finite(self.tensor.dtype, elements)
        {
            let index = self.num_scanned + offset as u64;
            let kind = if is_nan(self.tensor.dtype, &elements[offset * size..][..size]) { "NaN" } else { "infinity" };
            let message = format!("the element {index} (shape {:?}, row-major) is {kind}", self.tensor.shape);
            problems.add(ProblemCode::NotFinite, &self.tensor.name, message);
            self.reported = true;
        }
        if let Some(measure) = self.measure.as_mut().filter(|_| !self.reported) {
            measure.push(self.tensor.dtype, elements);
        }
        self.num_scanned += (elements.len() / size) as u64;
    }
}

/// Index of the first element whose exponent is all ones, which is what infinity and NaN have in common.
fn first_not_finite(dtype: TensorType, elements: &[u8]) -> Option<usize> {
    let two = |mask: u16| elements.chunks_exact(2).position(|b| u16::from_le_bytes([b[0], b[1]]) & mask == mask);
    match dtype {
        TensorType::F16 => two(0x7c00),
        TensorType::BF16 => two(0x7f80),
        TensorType::F32 => elements
            .chunks_exact(4)
            .position(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) & 0x7f80_0000 == 0x7f80_0000),
    }
}

/// Whether an element that is not finite is NaN: some bit of the mantissa is set.
fn is_nan(dtype: TensorType, element: &[u8]) -> bool {
    let low = |len: usize| element.iter().take(len).any(|&byte| byte != 0);
    match dtype {
        TensorType::F16 => element[0] != 0 || element[1] & 0x03 != 0,
        TensorType::BF16 => element[0] & 0x7f != 0,
        TensorType::F32 => low(2) || element[2] & 0x7f != 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{SampleTensor, weights_file};
    use super::*;

    fn scan(tensors: &[SampleTensor], pieces: impl Iterator<Item = usize>) -> Vec<(String, String)> {
        let file = weights_file(tensors);
        let header = TensorHeader::parse(&file).unwrap();
        let mut data = &file[usize::try_from(header.data_start).unwrap()..];
        let mut scan = WeightsScan::new(&header, false);
        for len in pieces {
            let (piece, rest) = data.split_at(len.min(data.len()));
            scan.push(piece);
            data = rest;
        }
        scan.push(data);
        match scan.finish() {
            Ok(_) => Vec::new(),
            Err(problems) => problems.listed.into_iter().map(|p| (p.subject, p.message)).collect(),
        }
    }

    #[test]
    fn nan_and_infinity_are_named_with_tensor_and_first_index() {
        let mut bf16 = SampleTensor::bf16("b", &[2, 3], 1.0);
        bf16.set(4, f32::NEG_INFINITY);
        bf16.set(5, f32::NAN);
        let mut f32s = SampleTensor::f32("c", &[3], 2.0);
        f32s.set(2, f32::NAN);
        let found = scan(&[SampleTensor::f16("a", &[4], 65504.0), bf16, f32s], std::iter::empty());
        assert_eq!(
            found,
            [
                ("b".to_owned(), "the element 4 (shape [2, 3], row-major) is infinity".to_owned()),
                ("c".to_owned(), "the element 2 (shape [3], row-major) is NaN".to_owned()),
            ]
        );
    }

    proptest! {
        #[test]
        fn the_answer_does_not_depend_on_where_the_pieces_are_cut(
            pieces in prop::collection::vec(0usize..7, 0..64), bad in prop::option::of(0usize..29)
        ) {
            let mut tensors = [
                SampleTensor::f16("a", &[9], 1.0),
                SampleTensor::f32("b", &[11], -3.0),
                SampleTensor::bf16("c", &[9], f32::MIN_POSITIVE),
            ];
            let expected = bad.map(|bad| {
                let (tensor, index) = match bad { 0..9 => (0, bad), 9..20 => (1, bad - 9), _ => (2, bad - 20) };
                tensors[tensor].set(index, f32::INFINITY);
                (tensors[tensor].name.clone(), index)
            });
            let found = scan(&tensors, pieces.into_iter());
            match expected {
                None => prop_assert!(found.is_empty()),
                Some((name, index)) => {
                    prop_assert_eq!(found.len(), 1);
                    prop_assert_eq!(&found[0].0, &name);
                    prop_assert!(found[0].1.starts_with(&format!("the element {index} ")), "{}", found[0].1);
                }
            }
        }
    }
}
