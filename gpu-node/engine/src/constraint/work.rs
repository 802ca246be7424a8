//! How much work a lexer is, judged before there is one.
//!
//! llguidance counts work while it does it, and ends a mask whose count goes beyond its limit. Two things escape the
//! count. While a lexer is made, the first move from every expression may take as long as it likes: here the same moves
//! are made under a limit first. And the count is looked at between two derivatives of an expression, never within one,
//! while two shapes make a single derivative as large as one likes: a run of optional parts (`a?b?c?…`), each of which
//! can be left out, so that n of them leave n ways to go on and take n²/2 steps to list; and an intersection, whose
//! derivative has a part for each combination of what its sides tell apart. Both are counted from above, from the
//! expressions as they are written.

use std::borrow::Cow;
use std::collections::HashSet;

use llguidance::api::ParserLimits;
use llguidance::derivre::ExprRef;
use llguidance::derivre::raw::ExprSet;
use llguidance::earley::lexerspec::LexerSpec;

use souk_protocol::ConstraintSpec;

use super::error::ConstraintError;
use super::wanted::Wanted;

/// Steps to list the ways on from all expressions: 250,000 are some 5 ms, and 700 optional letters in a row.
const MAX_WAYS: u64 = 250_000;
/// Combinations that one intersection tells apart: 50,000 are some 10 ms. Two patterns and a length need some 1,000.
const MAX_COMBINATIONS: u64 = 50_000;
/// Kinds of bytes that a side can tell apart, however long it is.
const MAX_KINDS_OF_BYTES: u64 = 256;

/// Classes of characters that a source may name. Reading one takes some 0.01 ms and 8 KiB until its expression is
/// made.
const MAX_CLASSES: usize = 2_000;
/// What a class or a range counts for where upper and lower case are the same: each of its characters is looked up then,
/// which takes a millisecond for those of every script.
const EITHER_CASE: usize = 10;

/// Refuses a lexer that would take long to make, or to move by a byte.
pub(super) fn check(lexer: &LexerSpec, limits: &ParserLimits, wanted: &Wanted) -> Result<(), ConstraintError> {
    check_derivatives(lexer.regex_builder.exprset())?;
    check_first_moves(lexer, limits, wanted)
}

/// Refuses a source that names so many classes of characters (`\w`, `\p{L}`) that reading it takes long or much memory.
/// Nothing counts that work once it has begun.
pub(super) fn check_classes(spec: &ConstraintSpec) -> Result<(), ConstraintError> {
    let given = match spec {
        ConstraintSpec::JsonSchema(source) | ConstraintSpec::Regex(source) => num_classes(source, false),
        // `/[a-z]/i` and the like.
        ConstraintSpec::Grammar(source) => {
            num_classes(source, flags_after(source, "/").any(|flags| flags.contains('i')))
        }
        // Texts stand for themselves.
        ConstraintSpec::JsonObject | ConstraintSpec::Choice(_) => 0,
    };
    if given > MAX_CLASSES {
        let what = "classes of characters, which count tenfold where case is ignored, as ranges do";
        return Err(ConstraintError::TooComplex(format!("{what}: {given} of at most {MAX_CLASSES}")));
    }
    Ok(())
}

/// Counted from above, from the text: what only looks like a class counts too.
fn num_classes(source: &str, ignores_case: bool) -> usize {
    let source = without_escapes(source);
    let named = ["\\w", "\\W", "\\p", "\\P", "\\d", "\\D", "\\s", "\\S"].map(|class| source.matches(class).count());
    let classes: usize = named.iter().sum();
    let ignores_case = ignores_case || flags_after(&source, "(?").any(|flags| flags.contains('i'));
    if ignores_case { EITHER_CASE * (classes + source.matches('-').count()) } else { classes }
}

/// Letters that can be flags of a regular expression, behind each `mark`.
fn flags_after<'a>(source: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    let flags = |rest: &'a str| rest.split(|c: char| !"ilmsuxRU-".contains(c)).next().unwrap_or_default();
    source.split(mark).skip(1).map(flags)
}

/// The source with what JSON would write as `\u005c` and the like in its place.
fn without_escapes(source: &str) -> Cow<'_, str> {
    const MARK: &str = "\\u00";
    if !source.contains(MARK) {
        return Cow::Borrowed(source);
    }
    let mut parts = source.split(MARK);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(u8::is_ascii) {
            Some(byte) => plain.extend([char::from(byte).encode_utf8(&mut [0; 4]), &part[2..]]),
            None => plain.push_str(part),
        }
    }
    Cow::Owned(plain)
}

/// Refuses expressions of which one derivative would take long.
fn check_derivatives(exprs: &ExprSet) -> Result<(), ConstraintError> {
    let too_complex = |what: &str, limit: u64, given: u64| {
        Err(ConstraintError::TooComplex(format!("{what}: {given} of at most {limit}")))
    };
    let ways = ways(exprs);
    if ways > MAX_WAYS {
        return too_complex("ways on from optional parts in a row", MAX_WAYS, ways);
    }
    match combinations(exprs) {
        given if given > MAX_COMBINATIONS => {
            too_complex("combinations that an intersection tells apart", MAX_COMBINATIONS, given)
        }
        _ => Ok(()),
    }
}

/// Makes the lexer and its first moves, as llguidance will without a limit.
fn check_first_moves(lexer: &LexerSpec, limits: &ParserLimits, wanted: &Wanted) -> Result<(), ConstraintError> {
    let mut automaton =
        lexer.to_regex_vec(&mut limits.clone()).map_err(|error| ConstraintError::at_build(&error.to_string()))?;
    automaton.set_fuel(limits.initial_lexer_fuel);
    let start = automaton.initial_state(&lexer.all_lexemes());
    for byte in 0..=u8::MAX {
        wanted.check()?;
        automaton.transition(start, byte);
        if automaton.has_error() {
            let limit = limits.initial_lexer_fuel;
            return Err(ConstraintError::TooComplex(format!("its first byte takes more than {limit} units of work")));
        }
    }
    Ok(())
}

