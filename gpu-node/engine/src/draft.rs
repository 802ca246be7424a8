//! Drafts what a sequence says next from what it has said already (speculative decoding by prompt lookup).
//!
//! Answers that copy from their prompt or repeat themselves are common: summaries, edits, code, tables. The draft is
//! what followed the latest occurrence of the sequence's last tokens; the model then reads the drafted tokens as
//! further rows of the same step, and each is accepted only if it is what the model would have chosen there. So a draft
//! can make an answer come faster and cannot change it.

use souk_protocol::TokenId;

/// Longest match that is looked for. A longer one would hardly say more about what follows.
const LONGEST_MATCH: usize = 4;
/// Shortest match that is believed. Single tokens recur everywhere.
const SHORTEST_MATCH: usize = 2;
/// How far back a match is looked for, in tokens. One comparison each: below 5 µs, in a step of several milliseconds.
const LOOK_BACK: usize = 8192;
/// Longest draft.
const LONGEST_DRAFT: usize = 8;
/// Length of the first draft, and of the first one after a pause.
const FIRST_DRAFT: usize = 2;
/// Steps without a draft after one of which nothing was kept; doubled each time that this happens again.
const SHORTEST_PAUSE: usize = 4;
/// Longest pause. With one rejected row in so many steps, text without repetition loses less than one percent.
const LONGEST_PAUSE: usize = 64;

/// The draft of one sequence, and how far drafts of this sequence can be trusted.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    tokens: Vec<TokenId>,
    /// How long the next draft may be.
    length: usize,
    /// Steps until the next draft.
    pause: usize,
    /// How long the next pause is.
    next_pause: usize,
}

impl Draft {
    /// The drafted tokens, which follow the sequence's own; empty between steps.
    #[must_use]
    pub(crate) fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Drafts at most `most` tokens that follow `text`.
    pub(crate) fn propose(&mut self, text: &[TokenId], most: usize) {
        self.tokens.clear();
        if most == 0 {
            return;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return;
        }
        let Some(source) = continuation_of_match(text) else { return };
        for place in source..source + self.length.min(most) {
            // Past the end of the text the draft goes on in itself: what repeats may be shorter than the draft.
            let token = text.get(place).copied().unwrap_or_else(|| self.tokens[place - text.len()]);
            self.tokens.push(token);
        }
    }

    /// Learns how many of the drafted tokens were accepted, and forgets them. Drafts grow while all are, shrink to
    /// those that were, and pause when none was.
    pub(crate) fn learn(&mut self, num_accepted: usize) {
        let num_drafted = self.tokens.len();
        self.tokens.clear();
        if num_drafted == 0 {
            return;
        }
        if num_accepted == 0 {
            self.pause = self.next_pause;
            self.next_pause = (2 * self.next_pause).min(LONGEST_PAUSE);
            self.length = FIRST_DRAFT;
            return;
        }
        self.next_pause = SHORTEST_PAUSE;
        // A draft that was shorter than it might have been says nothing against longer ones.
        self.length = if num_accepted == num_drafted { 2 * self.length } else { num_accepted + 1 };
        self.length = self.length.clamp(FIRST_DRAFT, LONGEST_DRAFT);
    }

    /// Forgets the draft without a judgement: there was no room for it.
    pub(crate) fn withdraw(&mut self) {
        self.tokens.clear();
    }
}

impl Default for Draft {
    fn default() -> Self {
        Self { tokens: Vec::new(), length: FIRST_DRAFT, pause: 0, next_pause: SHORTEST_PAUSE }
    }
}

/// Where the text goes on after the latest of the longest earlier occurrences of its last tokens.
fn continuation_of_match(text: &[TokenId]) -> Option<usize> {
    let (last, before) = text.split_last()?;
    let oldest = before.len().saturating_sub(LOOK_BACK);
    let mut longest = SHORTEST_MATCH - 1;
    let mut continuation = None;
    for place in (oldest..before.len()).rev() {
        if before[place] != *last {
            continue;
        }
        let ends_alike = text[..=place].iter().rev().zip(text.iter().rev());
        let length = ends_alike.take(LONGEST_MATCH).take_while(|(one, other)| one == other).count();
        if length > longest {
            longest = length;
            continuation = Some(place + 1);
        }
        if longest == LONGEST_MATCH {
            break;
        }
    }
    continuation
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(text: &[TokenId], length: usize, most: usize) -> Vec<TokenId> {
        let mut draft = Draft { length, ..Draft::default() };
        draft.propose(text, most);
        draft.tokens().to_vec()
    }

    #[test]
    fn a_draft_is_what_followed_the_latest_of_the_longest_matches() {
        assert_eq!(draft(&[1, 2, 3, 7, 9, 2, 3], 2, 8), [7, 9]);
        assert_eq!(draft(&[2, 3, 7, 2, 3, 8, 2, 3], 1, 8), [8], "the latest of equal ones");
        assert_eq!(draft(&[1, 2, 3, 7, 5, 2, 3, 8, 1, 2, 3], 1, 8), [7], "the longest first");
        assert_eq!(draft(&[5, 1, 2, 3, 4, 7, 6, 1, 2, 3, 4, 8, 5, 1, 2, 3, 4], 1, 8), [8], "beyond four, the latest");
    }

    #[test]
    fn one_token_is_no_match_and_nothing_is_drafted_from_nothing() {
        for text in [&[][..], &[1], &[1, 1], &[1, 2, 3, 4], &[3, 7, 1, 3]] {
            assert_eq!(draft(text, 8, 8), [0_u32; 0], "{text:?}");
        }
    }

    #[test]
    fn a_short_period_fills_a_long_draft() {
        assert_eq!(draft(&[1, 2, 1, 2], 5, 8), [1, 2, 1, 2, 1]);
        assert_eq!(draft(&[9, 4, 4, 4], 5, 3), [4, 4, 4], "the caller's bound holds");
    }

    #[test]
    fn a_match_is_looked_for_within_a_bound() {
        let text = |gap: usize| -> Vec<TokenId> { [&[1, 2, 3][..], &vec![0; gap], &[1, 2]].concat() };
        assert_eq!(draft(&text(LOOK_BACK - 3), 1, 8), [3]);
        assert_eq!(draft(&text(LOOK_BACK), 1, 8), [0_u32; 0]);
    }

    #[test]
    fn drafts_grow_while_they_are_right_and_pause_longer_each_time_that_they_are_wrong() {
        let text = [1, 2, 1, 2];
        let mut draft = Draft::default();
        let mut turn = |num_accepted: usize| {
            draft.propose(&text, 99);
            let num_drafted = draft.tokens().len();
            draft.learn(num_accepted.min(num_drafted));
            num_drafted
        };
        assert_eq!([turn(9), turn(9), turn(9), turn(9), turn(3), turn(9)], [2, 4, 8, 8, 8, 4]);
        for pause in [4, 8, 16, 32, 64, 64] {
            assert!(turn(0) > 0);
            assert_eq!((0..pause).map(|_| turn(0)).sum::<usize>(), 0, "a pause of {pause}");
        }
        assert_eq!([turn(1), turn(0), turn(0)], [2, 2, 0], "after a good one the pauses are short again");
    }
}
