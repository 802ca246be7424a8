//! Stop strings over a text that arrives in pieces.

/// Cuts a text before the first stop string and never lets a part of one through.
///
/// The first stop string is the one that is complete first; of those that are complete at the same character, the
/// longest. So the result depends on the text alone and not on how it was cut into pieces.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    /// The end of the text so far that a stop string could begin with.
    held: String,
}

impl StopMatcher {
    /// Watches for any of `stops`. Empty strings are ignored: they would end every answer before it began.
    #[must_use]
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(), held: String::new() }
    }

    /// Appends to `out` what of the text so far is certain to come before any stop string. Returns whether a stop
    /// string is complete; after that, push nothing more.
    pub fn push(&mut self, text: &str, out: &mut String) -> bool {
        self.held.push_str(text);
        if let Some(start) = self.first_match() {
            out.push_str(&self.held[..start]);
            self.held.clear();
            return true;
        }
        let keep_from = self.held.len() - self.longest_beginning();
        out.push_str(&self.held[..keep_from]);
        self.held.drain(..keep_from);
        false
    }

    /// Ends the text without a stop string: what was held back is part of the answer.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }

    /// Where the first complete stop string begins in the held text.
    fn first_match(&self) -> Option<usize> {
        let matches =
            self.stops.iter().filter_map(|stop| self.held.find(stop.as_str()).map(|at| (at + stop.len(), at)));
        matches.min().map(|(_, start)| start)
    }

    /// Length of the longest suffix of the held text with which a stop string begins.
    fn longest_beginning(&self) -> usize {
        let held = self.held.as_bytes();
        let beginning = |stop: &String| {
            let longest = held.len().min(stop.len() - 1);
            (1..=longest).rev().find(|&len| held.ends_with(&stop.as_bytes()[..len])).unwrap_or(0)
        };
        // A suffix that equals whole bytes of a stop string begins at a character, as the stop string does.
        self.stops.iter().map(beginning).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strings(stops: &[&str]) -> Vec<String> {
        stops.iter().map(|&stop| stop.to_owned()).collect()
    }

    #[test]
    fn a_stop_string_over_three_pieces_never_shows() {
        let mut matcher = StopMatcher::new(strings(&["\nUser:"]));
        let mut out = String::new();
        assert!(!matcher.push("Hello.\nU", &mut out));
        assert_eq!(out, "Hello.");
        assert!(!matcher.push("se", &mut out));
        assert_eq!(out, "Hello.");
        assert!(matcher.push("r: and more", &mut out));
        assert_eq!(out, "Hello.");
    }

    #[test]
    fn a_beginning_that_comes_to_nothing_is_shown() {
        let mut matcher = StopMatcher::new(strings(&["abcd", "cx"]));
        let mut out = String::new();
        assert!(!matcher.push("ab", &mut out));
        assert!(!matcher.push("ce", &mut out));
        assert_eq!(out, "abce");
        assert!(!matcher.push("abc", &mut out));
        matcher.finish(&mut out);
        assert_eq!(out, "abceabc");
    }

    #[test]
    fn the_stop_string_that_is_complete_first_wins() {
        for cut in 0..=4 {
            let mut matcher = StopMatcher::new(strings(&["abcd", "bc"]));
            let mut out = String::new();
            let stopped = matcher.push(&"abcd"[..cut], &mut out) || matcher.push(&"abcd"[cut..], &mut out);
            assert!(stopped);
            assert_eq!(out, "a");
        }
    }

    /// What the definition says, read off the whole text.
    fn expected(text: &str, stops: &[String]) -> (String, bool) {
        let first = stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .filter_map(|stop| text.find(stop.as_str()).map(|at| (at + stop.len(), at)))
            .min();
        first.map_or_else(|| (text.to_owned(), false), |(_, start)| (text[..start].to_owned(), true))
    }

    proptest! {
        #[test]
        fn however_the_text_is_cut_the_answer_is_the_text_before_the_first_stop(
            text in "[abé]{0,24}",
            stops in proptest::collection::vec("[abé]{0,4}", 0..4),
            cuts in proptest::collection::vec(1usize..5, 1..24),
        ) {
            let mut matcher = StopMatcher::new(stops.clone());
            let (mut out, mut stopped) = (String::new(), false);
            let characters: Vec<char> = text.chars().collect();
            let mut rest = characters.as_slice();
            let whole = expected(&text, &stops);
            for size in cuts.iter().cycle() {
                if rest.is_empty() || stopped {
                    break;
                }
                let (now, later) = rest.split_at((*size).min(rest.len()));
                stopped = matcher.push(&now.iter().collect::<String>(), &mut out);
                prop_assert!(whole.0.starts_with(&out), "{} shows more than {}", out, whole.0);
                rest = later;
            }
            if !stopped {
                matcher.finish(&mut out);
            }
            prop_assert_eq!((out, stopped), whole);
        }
    }
}