/// Ways on from each expression, added up: what all their derivatives take together, each being made once.
fn ways(exprs: &ExprSet) -> u64 {
    let shapes = Shapes::new();
    // Parts are older than what they are parts of, and so have the smaller numbers.
    let mut ways = vec![1_u64; exprs.len()];
    for number in 1..exprs.len() {
        let expr = expr(number);
        let parts = exprs.get_args(expr);
        let of = |part: &ExprRef| ways[part.as_usize()];
        ways[number] = match shapes.of(exprs, expr) {
            Some(Shape::Concatenation) => match parts {
                [first, rest] if exprs.is_nullable(*first) => of(rest).saturating_add(1),
                _ => 1,
            },
            Some(Shape::Alternatives) => parts.iter().map(of).fold(0, u64::saturating_add),
            Some(Shape::Intersection) | None => 1,
        };
    }
    ways.iter().copied().fold(0, u64::saturating_add)
}

/// Combinations of what the sides of an intersection tell apart; the most of all intersections.
fn combinations(exprs: &ExprSet) -> u64 {
    let shapes = Shapes::new();
    let is_intersection = |expr: &ExprRef| matches!(shapes.of(exprs, *expr), Some(Shape::Intersection));
    let of = |intersection: ExprRef| {
        let sides = exprs.get_args(intersection).iter().map(|side| kinds_of_bytes(exprs, *side));
        sides.fold(1, u64::saturating_mul)
    };
    (1..exprs.len()).map(expr).filter(is_intersection).map(of).max().unwrap_or(0)
}

/// Sets of bytes that an expression names, up to [`MAX_KINDS_OF_BYTES`].
fn kinds_of_bytes(exprs: &ExprSet, side: ExprRef) -> u64 {
    let (mut seen, mut found) = (HashSet::new(), 0);
    let mut left = vec![side];
    while let Some(expr) = left.pop()
        && found < MAX_KINDS_OF_BYTES
    {
        if seen.insert(expr.as_u32()) {
            let parts = exprs.get_args(expr);
            // A string of bytes counts as one, with what follows it as its part.
            found += u64::from(parts.len() <= 1);
            left.extend_from_slice(parts);
        }
    }
    found
}

#[derive(Clone, Copy)]
enum Shape {
    Concatenation,
    Alternatives,
    Intersection,
}

/// The marks of the shapes, which derivre has no public names for: read off samples.
struct Shapes([(u8, Shape); 3]);

impl Shapes {
    fn new() -> Self {
        let mut sample = ExprSet::new(256);
        let (a, b) = (sample.mk_byte(b'a'), sample.mk_byte(b'b'));
        let many = [a, b].map(|byte| sample.mk_repeat(byte, 0, u32::MAX));
        let concatenation = sample.mk_concat(many[0], many[1]);
        let alternatives = sample.mk_or(&mut many.to_vec());
        let intersection = sample.mk_and(&mut many.to_vec());
        Self([
            (sample.get_tag(concatenation) as u8, Shape::Concatenation),
            (sample.get_tag(alternatives) as u8, Shape::Alternatives),
            (sample.get_tag(intersection) as u8, Shape::Intersection),
        ])
    }

    fn of(&self, exprs: &ExprSet, expr: ExprRef) -> Option<Shape> {
        let mark = exprs.get_tag(expr) as u8;
        self.0.iter().find(|(of_shape, _)| *of_shape == mark).map(|(_, shape)| *shape)
    }
}

fn expr(number: usize) -> ExprRef {
    ExprRef::new(number as u32)
}

#[cfg(test)]
mod tests {
    use llguidance::derivre::{RegexAst, RegexBuilder};

    use super::*;

    fn regexes(sources: &[&str]) -> ExprSet {
        let mut builder = RegexBuilder::new();
        for source in sources {
            builder.mk_regex(source).unwrap();
        }
        builder.into_exprset()
    }

    fn both(sources: &[&str]) -> ExprSet {
        let mut builder = RegexBuilder::new();
        let sides = sources.iter().map(|source| RegexAst::Regex((*source).to_owned())).collect();
        builder.mk(&RegexAst::And(sides)).unwrap();
        builder.into_exprset()
    }

    #[test]
    fn a_run_of_optional_letters_counts_as_half_its_square() {
        let few = ways(&regexes(&["[0-9]{1,9}x+y*"]));
        assert!(few < 50, "{few}");
        for length in [100, 1000] {
            let given = ways(&regexes(&[&"a?".repeat(length)]));
            let square = (length * length) as u64 / 2;
            assert!((square..2 * square).contains(&given), "{length}: {given}");
        }
        assert!(check_derivatives(&regexes(&[&"a?".repeat(400)])).is_ok());
        assert!(check_derivatives(&regexes(&[&"a?".repeat(3000)])).is_err());
    }

    #[test]
    fn sides_of_an_intersection_multiply() {
        let one = combinations(&both(&["[a-c]+", "[b-d]+"]));
        assert!((4..40).contains(&one), "{one}");
        let sides: Vec<String> = (0..12).map(|number| format!("(.|\n)*k{number}(.|\n)*")).collect();
        let sides: Vec<&str> = sides.iter().map(String::as_str).collect();
        assert!(check_derivatives(&both(&sides[..2])).is_ok());
        let error = check_derivatives(&both(&sides)).unwrap_err();
        assert!(error.to_string().contains("of at most 50000"), "{error}");
        assert_eq!(combinations(&regexes(&["a|b"])), 0);
    }
}
