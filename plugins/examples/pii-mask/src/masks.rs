//! What stands in the place of what.

use souk_hook::types::{Input, Request};

use crate::find::{Kind, find};

/// The host's bound of a carry.
const MOST_CARRY: usize = 64 << 10;

/// The masks of a request.
pub struct Masks {
    kinds: Vec<Kind>,
    /// What the request said, where it had anything like a mask: no mask may be a text of it.
    said: Option<String>,
    /// Mask and original.
    given: Vec<(String, String)>,
    /// The last number of each kind.
    last: [u32; Kind::ALL.len()],
    /// How long the carry is so far.
    carry_bytes: usize,
}

impl Masks {
    /// For these kinds, all if none is named.
    pub fn new(request: &Request, names: Vec<String>) -> Self {
        let is_meant =
            |kind: &Kind| names.is_empty() || names.iter().any(|name| name.eq_ignore_ascii_case(kind.name()));
        let said = match &request.input {
            Input::Text(text) => text.clone(),
            Input::Messages(messages) => {
                messages.iter().filter_map(|message| message.content.as_deref()).collect::<Vec<_>>().join("\n")
            }
        };
        Self {
            kinds: Kind::ALL.into_iter().filter(is_meant).collect(),
            said: Kind::ALL.iter().any(|kind| said.contains(&format!("[{}_", kind.name()))).then_some(said),
            given: Vec::new(),
            last: [0; Kind::ALL.len()],
            carry_bytes: 0,
        }
    }

    /// The text with masks.
    pub fn mask(&mut self, text: &str) -> String {
        let mut masked = String::with_capacity(text.len());
        let mut rest = 0;
        for found in find(text, &self.kinds) {
            if self.is_full() {
                break;
            }
            masked.push_str(&text[rest..found.range.start]);
            masked.push_str(&self.of(found.kind, &text[found.range.clone()]));
            rest = found.range.end;
        }
        masked.push_str(&text[rest..]);
        masked
    }

    /// The same mask for the same original, a new one otherwise.
    fn of(&mut self, kind: Kind, original: &str) -> String {
        if let Some((mask, _)) = self.given.iter().find(|(_, given)| given == original) {
            return mask.clone();
        }
        let mask = loop {
            let number = &mut self.last[kind as usize];
            *number += 1;
            let mask = format!("[{}_{number}]", kind.name());
            if !self.said.as_ref().is_some_and(|said| said.contains(&mask)) {
                break mask;
            }
        };
        self.carry_bytes += mask.len() + original.len() + 2;
        self.given.push((mask.clone(), original.to_owned()));
        mask
    }

    /// Whether nothing was masked.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// Whether the carry is as long as it may be; nothing further is masked then, and the request is to be refused.
    pub fn is_full(&self) -> bool {
        self.carry_bytes > MOST_CARRY
    }

    /// For the answer: a line for each mask. Neither a mask nor an original has a tab or a line's end.
    pub fn carry(&self) -> Vec<u8> {
        let lines: Vec<_> = self.given.iter().map(|(mask, original)| format!("{mask}\t{original}")).collect();
        lines.join("\n").into_bytes()
    }
}

/// What a carry says: masks with their originals.
pub fn originals(carry: &[u8]) -> Vec<(String, String)> {
    let lines = String::from_utf8_lossy(carry);
    let pairs = lines.lines().filter_map(|line| line.split_once('\t'));
    pairs.map(|(mask, original)| (mask.to_owned(), original.to_owned())).collect()
}
