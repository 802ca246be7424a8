//! Finds words in any case in a text that comes in pieces.

use std::collections::BTreeMap;

use souk_hook::stream::Decided;

/// What is done about a word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Something else stands in its place.
    Mask,
    /// The answer ends before it.
    End,
    /// The answer is refused.
    Refuse,
}

/// What came through.
#[derive(Debug, PartialEq)]
pub struct Passed {
    /// How far the text is decided, and what is sent of that.
    pub decided: Decided,
    /// Whether a word was found that ends the answer or has it refused.
    pub is_hit: bool,
}

/// Words and what is done about them.
pub struct Filter {
    /// In lower case, by their first character; the longest first, for of those that begin at a place it is the one that is meant.
    words: BTreeMap<char, Vec<Vec<char>>>,
    is_whole: bool,
    /// What is done.
    pub action: Action,
    mark: String,
    /// Whether what was decided last ends in the middle of a word.
    is_within_word: bool,
}

/// What is at a place.
enum Look {
    /// A word of so many bytes.
    Found(usize),
    /// Perhaps one, if what comes is the rest of it.
    Undecided,
    /// None.
    Nothing,
}

impl Filter {
    /// For these words.
    pub fn new(words: &[String], is_whole: bool, action: Action, mark: String) -> Self {
        let mut by_first: BTreeMap<char, Vec<Vec<char>>> = BTreeMap::new();
        for word in words {
            let word: Vec<char> = word.chars().flat_map(char::to_lowercase).collect();
            if let Some(first) = word.first() {
                by_first.entry(*first).or_default().push(word);
            }
        }
        by_first.values_mut().for_each(|words| words.sort_by_key(|word| std::cmp::Reverse(word.len())));
        Self { words: by_first, is_whole, action, mark, is_within_word: false }
    }

    /// Goes on with a text that begins where the last one was decided up to.
    pub fn pass(&mut self, text: &str, is_last: bool) -> Passed {
        let mut send = String::with_capacity(text.len());
        let mut at = 0;
        while let Some(character) = text[at..].chars().next() {
            match self.look(&text[at..], is_last) {
                Look::Found(length) if self.action == Action::Mask => {
                    send.push_str(&self.mark);
                    at += length;
                    self.is_within_word = text[..at].ends_with(char::is_alphanumeric);
                }
                Look::Found(_) => return Passed { decided: Decided { bytes: text.len(), send }, is_hit: true },
                Look::Undecided => break,
                Look::Nothing => {
                    send.push(character);
                    at += character.len_utf8();
                    self.is_within_word = character.is_alphanumeric();
                }
            }
        }
        Passed { decided: Decided { bytes: at, send }, is_hit: false }
    }

    fn look(&self, rest: &str, is_last: bool) -> Look {
        let first = rest.chars().next().and_then(|first| first.to_lowercase().next());
        let mut look = Look::Nothing;
        for word in first.and_then(|first| self.words.get(&first)).into_iter().flatten() {
            // Within a word only what does not begin with a letter may begin: "!" of "stop!".
            if self.is_whole && self.is_within_word && word[0].is_alphanumeric() {
                continue;
            }
            match self.begins(word, rest, is_last) {
                // A longer word may still come about; until that is known the shorter one is not the one that is meant.
                Look::Found(length) if !matches!(look, Look::Undecided) => return Look::Found(length),
                Look::Undecided => look = Look::Undecided,
                _ => {}
            }
        }
        look
    }

    fn begins(&self, word: &[char], rest: &str, is_last: bool) -> Look {
        let mut expected = word.iter();
        let undecided = if is_last { Look::Nothing } else { Look::Undecided };
        for (at, character) in rest.char_indices() {
            for lower in character.to_lowercase() {
                match expected.next() {
                    Some(wanted) if *wanted == lower => {}
                    _ => return Look::Nothing,
                }
            }
            if expected.as_slice().is_empty() {
                let end = at + character.len_utf8();
                return match rest[end..].chars().next() {
                    _ if !self.is_whole || !character.is_alphanumeric() => Look::Found(end),
                    Some(next) if next.is_alphanumeric() => Look::Nothing,
                    Some(_) => Look::Found(end),
                    None if is_last => Look::Found(end),
                    None => Look::Undecided,
                };
            }
        }
        undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(words: &[&str], is_whole: bool, pieces: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut filter = Filter::new(&words, is_whole, Action::Mask, "*".into());
        let mut held = souk_hook::stream::Held::default();
        let mut sent = String::new();
        for piece in pieces {
            sent += &held.push(piece, |text| filter.pass(text, false).decided);
        }
        sent + &held.push("", |text| filter.pass(text, true).decided)
    }

    #[test]
    fn words_are_found_in_any_case_and_only_whole() {
        assert_eq!(masked(&["Damn"], true, &["DAMN damn, damned goddamn damn"]), "* *, damned goddamn *");
        assert_eq!(masked(&["Damn"], false, &["damned"]), "*ed");
        assert_eq!(masked(&["straße", "ÄRGER"], true, &["STRASSE Straße ärger"]), "STRASSE * *");
        assert_eq!(masked(&["go", "go away"], true, &["go away go"]), "* *");
        assert_eq!(masked(&["stop!", "C++"], true, &["stop! C++ nonstop!"]), "* * nonstop!");
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        let text = "Go away, GO! ago going go awa";
        let whole = masked(&["go", "go away"], true, &[text]);
        for cut in 0..=text.len() {
            for second in cut..=text.len() {
                let pieces = [&text[..cut], &text[cut..second], &text[second..]];
                assert_eq!(masked(&["go", "go away"], true, &pieces), whole, "{pieces:?}");
            }
        }
    }
}
