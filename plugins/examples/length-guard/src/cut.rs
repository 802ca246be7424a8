//! Ends a text before it is longer than it may be.

/// A text as it comes.
pub struct Cut {
    most: usize,
    /// Characters of all that came.
    count: usize,
    /// What came and was not taken.
    held: String,
    /// Whether anything was taken.
    has_begun: bool,
}

impl Cut {
    /// For a text of at most so many characters.
    pub fn new(most: usize) -> Self {
        Self { most, count: 0, held: String::new(), has_begun: false }
    }

    /// Adds a piece. If the text is too long with it, this is the last of it.
    pub fn push(&mut self, piece: &str) -> Option<String> {
        let room = self.most - self.count;
        let Some((end, _)) = piece.char_indices().nth(room) else {
            self.count += piece.chars().count();
            self.held.push_str(piece);
            return None;
        };
        self.held.push_str(&piece[..end]);
        // A sentence that ends here ends here, whatever follows.
        let sentence = sentence_end(&format!("{} ", self.held)).min(self.held.len());
        let word = self.held.rfind(char::is_whitespace).unwrap_or(0);
        let is_word_cut = piece[end..].starts_with(|next: char| !next.is_whitespace());
        let last = match (sentence, self.has_begun) {
            (0, true) => 0,
            (0, false) if is_word_cut && word > 0 => word,
            (0, false) => self.held.len(),
            (sentence, _) => sentence,
        };
        Some(self.held[..last].trim_end().to_owned())
    }

    /// The sentences that are all there.
    pub fn take_decided(&mut self) -> String {
        let end = if self.most == usize::MAX { self.held.len() } else { sentence_end(&self.held) };
        self.has_begun |= end > 0;
        self.held.drain(..end).collect()
    }

    /// All that is left.
    pub fn take_rest(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// After the last mark that ends a sentence and has a space behind it.
fn sentence_end(text: &str) -> usize {
    let mut end = 0;
    let mut before = ' ';
    for (at, character) in text.char_indices() {
        if character == '\n' || (character.is_whitespace() && matches!(before, '.' | '!' | '?' | '…' | '。')) {
            end = at;
        }
        before = character;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::Cut;

    fn streamed(most: usize, pieces: &[&str]) -> String {
        let mut cut = Cut::new(most);
        let mut sent = String::new();
        for piece in pieces {
            if let Some(last) = cut.push(piece) {
                return sent + &last;
            }
            sent += &cut.take_decided();
        }
        sent + &cut.take_rest()
    }

    #[test]
    fn a_text_ends_with_a_sentence_or_else_a_word() {
        for (most, text, cut) in [
            (20, "One two. Three four five.", "One two."),
            (8, "One two. Three", "One two."),
            (10, "One two three four", "One two"),
            (7, "One two three", "One two"),
            (5, "Onetwothree", "Onetw"),
            (4, "Äöüß.", "Äöüß"),
            (99, "One two. Three", "One two. Three"),
        ] {
            assert_eq!(Cut::new(most).push(text).unwrap_or_else(|| text.into()), cut);
            let pieces: Vec<String> = text.chars().map(String::from).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            assert_eq!(streamed(most, &pieces), cut, "{text} at {most}");
            assert_eq!(streamed(most, &[text]), cut, "{text} at {most}");
        }
    }
}
