//! Bytes of tokens to text, a whole character at a time.

/// Turns a sequence of byte strings into text. A character whose bytes are not all there yet is held back; bytes that
/// can never become one turn into U+FFFD, exactly as `String::from_utf8_lossy` over the whole sequence would do.
#[derive(Clone, Debug, Default)]
pub struct Detokenizer {
    /// The beginning of a character: at most three bytes.
    pending: Vec<u8>,
}

impl Detokenizer {
    /// Appends to `out` the characters that `bytes` completes.
    pub fn push(&mut self, bytes: &[u8], out: &mut String) {
        self.pending.extend_from_slice(bytes);
        let mut rest = self.pending.as_slice();
        loop {
            let error = match std::str::from_utf8(rest) {
                Ok(text) => {
                    out.push_str(text);
                    rest = &[];
                    break;
                }
                Err(error) => error,
            };
            let (valid, after) = rest.split_at(error.valid_up_to());
            out.push_str(std::str::from_utf8(valid).expect("the error says that these bytes are valid"));
            rest = after;
            let Some(num_bad) = error.error_len() else { break };
            out.push(char::REPLACEMENT_CHARACTER);
            rest = &rest[num_bad..];
        }
        let num_consumed = self.pending.len() - rest.len();
        self.pending.drain(..num_consumed);
    }

    /// Ends the text: a character that was never completed becomes U+FFFD.
    pub fn finish(&mut self, out: &mut String) {
        if !self.pending.is_empty() {
            self.pending.clear();
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_character_appears_only_when_it_is_whole() {
        let mut detokenizer = Detokenizer::default();
        let mut out = String::new();
        let [first, second, third, fourth] = *"😀".as_bytes() else { panic!("four bytes") };
        detokenizer.push(&[b'a', first, second], &mut out);
        assert_eq!(out, "a");
        detokenizer.push(&[third], &mut out);
        assert_eq!(out, "a");
        detokenizer.push(&[fourth, b'b'], &mut out);
        assert_eq!(out, "a😀b");
        detokenizer.push(&[first, second], &mut out);
        detokenizer.finish(&mut out);
        assert_eq!(out, "a😀b\u{FFFD}");
    }

    fn mostly_text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            "\\PC{1,3}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 1..4),
            Just("é漢😀".as_bytes()[..4].to_vec()),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_text_of_the_whole(bytes in mostly_text(), sizes in proptest::collection::vec(1usize..6, 1..40)) {
            let mut detokenizer = Detokenizer::default();
            let mut out = String::new();
            let mut rest = bytes.as_slice();
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*size).min(rest.len()));
                detokenizer.push(now, &mut out);
                prop_assert!(detokenizer.pending.len() < 4);
                rest = later;
            }
            detokenizer.finish(&mut out);
            prop_assert_eq!(out, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
