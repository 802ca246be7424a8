//! Keeps the text of a control token that a user wrote from becoming that control token.
//!
//! A chat template mixes its own text, in which `<|im_end|>` means the control token, with the text of users, in which
//! it must not. Marking where user text begins and ends would defeat templates that trim, split or compare it. So user
//! text is left as it is, except that one marker character is put where a control token could otherwise be read: inside
//! each one written out, and at an end of the text that could be one part of a control token whose other part the
//! template, or the next user text, supplies. After the control tokens of the rendered text are found, the markers
//! are dropped, and the bytes that are encoded are exactly what the user wrote.

use std::collections::HashSet;

/// The marker of one request: a character that occurs nowhere in its texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker(char);

impl Marker {
    /// A marker for `texts`: the first private-use or unassigned character that none of them contains. `None` if the
    /// texts hold them all, which takes more than 800,000 different characters.
    pub fn unlike<'a>(texts: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut candidates = ('\u{E000}'..='\u{F8FF}').chain('\u{40000}'..='\u{10FFFF}');
        // One pass over the texts however many candidates they hold: this is input.
        let is_candidate = |c: &char| matches!(c, '\u{E000}'..='\u{F8FF}' | '\u{40000}'..);
        let taken: HashSet<char> = texts.flat_map(str::chars).filter(is_candidate).collect();
        candidates.find(|marker| !taken.contains(marker)).map(Self)
    }

    /// `text` with markers where it could be read as one of `controls` or as a part of one.
    #[must_use]
    pub fn disarm(self, text: &str, controls: &[String]) -> String {
        let mut out = String::with_capacity(text.len() + 8);
        // Templates may trim, so what counts as an end of the text is the first and last character that shows.
        let core = text.trim();
        let core_start = text.len() - text.trim_start().len();
        out.push_str(&text[..core_start]);
        if controls.iter().any(|control| ends_in(control, core)) {
            out.push(self.0);
        }
        // Few texts have a character that a control token begins with, so most is copied as a whole.
        let mut first: Vec<char> = controls.iter().filter_map(|control| control.chars().next()).collect();
        first.sort_unstable();
        first.dedup();
        let mut copied = 0;
        for (at, character) in core.match_indices(&first[..]) {
            let next = at + character.len();
            if next < core.len() && controls.iter().any(|control| core[at..].starts_with(control.as_str())) {
                out.push_str(&core[copied..next]);
                out.push(self.0);
                copied = next;
            }
        }
        out.push_str(&core[copied..]);
        if controls.iter().any(|control| begins_in(control, core)) {
            out.push(self.0);
        }
        out.push_str(&text[core_start + core.len()..]);
        out
    }

    /// `text` without markers.
    #[must_use]
    pub fn erase(self, text: &str) -> String {
        text.replace(self.0, "")
    }
}

/// Whether `text` begins with a proper suffix of `control`, or lies within it.
fn ends_in(control: &str, text: &str) -> bool {
    let suffixes = control.char_indices().skip(1).map(|(at, _)| &control[at..]);
    !text.is_empty() && (control.contains(text) || suffixes.into_iter().any(|suffix| text.starts_with(suffix)))
}

/// Whether `text` ends with a proper prefix of `control`, or lies within it.
fn begins_in(control: &str, text: &str) -> bool {
    let prefixes = control.char_indices().skip(1).map(|(at, _)| &control[..at]);
    !text.is_empty() && (control.contains(text) || prefixes.into_iter().any(|prefix| text.ends_with(prefix)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn controls() -> Vec<String> {
        ["<|a|>", "<|ab|>", "<a>", "|"].map(str::to_owned).to_vec()
    }

    #[test]
    fn ordinary_text_is_left_as_it_is() {
        let marker = Marker::unlike(["text"].into_iter()).unwrap();
        let controls = ["<|im_start|>".to_owned(), "<|im_end|>".to_owned()];
        for text in ["", " ", "Hello, world.\n", "if a < b && b > c { x }", "漢字"] {
            assert_eq!(marker.disarm(text, &controls), text);
        }
    }

    #[test]
    fn the_marker_is_not_in_the_texts() {
        let texts = ["\u{E000}", "x\u{E001}"];
        assert_eq!(Marker::unlike(texts.into_iter()), Some(Marker('\u{E002}')));
    }

    /// Ranges of `text` that read as a control token.
    fn occurrences(text: &str, controls: &[String]) -> Vec<(usize, usize)> {
        controls
            .iter()
            .flat_map(|control| text.match_indices(control.as_str()).map(move |(at, _)| (at, at + control.len())))
            .collect()
    }

    proptest! {
        #[test]
        fn no_control_token_touches_user_text(
            before in "[<|a>b ]{0,6}",
            user in "[<|a>b ]{0,8}",
            after in "[<|a>b ]{0,6}",
            trimmed: bool,
        ) {
            let marker = Marker::unlike([user.as_str()].into_iter()).unwrap();
            let safe = marker.disarm(&user, &controls());
            prop_assert_eq!(marker.erase(&safe), user.clone());
            let shown = if trimmed { safe.trim() } else { &safe };
            let whole = format!("{before}{shown}{after}");
            let (start, end) = (before.len(), before.len() + shown.len());
            // A control token of a single character cannot be broken by a marker inside; see `Tokenizer::new`.
            let multi: Vec<String> = controls().into_iter().filter(|control| control.chars().count() > 1).collect();
            for (from, to) in occurrences(&whole, &multi) {
                // Across an empty text the template meets itself.
                prop_assert!(to <= start || from >= end || shown.is_empty(), "{:?} holds a control token at {}..{}", whole, from, to);
            }
        }
    }
}
