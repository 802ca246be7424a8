//! Rules that refer to one another without end: an answer that follows them could only be cut off.

use std::collections::{HashMap, HashSet};

use llguidance::earley::{CGrammar, CSymIdx};

use super::error::ConstraintError;

/// Refuses a grammar whose texts all are without end: one whose first rule needs itself, however it is read.
pub(super) fn check_ends(grammar: &CGrammar) -> Result<(), ConstraintError> {
    let mut rules = Rules::default();
    // Symbols that are known to stand for some text, and were not told to the rules that have them.
    let mut found = Vec::new();
    let (mut seen, mut left) = (HashSet::from([grammar.start().as_index()]), vec![grammar.start()]);
    while let Some(symbol) = left.pop() {
        let data = grammar.sym_data(symbol);
        let stands_for_text = data.is_terminal || data.lexeme.is_some() || data.is_nullable;
        if stands_for_text || !data.cond_nullable.is_empty() {
            found.push(symbol);
            continue;
        }
        for rule in &data.rules {
            let (parts, ..) = grammar.rule_rhs(*rule);
            rules.add(symbol, parts, &mut found);
            left.extend(parts.iter().copied().filter(|part| seen.insert(part.as_index())));
        }
    }
    let mut told = HashSet::new();
    while let Some(symbol) = found.pop() {
        if symbol.as_index() == grammar.start().as_index() {
            return Ok(());
        }
        if told.insert(symbol.as_index()) {
            rules.tell(symbol, &mut found);
        }
    }
    Err(ConstraintError::Endless)
}

/// Rules whose parts are not all known to stand for some text.
#[derive(Default)]
struct Rules {
    /// What each makes, and how many of its parts are not known.
    open: Vec<(CSymIdx, usize)>,
    /// Where each symbol is a part, once for each time.
    of_part: HashMap<usize, Vec<usize>>,
}

impl Rules {
    fn add(&mut self, makes: CSymIdx, parts: &[CSymIdx], found: &mut Vec<CSymIdx>) {
        if parts.is_empty() {
            found.push(makes);
        }
        for part in parts {
            self.of_part.entry(part.as_index()).or_default().push(self.open.len());
        }
        self.open.push((makes, parts.len()));
    }

    fn tell(&mut self, symbol: CSymIdx, found: &mut Vec<CSymIdx>) {
        for rule in self.of_part.remove(&symbol.as_index()).unwrap_or_default() {
            let (makes, num_unknown) = &mut self.open[rule];
            *num_unknown -= 1;
            if *num_unknown == 0 {
                found.push(*makes);
            }
        }
    }
}
