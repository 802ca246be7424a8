//! Texts that are replaced by others, in a whole text or in pieces of one with the same result.

use crate::stream::Decided;

/// Replaces each `from` of `pairs` by its `to`: from left to right, and where several begin at a place the one that is listed first.
///
/// Unless the text is the last, it is decided up to where something may begin that is not all there yet.
pub fn replace(pairs: &[(String, String)], text: &str, is_last: bool) -> Decided {
    // Most bytes of a text begin nothing, and are passed over without a look at each pair.
    let mut may_begin = [false; 256];
    for first in pairs.iter().filter_map(|(from, _)| from.as_bytes().first()) {
        may_begin[usize::from(*first)] = true;
    }
    let mut send = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let passed = rest.bytes().position(|byte| may_begin[usize::from(byte)]).unwrap_or(rest.len());
        if passed > 0 {
            send.push_str(&rest[..passed]);
            at += passed;
            continue;
        }
        match look(pairs, rest, is_last) {
            Look::Replaced(length, to) => {
                send.push_str(to);
                at += length;
            }
            Look::Undecided => break,
            Look::Nothing => {
                let length = rest.chars().next().map_or(1, char::len_utf8);
                send.push_str(&rest[..length]);
                at += length;
            }
        }
    }
    Decided { bytes: at, send }
}

/// Replaces them in a whole text.
pub fn replace_all(pairs: &[(String, String)], text: &str) -> String {
    replace(pairs, text, true).send
}

/// What is at the beginning of a text.
enum Look<'p> {
    /// So many bytes, in whose place this goes.
    Replaced(usize, &'p str),
    /// Perhaps something of which the end is missing.
    Undecided,
    /// Nothing to replace.
    Nothing,
}

fn look<'p>(pairs: &'p [(String, String)], rest: &str, is_last: bool) -> Look<'p> {
    for (from, to) in pairs.iter().filter(|(from, _)| !from.is_empty()) {
        if rest.starts_with(from.as_str()) {
            return Look::Replaced(from.len(), to);
        }
        if !is_last && from.starts_with(rest) {
            return Look::Undecided;
        }
    }
    Look::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Held;

    fn pairs(words: &[&str]) -> Vec<(String, String)> {
        words.iter().map(|word| ((*word).to_owned(), format!("<{}>", word.len()))).collect()
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        for (words, text) in [
            (&["abc", "ab"][..], "xababcabx ab"),
            (&["ab", "abc"], "abcab"),
            (&["aab", "ä"], "aaabäaaä"),
            (&["", "z"], "azz"),
        ] {
            let pairs = pairs(words);
            let whole = replace_all(&pairs, text);
            for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
                let mut held = Held::default();
                let mut sent = held.push(&text[..cut], |text| replace(&pairs, text, false));
                sent += &held.push(&text[cut..], |text| replace(&pairs, text, false));
                sent += &held.push("", |text| replace(&pairs, text, true));
                assert_eq!(sent, whole, "{text} cut at {cut}");
                assert_eq!(held.text(), "");
            }
        }
    }
}
