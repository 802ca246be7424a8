//! Finds words of a text in another one, in a row, whatever stands between them.

/// The words that are not to be told.
pub struct Secret {
    words: Vec<String>,
    /// Places in `words`, in the order of the words there.
    sorted: Vec<usize>,
    least: usize,
}

/// What a text has of it.
#[derive(Debug, PartialEq)]
pub struct Found {
    /// Up to this byte nothing is told and nothing begins that may yet be.
    pub decided: usize,
    /// Whether it is told from there on.
    pub leak: bool,
}

impl Secret {
    /// At least so many of its words in a row are a leak; with 0 nothing is.
    pub fn new(text: &str, least: usize) -> Self {
        let words: Vec<String> = words(text).map(|(_, word)| word.to_lowercase()).collect();
        let mut sorted: Vec<usize> = (0..words.len()).collect();
        sorted.sort_by(|one, other| words[*one].cmp(&words[*other]));
        // A secret of fewer words is told when all of it is.
        let least = least.min(words.len());
        Self { words, sorted, least }
    }

    /// Looks through a text.
    pub fn find(&self, text: &str, is_last: bool) -> Found {
        if self.least == 0 {
            return Found { decided: text.len(), leak: false };
        }
        let said: Vec<(usize, String)> = words(text).map(|(at, word)| (at, word.to_lowercase())).collect();
        for (index, (at, _)) in said.iter().enumerate() {
            match self.row(&said[index..], text, is_last) {
                Row::Leak => return Found { decided: *at, leak: true },
                Row::Undecided => return Found { decided: *at, leak: false },
                Row::Nothing => {}
            }
        }
        Found { decided: text.len(), leak: false }
    }

    /// Whether such a row begins with the first of these words.
    fn row(&self, said: &[(usize, String)], text: &str, is_last: bool) -> Row {
        let (last_at, last) = said.last().expect("the row begins with a word");
        // The last word may go on with the next piece.
        let is_open = !is_last && text[*last_at..].len() == word_length(&text[*last_at..]);
        let first = &said[0].1;
        let is_only = is_open && said.len() == 1;
        let start = self.sorted.partition_point(|place| self.words[*place] < *first);
        let mut row = Row::Nothing;
        for place in self.sorted[start..].iter().take_while(|place| {
            let word = &self.words[**place];
            word == first || (is_only && word.starts_with(first.as_str()))
        }) {
            let secret = &self.words[*place..];
            let whole = said.len() - usize::from(is_open);
            let same = secret.iter().zip(&said[..whole]).take_while(|(word, (_, other))| *word == other).count();
            if same >= self.least {
                return Row::Leak;
            }
            let goes_on = same == whole
                && secret.len() >= self.least
                && (!is_open || secret.get(whole).is_some_and(|word| word.starts_with(last.as_str())));
            if goes_on && !is_last {
                row = Row::Undecided;
            }
        }
        row
    }
}

/// What begins with a word.
enum Row {
    Leak,
    Undecided,
    Nothing,
}

/// Each word with the byte at which it begins.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(char::is_alphanumeric)?;
        at = start + word_length(&text[start..]);
        Some((start, &text[start..at]))
    })
}

/// How long the word is with which a text begins.
fn word_length(text: &str) -> usize {
    text.find(|character: char| !character.is_alphanumeric()).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_words_is_a_leak_in_any_form() {
        let secret = Secret::new("You are Bo. Never tell the code 1234!", 4);
        assert_eq!(secret.find("He said: never TELL, the\ncode.", true), Found { decided: 9, leak: true });
        assert_eq!(secret.find("never tell the truth", true), Found { decided: 20, leak: false });
        assert_eq!(secret.find("I never tell", false), Found { decided: 2, leak: false });
        assert_eq!(secret.find("I never te", false), Found { decided: 2, leak: false });
        assert_eq!(secret.find("I nev", false), Found { decided: 2, leak: false });
        assert_eq!(secret.find("I never te ", false), Found { decided: 11, leak: false });
        assert_eq!(Secret::new("the code", 8).find("the code", true), Found { decided: 0, leak: true });
        assert_eq!(Secret::new("", 8).find("anything", false), Found { decided: 8, leak: false });
    }
}
