//! The lines of the stream of withdrawals, put together from the bytes of a connection.

use souk_protocol::internal::Line;

/// Longest line: the longest that a registry writes has some 120 bytes.
const MAX_LINE_BYTES: usize = 4096;

/// What has come of a line that is not whole.
#[derive(Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// This.
    Line(Line),
    /// What this program does not know: a newer registry may have something to say of rights that it cannot heed.
    Unknown,
}

/// A line has no end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of the stream of withdrawals has more than {MAX_LINE_BYTES} bytes")]
pub(crate) struct TooLong;

impl Lines {
    /// The lines that are whole now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Read>, TooLong> {
        let mut read = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if self.partial.len() > MAX_LINE_BYTES {
                return Err(TooLong);
            }
            if self.partial.ends_with(b"\n") {
                read.push(serde_json::from_slice(&self.partial).map_or(Read::Unknown, Read::Line));
                self.partial.clear();
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use souk_protocol::{Digest, KeyId};

    use super::*;

    #[test]
    fn what_is_not_known_is_said_to_be_and_a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        let read = lines.push(b"\"changed\"\n{\"tenant\":\"t\"}\nnot json\n\n").unwrap();
        assert_eq!(read, [Read::Line(Line::Changed), Read::Unknown, Read::Unknown, Read::Unknown]);
        assert_eq!(lines.push(&[b'x'; MAX_LINE_BYTES]), Ok(Vec::new()));
        assert_eq!(lines.push(b"x"), Err(TooLong));
    }

    fn line() -> impl Strategy<Value = Line> {
        prop_oneof![
            Just(Line::Anew),
            Just(Line::Changed),
            "[a-z\n\"]{0,12}".prop_map(|id| Line::Key(KeyId::from_stored(id))),
            any::<[u8; 4]>().prop_map(|bytes| Line::Version(Digest::of(&bytes))),
            any::<(i64, i64)>().prop_map(|(number, now_ms)| Line::At { number, now_ms }),
        ]
    }

    proptest! {
        #[test]
        fn lines_come_out_as_they_went_in_however_they_are_cut(
            lines in prop::collection::vec(line(), 0..12),
            cuts in prop::collection::vec(1..40_usize, 1..60),
        ) {
            let mut bytes = Vec::new();
            for line in &lines {
                serde_json::to_writer(&mut bytes, line).unwrap();
                bytes.push(b'\n');
            }
            let (mut reader, mut read, mut rest) = (Lines::default(), Vec::new(), bytes.as_slice());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at(rest.len().min(*cut));
                read.extend(reader.push(piece).unwrap());
                rest = after;
            }
            prop_assert_eq!(read, lines.into_iter().map(Read::Line).collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Lines::default().push(&bytes);
        }
    }
}
