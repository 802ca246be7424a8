//! What a hook holds back of a stream, so that nothing is lost should it fail and be passed over.

/// The text that went into a hook and has not come out yet, as long as it changes none of it.
#[derive(Debug)]
pub(super) struct Held {
    /// `None` once something else came out than went in: then nobody knows what the hook still has.
    text: Option<String>,
}

impl Default for Held {
    fn default() -> Self {
        Self { text: Some(String::new()) }
    }
}

impl Held {
    /// So much went in.
    pub(super) fn came(&mut self, text: &str) {
        if let Some(held) = &mut self.text {
            held.push_str(text);
        }
    }

    /// So much came out.
    pub(super) fn went(&mut self, text: &str) {
        let rest = self.text.as_deref().and_then(|held| held.strip_prefix(text)).map(str::to_owned);
        self.text = rest;
    }

    /// What is to come out in the place of the hook: all that it holds, or `last`, which went in last, where that is not known.
    pub(super) fn rest(&mut self, last: &str) -> String {
        self.text.as_mut().map_or_else(|| last.to_owned(), std::mem::take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_only_held_back_is_known_and_what_was_changed_is_not() {
        let mut held = Held::default();
        held.came("one ");
        held.went("");
        held.came("two");
        held.went("one ");
        assert_eq!(held.rest("two"), "two");
        held.came("three");
        held.went("THREE");
        held.came("four");
        assert_eq!(held.rest("four"), "four");
    }
}
